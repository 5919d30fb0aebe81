// SPDX-License-Identifier: Apache-2.0
// A real model against Transformers (golden/models/smollm2_check.py). The model file is too large to come with the
// tests: say where it is in RUNNEL_SMOLLM2, otherwise there is nothing to do here.
#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>

#include <nlohmann/json.hpp>

#include "golden.hpp"

namespace {

using namespace runnel;

TEST_CASE("SmolLM2: logits and greedy continuations of five texts are those of Transformers") {
  const char* path = std::getenv("RUNNEL_SMOLLM2");
  if (path == nullptr) {
    MESSAGE("skipped: RUNNEL_SMOLLM2 does not name SmolLM2-135M-Instruct.Q4_1.gguf");
    return;
  }
  constexpr double tolerance = 2e-3;
  const auto model = models::load_gguf_decoder(io::gguf_file(path));
  ops::eval context({0});
  const auto golden = nlohmann::json::parse(std::ifstream(tests::golden_models() / "smollm2.json"));
  REQUIRE(golden.size() == 5);
  for (const auto& text : golden) {
    CAPTURE(text.at("text").get<std::string>());
    const auto tokens = text.at("tokens").get<std::vector<std::int32_t>>();
    const auto ids = text.at("top_ids").get<std::vector<std::vector<std::size_t>>>();
    const auto logits = text.at("top_logits").get<std::vector<std::vector<double>>>();
    auto cache = model.make_cache();
    auto found =
        tests::logits_of(model, context, cache, tests::causal_rows(0, static_cast<index_t>(tokens.size())), tokens);
    REQUIRE(ids.size() == found.size());
    double most = 0;
    for (std::size_t row = 0; row < found.size(); ++row) {
      for (std::size_t i = 0; i < ids[row].size(); ++i) {
        most = std::max(most, std::fabs(static_cast<double>(found[row][ids[row][i]]) - logits[row][i]));
      }
      // No other logit may pass the least of those kept.
      const auto beyond = std::count_if(found[row].begin(), found[row].end(), [&](float value) {
        return static_cast<double>(value) > logits[row].back() + 2 * tolerance;
      });
      CHECK(beyond <= static_cast<std::ptrdiff_t>(ids[row].size()));
    }
    CHECK(most <= tolerance);
    std::vector<std::int32_t> written;
    for (auto length = static_cast<index_t>(tokens.size()); written.size() < 64; ++length) {
      const auto& last = found.back();
      written.push_back(static_cast<std::int32_t>(std::max_element(last.begin(), last.end()) - last.begin()));
      found =
          tests::logits_of(model, context, cache, tests::causal_rows(length, length + 1), std::span(written).last(1));
    }
    CHECK(written == text.at("continuation").get<std::vector<std::int32_t>>());
  }
}

}  // namespace
