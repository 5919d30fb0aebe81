// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/text/tokenizer.hpp>
#include <runnel/text/tokenizer_json.hpp>
#include <runnel/text/tokenizer_json_writer.hpp>

namespace runnel_test {

/// Aborts if a vocabulary that tokenizer.json can say comes back from there unreadable or with other ids for `text`.
inline void abort_unless_written_same(const runnel::text::tokenizer_data& data, std::string_view text,
                                      const std::vector<std::int32_t>& ids) {
  std::string written;
  try {
    written = runnel::text::tokenizer_json(data);
  } catch (const runnel::config_error&) {
    return;  // the format cannot say it
  }
  try {
    const runnel::text::tokenizer again(runnel::text::parse_tokenizer_json(written, "written"));
    if (again.encode(text) != ids) std::abort();
  } catch (const runnel::error&) {
    std::abort();
  }
}

}  // namespace runnel_test
