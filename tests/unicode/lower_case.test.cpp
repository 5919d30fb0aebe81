// SPDX-License-Identifier: Apache-2.0

#include <runnel/unicode/lower_case.hpp>

#include <filesystem>
#include <fstream>
#include <string>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

namespace {

using namespace runnel::unicode;

TEST_CASE("lower case of texts is Python's") {
  std::ifstream file(std::filesystem::path(RUNNEL_TEST_DIR) / "golden" / "metrics" / "lower_case.json");
  const auto cases = nlohmann::json::parse(file);
  REQUIRE(cases.size() > 10);
  for (const auto& one : cases) {
    const auto text = one[0].get<std::string>();
    CAPTURE(text);
    CHECK(to_lower(text) == one[1].get<std::string>());
  }
}

TEST_CASE("lower case changes nothing that is lower, and only code points; other bytes stay") {
  int changed = 0;
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    const char32_t lower = lower_of(c);
    if (lower == c) continue;
    ++changed;
    if (lower_of(lower) != lower || lower > 0x10FFFF) FAIL(static_cast<std::uint32_t>(c));
  }
  CHECK(changed > 1300);
  CHECK(lower_of(0x110000) == 0x110000);
  CHECK(to_lower("\xFF\x41\xC3") == "\xFF\x61\xC3");
  CHECK(to_lower("\xCE\xA3") == "\xCF\x83");
  CHECK(to_lower("") == "");
}

}  // namespace
