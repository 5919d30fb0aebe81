// SPDX-License-Identifier: Apache-2.0
#include <runnel/train/metrics.hpp>

#include <doctest/doctest.h>

#include <limits>

#include <nlohmann/json.hpp>

#include "io/support.hpp"

namespace {

using namespace runnel;
using namespace runnel::train;
using runnel_test::content;
using runnel_test::failure;
using runnel_test::holds;
using runnel_test::put;
using runnel_test::scratch_folder;

step_report step_at(index_t step) {
  step_report out;
  out.step = step;
  out.loss = 1.0 / static_cast<double>(step);
  out.rate = 1e-7;
  return out;
}

TEST_CASE("lines are JSON, one a report, and numbers come back exactly") {
  auto one = step_at(3);
  one.gradient_norm = std::numeric_limits<double>::infinity();
  const auto line = to_json_line(one);
  CHECK(line.find('\n') == line.size() - 1);
  const auto json = nlohmann::json::parse(line);
  CHECK(json["step"] == 3);
  CHECK(json["loss"].get<double>() == 1.0 / 3);
  CHECK(json["rate"].get<double>() == 1e-7);
  CHECK(json["gradient_norm"].is_null());
  validation_report both;
  both.step = 4;
  both.loss = 2.5;
  both.best = true;
  both.sets = {{"a \"b\"", 0.1, 3}, {"c", std::nan(""), 4}};
  const auto other = nlohmann::json::parse(to_json_line(both));
  CHECK(other["validation_loss"] == 2.5);
  CHECK(other["best"] == true);
  CHECK(other["sets"]["a \"b\""] == 0.1);
  CHECK(other["sets"]["c"].is_null());
}

TEST_CASE("a file goes on after the last step that counts") {
  scratch_folder folder;
  const auto path = folder / "metrics.jsonl";
  {
    metrics_file file(path, -1);
    for (index_t step = 1; step <= 5; ++step) file.add(step_at(step));
    validation_report validation;
    validation.step = 3;
    validation.loss = 7;
    file.add(validation);
  }
  put(path, content(path) + "{\"step\": 6, \"lo");
  CHECK(metrics_file::read(path).size() == 6);
  {
    metrics_file file(path, 3);
    file.add(step_at(4));
  }
  const auto points = metrics_file::read(path);
  REQUIRE(points.size() == 5);
  CHECK(points[2].step == 3);
  CHECK(points[3].is_validation);
  CHECK(points[3].loss == 7.0);
  CHECK(points[4].step == 4);
  CHECK(points[4].loss == 0.25);
  metrics_file(path, 100).add(step_at(5));
  CHECK(metrics_file::read(path).size() == 6);
  metrics_file(path, -1).add(step_at(1));
  CHECK(metrics_file::read(path).size() == 1);
}

TEST_CASE("what is not ours is dropped, what cannot be written is named") {
  scratch_folder folder;
  const auto path = folder / "metrics.jsonl";
  for (const char* bad : {"x\n", "{}\n", "[1]\n", "{\"step\": \"1\"}\n", "\n", "{\"step\": 1.5}\n"}) {
    put(path, to_json_line(step_at(1)) + bad + to_json_line(step_at(2)));
    CHECK(metrics_file::read(path).size() == 2);
    metrics_file(path, 9).add(step_at(3));
    CHECK(content(path) == to_json_line(step_at(1)) + to_json_line(step_at(2)) + to_json_line(step_at(3)));
  }
  put(path, "{\"step\": 1, \"loss\": null}\n");
  REQUIRE(metrics_file::read(path).size() == 1);
  CHECK_FALSE(metrics_file::read(path)[0].loss);
  CHECK(holds(failure<io_error>([&] { metrics_file file(folder / "none" / "m.jsonl", -1); }), "m.jsonl"));
  CHECK(holds(failure<io_error>([&] { (void)metrics_file::read(folder / "none.jsonl"); }), "none.jsonl"));
}

TEST_CASE("a file without lines is gone on with") {
  scratch_folder folder;
  for (const index_t last : {index_t{-1}, index_t{5}}) {
    runnel_test::put(folder / "metrics.jsonl", "");
    metrics_file file(folder / "metrics.jsonl", last);
    CHECK(metrics_file::read(folder / "metrics.jsonl").empty());
    file.add(step_report{});
    CHECK(metrics_file::read(folder / "metrics.jsonl").size() == 1);
  }
}

}  // namespace
