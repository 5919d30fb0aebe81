// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "io/gguf_builder.hpp"
#include "io/support.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RUNNEL_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define RUNNEL_TEST_SANITIZED 1
#endif
#endif
#ifndef RUNNEL_TEST_SANITIZED
#define RUNNEL_TEST_SANITIZED 0
#endif

/// \file
/// Files that lie, and what reading one may cost: a typed error with a useful message, within a second and 64 MiB.

namespace runnel_test {

/// What an action cost this process.
struct cost {
  std::size_t peak_bytes = 0;  ///< most memory from `operator new` at once, beyond what there was before
  double seconds = 0;          ///< of processor time: other programs do not count
};

/// Runs `action` and tells what it cost. Memory is 0 in sanitizer builds, which have their own `operator new`.
[[nodiscard]] cost cost_of(const std::function<void()>& action);

inline constexpr std::size_t most_bytes = std::size_t{64} << 20;
inline constexpr double most_seconds = 1;

/// Checks that a reading stayed within its limits. Sanitizers slow things down and are not timed.
inline void check_cost(const cost& found) {
  CHECK(found.peak_bytes < most_bytes);
  if (RUNNEL_TEST_SANITIZED == 0) CHECK(found.seconds < most_seconds);
}

/// One class of hostile input.
struct hostile_case {
  std::string about;               ///< what is wrong, and where such a file did harm
  std::function<void()> read;      ///< reads it
  std::vector<std::string> parts;  ///< what the message must say: file, key or tensor, and what was wrong
};

/// Checks that all are refused with `Error`, for little.
template <class Error = runnel::format_error>
void check_refused(const std::vector<hostile_case>& cases) {
  for (const auto& one : cases) {
    CAPTURE(one.about);
    std::string text;
    check_cost(cost_of([&] { text = failure<Error>(one.read); }));
    CAPTURE(text);
    CHECK(text.find("<") != 0);  // another exception or none
    for (const auto& part : one.parts) {
      CAPTURE(part);
      CHECK(holds(text, part));
    }
    CHECK(text.size() < 2000);
  }
}

/// Checks that reading gives an object or an error of the library, and costs little. True if it was read.
inline bool reads_or_refuses(const std::function<void()>& read) {
  bool was_read = false;
  std::string text;
  const auto found = cost_of([&] {
    try {
      read();
      was_read = true;
    } catch (const runnel::error& problem) {
      text = problem.what();
    }
  });
  if (found.peak_bytes >= most_bytes || found.seconds >= most_seconds) check_cost(found);
  if (!was_read) REQUIRE_FALSE(text.empty());
  return was_read;
}

/// A whole model in one GGUF file, a few kilobytes, whose every field can be set to something else.
class model_file {
 public:
  /// A Llama of one layer with seven tokens and a byte-level tokenizer.
  model_file() {
    text("general.architecture", "llama");
    for (const auto& [key, value] : std::map<std::string, std::uint32_t>{{"llama.embedding_length", hidden},
                                                                         {"llama.feed_forward_length", mlp},
                                                                         {"llama.block_count", 1},
                                                                         {"llama.attention.head_count", 2},
                                                                         {"llama.attention.head_count_kv", 1},
                                                                         {"llama.context_length", 32}}) {
      number(key, value);
    }
    entry("llama.attention.layer_norm_rms_epsilon", 6, byte_builder().number(1e-5f));
    text("tokenizer.ggml.model", "gpt2");
    text("tokenizer.ggml.pre", "gpt-2");
    texts("tokenizer.ggml.tokens", {"a", "b", "c", "ab", "<s>", "</s>", "abc"});
    whole_numbers("tokenizer.ggml.token_type", {1, 1, 1, 1, 3, 3, 1});
    texts("tokenizer.ggml.merges", {"a b", "ab c"});
    number("tokenizer.ggml.bos_token_id", 4);
    number("tokenizer.ggml.eos_token_id", 5);
    add("token_embd.weight", {hidden, num_tokens});
    add("output_norm.weight", {hidden});
    add("blk.0.attn_norm.weight", {hidden});
    add("blk.0.attn_q.weight", {hidden, hidden});
    add("blk.0.attn_k.weight", {hidden, hidden / 2});
    add("blk.0.attn_v.weight", {hidden, hidden / 2});
    add("blk.0.attn_output.weight", {hidden, hidden});
    add("blk.0.ffn_norm.weight", {hidden});
    add("blk.0.ffn_gate.weight", {hidden, mlp});
    add("blk.0.ffn_up.weight", {hidden, mlp});
    add("blk.0.ffn_down.weight", {mlp, hidden});
  }

  static constexpr std::uint64_t hidden = 4;
  static constexpr std::uint64_t mlp = 4;
  static constexpr std::uint64_t num_tokens = 7;

  /// Sets a key to a value of GGUF's type `type`, written as `value`.
  model_file& entry(const std::string& key, std::uint32_t type, const byte_builder& value) {
    for (auto& [known, what] : entries_) {
      if (known == key) {
        what = {type, value.text()};
        return *this;
      }
    }
    entries_.push_back({key, {type, value.text()}});
    return *this;
  }
  model_file& text(const std::string& key, std::string_view value) {
    return entry(key, 8, byte_builder().string(value));
  }
  model_file& number(const std::string& key, std::uint64_t value) {
    return entry(key, 4, byte_builder().number(static_cast<std::uint32_t>(value)));
  }
  model_file& texts(const std::string& key, const std::vector<std::string>& values) {
    byte_builder list;
    list.number(std::uint32_t{8}).number(std::uint64_t{values.size()});
    for (const auto& value : values) list.string(value);
    return entry(key, 9, list);
  }
  model_file& whole_numbers(const std::string& key, const std::vector<std::int32_t>& values) {
    byte_builder list;
    list.number(std::uint32_t{5}).number(std::uint64_t{values.size()});
    for (const auto value : values) list.number(value);
    return entry(key, 9, list);
  }
  model_file& without(const std::string& key) {
    std::erase_if(entries_, [&](const auto& one) { return one.first == key; });
    std::erase_if(tensors_, [&](const auto& one) { return one.name == key; });
    return *this;
  }

  /// A tensor of GGUF's type 0 (f32), sizes innermost first.
  model_file& add(const std::string& name, std::vector<std::uint64_t> sizes) {
    std::uint64_t bytes = sizeof(float);
    for (const auto size : sizes) bytes *= size;
    tensors_.push_back({name, std::move(sizes), 0, bytes, {}});
    return *this;
  }
  /// Says something else of a tensor whose bytes stay.
  model_file& describe(const std::string& name, std::vector<std::uint64_t> sizes, std::uint32_t type = 0) {
    auto& one = at(name);
    one.sizes = std::move(sizes);
    one.type = type;
    return *this;
  }
  model_file& offset(const std::string& name, std::uint64_t offset) {
    at(name).offset = offset;
    return *this;
  }

  [[nodiscard]] std::string bytes() const {
    gguf_builder out;
    for (const auto& [key, value] : entries_) out.entry(key, value.first, byte_builder().raw(value.second));
    byte_builder data;
    for (const auto& one : tensors_) {
      data.pad(32);
      out.tensor(one.name, one.sizes, one.type, one.offset.value_or(data.text().size()));
      for (std::uint64_t i = 0; i < one.bytes / sizeof(float); ++i) data.number(0.25f);
    }
    out.data = data.text();
    return out.build();
  }

 private:
  struct described {
    std::string name;
    std::vector<std::uint64_t> sizes;
    std::uint32_t type;
    std::uint64_t bytes;
    std::optional<std::uint64_t> offset;
  };

  described& at(const std::string& name) {
    for (auto& one : tensors_) {
      if (one.name == name) return one;
    }
    throw std::out_of_range(name);
  }

  std::vector<std::pair<std::string, std::pair<std::uint32_t, std::string>>> entries_;
  std::vector<described> tensors_;
};

/// Sets a file of a folder to `bytes`, whatever was there.
inline void replace(const std::filesystem::path& path, std::string_view bytes) {
  std::filesystem::remove(path);
  put(path, bytes);
}

}  // namespace runnel_test
