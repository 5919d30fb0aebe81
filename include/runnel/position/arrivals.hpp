// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/position/group.hpp>

namespace runnel {

/// The sequence of reads and writes of one stream, in rows: c(p) and u(r) of the plan.
///
/// c(p) is how many source rows had been read when target row p was produced and kept; u(r) is how many target rows had
/// been produced when source row r was read. c never decreases. Masks, positions and delays follow from this and from
/// nothing else (the paper's wait-k limits are the special case of a fixed c).
class arrivals {
 public:
  arrivals() = default;

  /// A finished sequence: `read` holds c(p) for every target row, `source_rows` is what was read in the end.
  /// Throws config_error unless `read` is monotone and within `source_rows`.
  arrivals(std::span<const index_t> read, index_t source_rows) {
    for (const index_t rows : read) {
      expect(rows >= read_now_, "arrivals: source rows read must not decrease, found ", rows, " after ", read_now_);
      read_now_ = rows;
      write();
    }
    expect(source_rows >= read_now_, "arrivals: ", read_now_, " source rows were read of ", source_rows);
    read_now_ = source_rows;
  }

  /// `rows` more source rows were read.
  void read(index_t rows) {
    expect(rows >= 0, "arrivals: cannot read ", rows, " rows");
    read_now_ += rows;
  }

  /// One more target row was produced and kept.
  void write() { read_at_write_.push_back(read_now_); }

  /// Goes back to `read_rows` source rows and `written_rows` target rows. Throws config_error where that was never so:
  /// more rows than now, or target rows that were produced with more source than is left.
  void rewind(index_t read_rows, index_t written_rows) {
    expect(written_rows >= 0 && written_rows <= written() && read_rows >= 0 && read_rows <= read_now_,
           "arrivals: cannot rewind forward");
    expect(written_rows == 0 || c(written_rows - 1) <= read_rows, "arrivals: cannot rewind to ", read_rows,
           " source rows and keep ", written_rows, " target rows");
    read_at_write_.resize(static_cast<std::size_t>(written_rows));
    read_now_ = read_rows;
  }

  /// Source rows read by now.
  [[nodiscard]] index_t read_now() const noexcept { return read_now_; }
  /// Target rows produced and kept by now.
  [[nodiscard]] index_t written() const noexcept { return static_cast<index_t>(read_at_write_.size()); }

  /// c(p): source rows read when target row p was produced; after the last, source rows read now.
  [[nodiscard]] index_t c(index_t p) const noexcept {
    return p < written() ? read_at_write_[static_cast<std::size_t>(p)] : read_now_;
  }

  /// u(r): target rows p with c(p) <= r, hence produced before source row r was read. Logarithmic.
  [[nodiscard]] index_t u(index_t r) const noexcept {
    return std::upper_bound(read_at_write_.begin(), read_at_write_.end(), r) - read_at_write_.begin();
  }

 private:
  std::vector<index_t> read_at_write_;
  index_t read_now_ = 0;
};

}  // namespace runnel
