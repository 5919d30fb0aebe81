// SPDX-License-Identifier: Apache-2.0
// Latencies are what SimulEval says of a log, in words and in milliseconds.

#include <runnel/metrics/latency.hpp>

#include <sstream>
#include <string>
#include <vector>

#include "golden.hpp"

namespace {

using namespace runnel;
using namespace runnel::metrics;
using runnel_test::golden;
using runnel_test::nearly;

std::vector<nlohmann::json> read_log() {
  std::ifstream file(std::filesystem::path(RUNNEL_TEST_DIR) / "golden" / "metrics" / "instances.log");
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  REQUIRE(lines.size() > 80);
  return lines;
}

void check_all(const latencies& found, const nlohmann::json& expected) {
  CHECK(found.al.value() == nearly(expected[0]));
  CHECK(found.laal.value() == nearly(expected[1]));
  CHECK(found.ap.value() == nearly(expected[2]));
  CHECK(found.dal.value() == nearly(expected[3]));
}

TEST_CASE("every sentence's latencies equal SimulEval's, by delays and by elapsed times, with and without reference") {
  const auto log = read_log();
  const auto expected = golden("latencies.json")["sentences"];
  REQUIRE(expected.size() == log.size());
  for (std::size_t i = 0; i < log.size(); ++i) {
    CAPTURE(i);
    for (const char* key : {"delays", "elapsed"}) {
      const auto times = log[i][key].get<std::vector<double>>();
      const auto length = reference_length(log[i]["reference"].get<std::string>(), latency_unit::word);
      const auto found = measure_latency({times, log[i]["source_length"], length});
      if (expected[i].is_null()) {
        CHECK_FALSE(found.al.has_value());
        CHECK_FALSE(found.laal.has_value());
        CHECK_FALSE(found.ap.has_value());
        CHECK_FALSE(found.dal.has_value());
      } else {
        check_all(found, expected[i][key]);
      }
    }
    if (expected[i].is_null()) continue;
    const auto times = log[i]["delays"].get<std::vector<double>>();
    check_all(measure_latency({times, log[i]["source_length"], std::nullopt}), expected[i]["without reference"]);
  }
}

TEST_CASE("means over sentences equal SimulEval's in both units") {
  const auto units = golden("latencies.json")["units"];
  for (const auto unit : {latency_unit::word, latency_unit::character}) {
    const auto& expected = units[unit == latency_unit::word ? "word" : "char"];
    for (const bool aware : {false, true}) {
      mean_latency mean;
      for (const auto& line : read_log()) {
        const auto times = line[aware ? "elapsed" : "delays"].get<std::vector<double>>();
        const auto length = reference_length(line["reference"].get<std::string>(), unit);
        if (length == 0) continue;  // SimulEval divides by it
        mean.add(measure_latency({times, line["source_length"], length}));
      }
      const std::string suffix = aware ? "_CA" : "";
      const auto found = mean.mean();
      CHECK(found.al.value() == nearly(expected["AL" + suffix]));
      CHECK(found.laal.value() == nearly(expected["LAAL" + suffix]));
      CHECK(found.ap.value() == nearly(expected["AP" + suffix]));
      CHECK(found.dal.value() == nearly(expected["DAL" + suffix]));
    }
  }
}

TEST_CASE("wait-k has lag k where source and target are as long, by every lag") {
  for (int k = 1; k <= 5; ++k) {
    std::vector<double> delays;
    for (int i = 0; i < 10; ++i) delays.push_back(std::min(k + i, 10));
    const auto found = measure_latency({delays, 10, 10});
    CHECK(found.al.value() == nearly(k));
    CHECK(found.laal.value() == nearly(k));
    CHECK(found.dal.value() == nearly(k));
  }
}

TEST_CASE("writing too much lowers AL, not LAAL") {
  const std::vector<double> delays{1, 1, 1, 1, 1, 1, 2};
  const auto found = measure_latency({delays, 2, 2});
  CHECK(found.al.value() < 0);
  CHECK(found.laal.value() > 0);
}

TEST_CASE("where a latency is not defined there is none, and means leave it out") {
  const std::vector<double> none, some{1, 2};
  CHECK_FALSE(measure_latency({none, 3, 2}).laal.has_value());
  CHECK_FALSE(measure_latency({some, 0, 2}).dal.has_value());
  const auto empty_reference = measure_latency({some, 2, 0});
  CHECK_FALSE(empty_reference.al.has_value());
  CHECK_FALSE(empty_reference.ap.has_value());
  CHECK(measure_latency({std::vector<double>{4, 5}, 3, 0}).al.value() ==
        4);  // past the source: SimulEval looks no further
  CHECK(empty_reference.laal.value() == nearly(1));
  mean_latency mean;
  CHECK_FALSE(mean.mean().al.has_value());
  mean.add(measure_latency({none, 3, 2}));
  mean.add(empty_reference);
  CHECK(mean.sentences() == 1);
  CHECK_FALSE(mean.mean().al.has_value());
  CHECK(mean.mean().laal.value() == nearly(1));
}

TEST_CASE("references are counted as SimulEval counts them") {
  CHECK(reference_length("", latency_unit::word) == 1);
  CHECK(reference_length("a  b ", latency_unit::word) == 4);
  CHECK(reference_length("a\tb", latency_unit::word) == 1);
  CHECK(reference_length(" \xC3\xA4 b\xC2\xA0", latency_unit::character) == 3);
  CHECK(reference_length("  ", latency_unit::character) == 0);
}

TEST_CASE("computation-aware delays are the source's pace and what computing took") {
  const std::vector<double> delays{2, 3, 3}, computed{5, 7.5, 20}, two{1, 2};
  CHECK(computation_aware_delays(delays, computed, 400) == std::vector<double>{805, 1207.5, 1220});
  CHECK_THROWS_AS((void)computation_aware_delays(delays, two, 400), shape_error);
  CHECK_THROWS_AS((void)computation_aware_delays(delays, computed, 0), config_error);
  CHECK_THROWS_AS((void)computation_aware_delays(delays, computed, std::nan("")), config_error);
  // Without any computing they lag as the delays do, in milliseconds.
  const auto aware = computation_aware_delays(delays, std::vector<double>(3), 400);
  CHECK(average_lagging({aware, 3 * 400.0, 3}).value() == nearly(400 * average_lagging({delays, 3, 3}).value()));
  CHECK(throughput(10, 4) == 2.5);
  CHECK_FALSE(throughput(10, 0).has_value());
}

}  // namespace
