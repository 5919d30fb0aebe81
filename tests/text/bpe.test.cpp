// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include <runnel/text/bpe.hpp>

namespace text = runnel::text;

namespace {

/// The definition: look for the rule of lowest rank, leftmost, merge, begin again.
std::vector<std::int32_t> merge_slowly(const text::merge_table& rules, std::vector<std::int32_t> ids) {
  for (;;) {
    const text::merge_rule* best = nullptr;
    std::size_t place = 0;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto* const rule = rules.find(ids[i], ids[i + 1]);
      if (rule != nullptr && (best == nullptr || rule->rank < best->rank)) {
        best = rule;
        place = i;
      }
    }
    if (best == nullptr) return ids;
    ids[place] = best->merged;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
}

}  // namespace

TEST_CASE("merging equals its definition for random rules") {
  std::mt19937 random(11);
  const auto below = [&](std::size_t n) { return static_cast<std::int32_t>(random() % n); };
  for (int round = 0; round < 400; ++round) {
    // Each token is a pair of earlier ones; sometimes the same token comes from several pairs, as it may in a file.
    const std::size_t letters = 1 + random() % 4;
    const std::size_t tokens = letters + random() % 30;
    std::vector<text::merge_rule> rules;
    std::uint32_t rank = 0;
    for (std::size_t id = letters; id < tokens; ++id) {
      for (auto ways = 1 + random() % 2; ways > 0; --ways) {
        rules.push_back({below(id), below(id), static_cast<std::int32_t>(id), rank++});
      }
    }
    const text::merge_table table(rules, tokens);
    text::bpe_merger merger(table);
    for (int piece = 0; piece < 10; ++piece) {
      std::vector<std::int32_t> ids;
      merger.clear();
      for (auto left = random() % 60; left > 0; --left) {
        ids.push_back(below(letters));
        merger.push(ids.back());
      }
      std::vector<std::int32_t> merged;
      merger.finish(merged);
      REQUIRE(merged == merge_slowly(table, ids));
    }
  }
}

TEST_CASE("of two rules for a pair the later one counts") {
  const text::merge_table table({{0, 1, 2, 0}, {0, 1, 3, 5}}, 4);
  CHECK(table.size() == 1);
  REQUIRE(table.find(0, 1) != nullptr);
  CHECK(table.find(0, 1)->merged == 3);
  CHECK(table.find(1, 0) == nullptr);
  CHECK(table.find(3, 3) == nullptr);
}

TEST_CASE("empty and single pieces") {
  const text::merge_table table({}, 3);
  text::bpe_merger merger(table);
  std::vector<std::int32_t> out;
  merger.finish(out);
  CHECK(out.empty());
  CHECK(merger.empty());
  merger.push(2);
  CHECK(merger.back() == 2);
  merger.finish(out);
  CHECK(out == std::vector<std::int32_t>{2});
}
