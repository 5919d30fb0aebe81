// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <runnel/stream/pass.hpp>

namespace runnel::cli {

/// Adds counters to others.
void add_rows(stream::row_counters& to, const stream::row_counters& more);

/// What all sentences, or all stretches of speech, took together.
struct run_totals {
  std::int64_t sentences = 0;
  std::int64_t words = 0;
  stream::row_counters rows;
  double seconds = 0;  ///< of computing

  void add(const stream::row_counters& more) { add_rows(rows, more); }
  /// Tokens a second; 0 before anything was computed.
  [[nodiscard]] double token_rate() const noexcept {
    return seconds > 0 ? static_cast<double>(rows.tokens_kept) / seconds : 0;
  }
};

/// Says on standard error how many rows of which kind were computed.
void note_rows(const stream::row_counters& rows);

}  // namespace runnel::cli
