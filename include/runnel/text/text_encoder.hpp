// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <runnel/text/added_tokens.hpp>
#include <runnel/text/bpe.hpp>
#include <runnel/text/pre_tokenizer.hpp>
#include <runnel/text/tokenizer_tables.hpp>
#include <runnel/unicode/categories.hpp>
#include <runnel/unicode/normalization.hpp>
#include <runnel/unicode/utf8.hpp>

namespace runnel::text::detail {

/// A text on its way to ids: added tokens are found, what lies between them (a segment) is normalised, added tokens are
/// found again, and what lies between those (a run) is cut into pieces that are merged. Each stage keeps the text that
/// the next one cannot have yet, because what follows could change it. Points to the tables, which must outlive it.
class text_encoder {
 public:
  text_encoder(const tokenizer_tables& tables, missing_byte_policy missing, bool continues)
      : tables_(&tables), merger_(tables.merges()), missing_(missing) {
    started_ = in_segment_ = in_run_ = has_text_ = continues;
  }

  /// Takes the next bytes of a part of the text in which `wanted` added tokens are looked for; no token lies across
  /// the end of a part. Encodes nothing yet, unless an added token ends a run.
  void read(std::string_view text, added_token_finder::filter wanted, bool part_ends) {
    if (unscanned_.empty()) {
      unscanned_ = text.substr(scan(text, wanted, part_ends));
    } else {
      unscanned_ += text;
      unscanned_.erase(0, scan(unscanned_, wanted, part_ends));
    }
    // Parts can differ in the added tokens that are looked for.
    if (part_ends && !tables_->normalized_added().empty()) normalize_segment(segment_.size(), wanted, true);
  }

  /// Encodes what is certain whatever follows.
  void settle(added_token_finder::filter wanted) {
    if (!segment_.empty()) normalize_segment(stable_length(), wanted, false);
    cut_run(false);
  }

  /// Encodes the rest.
  void finish(added_token_finder::filter wanted) {
    if (!unscanned_.empty()) read({}, wanted, true);
    end_segment(wanted);
    end_run();
  }

  /// The ids so far.
  [[nodiscard]] std::vector<std::int32_t>& ids() noexcept { return ids_; }
  [[nodiscard]] const std::vector<std::int32_t>& ids() const noexcept { return ids_; }

  /// Bytes of text that are not encoded yet.
  [[nodiscard]] std::size_t held() const noexcept {
    return unscanned_.size() + segment_.size() + normalized_.size() + run_.size() - run_begin_;
  }

 private:
  // Returns how much of the text is done with.
  std::size_t scan(std::string_view text, added_token_finder::filter wanted, bool part_ends) {
    const auto& added = tables_->added();
    if (added.empty()) {
      segment_ += text;
      return text.size();
    }
    added_token_finder::place place{0, looked_, skip_space_, before_};
    while (place.at < text.size()) {
      const auto found = added.next(text, place, wanted, !part_ends);
      place = found.after;
      segment_ += text.substr(found.begin, found.end - found.begin);
      if (found.id < 0) break;
      end_segment(wanted);
      end_run();
      ids_.push_back(found.id);
      started_ = true;
    }
    looked_ = place.looked - place.at;
    skip_space_ = place.skip_space;
    before_ = place.before;
    return place.at;
  }

  void end_segment(added_token_finder::filter wanted) {
    if (!segment_.empty() || !normalized_.empty()) normalize_segment(segment_.size(), wanted, true);
    in_segment_ = has_text_ = space_ = false;
    normalized_before_ = 0;
    normalized_skips_ = false;
  }

  void end_run() {
    cut_run(true);
    run_.clear();
    run_begin_ = tried_ = same_ = 0;
    in_run_ = false;
  }

  // How much of the segment normalises to what it normalises to whatever follows.
  [[nodiscard]] std::size_t stable_length() const {
    std::size_t end = segment_.size() - unicode::incomplete_tail(segment_);
    if (!tables_->data().nfc) return end;
    while (end > 0) {
      end = unicode::last_begin(segment_, end);
      const auto step = unicode::decode(segment_, end);
      if (step.kind != unicode::sequence_kind::valid || unicode::begins_normalized(step.code_point)) break;
    }
    return end;
  }

  // Brings the first `length` bytes of the segment into normal form and looks for added tokens in that.
  void normalize_segment(std::size_t length, added_token_finder::filter wanted, bool ends) {
    const auto& data = tables_->data();
    const bool plain = !data.nfc && !tables_->is_sentence_piece();
    const auto& added = tables_->normalized_added();
    if (added.empty() && plain && length == segment_.size() && run_.empty()) {
      run_.swap(segment_);
      in_run_ = in_run_ || !run_.empty();
      return;
    }
    const std::string_view text = std::string_view(segment_).substr(0, length);
    if (added.empty() && !data.collapse_spaces && data.prefix != space_prefix::each_run &&
        data.prefix != space_prefix::first_run) {
      if (length != 0) prefix_segment(run_);
      tables_->normalize(text, run_);
    } else {
      std::string form;
      if (data.collapse_spaces) {
        collapse(text, form);
      } else {
        if (length != 0) prefix_segment(form);
        tables_->normalize(text, form);
      }
      if (added.empty()) {
        add_to_run(form);
      } else {
        scan_normalized(form, wanted, ends);
      }
    }
    segment_.erase(0, length);
  }

  void prefix_segment(std::string& out) {
    if (!in_segment_ && tables_->data().prefix == space_prefix::each_segment) out += ' ';
    in_segment_ = true;
  }

  // One space for a run of them, none at the ends of a segment.
  void collapse(std::string_view text, std::string& out) {
    std::string form;
    tables_->normalize(text, form);
    for (const char byte : form) {
      if (byte == ' ') {
        space_ = has_text_;
        continue;
      }
      prefix_segment(out);
      if (space_) out += ' ';
      out += byte;
      space_ = false;
      has_text_ = true;
    }
  }

  void scan_normalized(std::string_view form, added_token_finder::filter wanted, bool ends) {
    normalized_ += form;
    const std::string text = std::exchange(normalized_, {});
    added_token_finder::place place{0, 0, normalized_skips_, normalized_before_};
    while (place.at < text.size()) {
      const auto found = tables_->normalized_added().next(text, place, wanted, !ends);
      place = found.after;
      add_to_run(std::string_view(text).substr(found.begin, found.end - found.begin));
      if (found.id < 0) break;
      end_run();
      ids_.push_back(found.id);
      started_ = true;
    }
    normalized_skips_ = place.skip_space;
    normalized_before_ = place.before;
    normalized_ = text.substr(place.at);
  }

  void add_to_run(std::string_view form) {
    if (form.empty()) return;
    const auto prefix = tables_->data().prefix;
    const bool wants = prefix == space_prefix::each_run || (prefix == space_prefix::first_run && !started_);
    if (!in_run_ && wants && form.front() != ' ') run_ += ' ';
    run_ += form;
    in_run_ = started_ = true;
  }

  // Encodes the pieces at the beginning of the run that cannot change any more, or all if the run ends.
  void cut_run(bool ends) {
    const std::string_view text = std::string_view(run_).substr(run_begin_);
    if (text.empty() || (!ends && is_hopeless(text))) return;
    std::size_t at = 0;
    if (tables_->is_sentence_piece()) {
      while (at < text.size()) {
        bool certain = true;
        const std::size_t end = tables_->piece_end(text, at, certain);
        if (!certain && !ends) break;
        tables_->encode_piece(text.substr(at, end - at), merger_, missing_, ids_);
        at = end;
      }
    } else {
      piece_scanner pieces(tables_->data().pre_tokenizer, text);
      while (at < text.size()) {
        const std::size_t end = pieces.next(at);
        if (!pieces.is_certain() && !ends) break;
        tables_->encode_piece(text.substr(at, end - at), merger_, missing_, ids_);
        at = end;
      }
    }
    tried_ = same_ = text.size() - at;
    run_begin_ += at;
    if (run_begin_ > run_.size() / 2) {
      run_.erase(0, run_begin_);
      run_begin_ = 0;
    }
  }

  // Whether a long piece is not worth another look: it grew little, and by more of the same kind.
  [[nodiscard]] bool is_hopeless(std::string_view text) noexcept {
    constexpr std::size_t long_piece = 4096;
    if (tried_ < long_piece || text.size() - tried_ >= tried_ / 16) return false;
    const auto is_space = [&](std::size_t at) { return text[at] == ' ' || (text[at] >= '\t' && text[at] <= '\r'); };
    for (; same_ < text.size(); ++same_) {
      if (is_space(same_) != is_space(tried_ - 1)) return false;
    }
    return true;
  }

  const tokenizer_tables* tables_;
  bpe_merger merger_;
  missing_byte_policy missing_;
  std::vector<std::int32_t> ids_;
  std::string unscanned_;   // could be the beginning of an added token
  std::string segment_;     // not normalised yet
  std::string normalized_;  // could be the beginning of an added token that is looked for there
  std::string run_;         // from `run_begin_` on not encoded yet
  std::size_t run_begin_ = 0;
  std::size_t tried_ = 0;  // of the run's rest: what was looked at in vain
  std::size_t same_ = 0;   // and how far the text goes on in the same way
  char32_t before_ = 0;
  char32_t normalized_before_ = 0;
  std::size_t looked_ = 0;  // of `unscanned_`
  bool skip_space_ = false;
  bool normalized_skips_ = false;
  bool started_ = false;     // something of the text went by
  bool in_segment_ = false;  // something of the segment was normalised
  bool in_run_ = false;      // something of the run was
  bool has_text_ = false;    // collapsing spaces: the segment has more than those
  bool space_ = false;       // collapsing spaces: one waits for what follows
};

}  // namespace runnel::text::detail
