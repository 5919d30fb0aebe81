// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

namespace runnel_test {

/// A file of tests/golden/metrics, which generate.py there wrote.
inline nlohmann::json golden(const char* name) {
  const auto path = std::filesystem::path(RUNNEL_TEST_DIR) / "golden" / "metrics" / name;
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.good());
  return nlohmann::json::parse(file);
}

/// Equal to 1e-9, of the greater of 1 and the value.
inline doctest::Approx nearly(double value) { return doctest::Approx(value).epsilon(1e-9); }

inline std::vector<std::string> strings_of(const nlohmann::json& list) { return list.get<std::vector<std::string>>(); }

}  // namespace runnel_test
