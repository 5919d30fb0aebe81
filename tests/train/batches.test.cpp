// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/train/batches.hpp>

#include "support/random_values.hpp"
#include "support/tiny_language.hpp"

using namespace runnel;
using namespace runnel::train;
using tests::between;

namespace {

using files = std::map<std::string, std::string>;

/// Files that exist in memory only; must not outlive `texts`.
source_opener opener(const files& texts) {
  return [&texts](const std::filesystem::path& path) -> byte_source {
    return [rest = std::string_view(texts.at(path.string()))](std::span<char> into) mutable {
      const std::size_t count = std::min(rest.size(), into.size());
      std::copy_n(rest.begin(), count, into.begin());
      rest.remove_prefix(count);
      return count;
    };
  };
}

/// `count` pairs of random words; a line in nine is empty on one side.
std::string table(random_stream& random, index_t count) {
  std::string text;
  for (index_t i = 0; i < count;) {
    if (random.below(9) == 0) {
      text += "a b\t \n";
      continue;
    }
    for (const char* end : {"\t", "\n"}) {
      for (const auto& word : tests::random_words(random, 1 + random.below(6))) text += word + " ";
      text += end;
    }
    ++i;
  }
  return text;
}

stream::language_model vocabulary() {
  stream::language_model model;
  model.tokenizer = tests::tiny_tokenizer();
  model.format = {"tiny", "<|im_start|>{instruction}", "<|im_end|>", "", "<|im_end|>", " "};
  return model;
}

std::vector<training_set> sets(const std::vector<std::pair<std::string, index_t>>& names) {
  std::vector<training_set> out;
  const std::string instructions[] = {"a", "b", "c"};
  for (const auto& [name, share] : names) {
    data_set set;
    set.name = name;
    set.file = name;
    set.format = pair_format::tsv;
    out.push_back({set, example_maker(vocabulary(), instructions[out.size()]), share});
  }
  return out;
}

bool same_rows(const training_rows& a, const training_rows& b) {
  const auto same = [](const auto& x, const auto& y) { return std::equal(x.begin(), x.end(), y.begin(), y.end()); };
  bool equal = a.tokens == b.tokens && a.logit_rows == b.logit_rows && a.labels == b.labels &&
               same(a.rows.values(), b.rows.values()) && same(a.rows.storage(), b.rows.storage());
  for (std::size_t s = 0; s < num_groups; ++s) {
    equal = equal && a.rows.toward(s).ranges == b.rows.toward(s).ranges &&
            a.rows.toward(s).offsets == b.rows.toward(s).offsets;
  }
  return equal;
}

bool same_batch(const training_batch& a, const training_batch& b) {
  return a.pairs == b.pairs && a.epoch == b.epoch && a.num_rows == b.num_rows &&
         a.num_predictions == b.num_predictions &&
         std::equal(a.rows.begin(), a.rows.end(), b.rows.begin(), b.rows.end(), same_rows);
}

std::vector<std::pair<index_t, index_t>> ids(const training_batch& batch) {
  std::vector<std::pair<index_t, index_t>> out;
  for (const pair_id id : batch.pairs) out.emplace_back(id.set, id.number);
  return out;
}

batch_options choices(random_stream& random) {
  batch_options options;
  options.rows.waits = waits_between(1, 4);
  options.rows.probe_share = 0.3;
  options.budget = 40 + random.below(200);
  options.pool = 1 + random.below(60);
  options.most_pairs = random.below(2) * 4;
  options.shuffle = random.below(4) != 0;
  options.by_length = random.below(2) == 0;
  options.new_draws = random.below(4) != 0;
  options.seed = static_cast<std::uint64_t>(random.below(1000));
  return options;
}

}  // namespace

TEST_CASE("each pair comes once an epoch, in batches that keep to the budget") {
  random_stream random(1);
  const files texts{{"x", table(random, 70)}, {"y", table(random, 31)}, {"z", ""}};
  for (int trial = 0; trial < 40; ++trial) {
    batch_options options = choices(random);
    options.epochs = 2;
    batch_stream stream(sets({{"x", 2}, {"y", 1}, {"z", 1}}), options, opener(texts));
    std::map<index_t, std::set<std::pair<index_t, index_t>>> seen;
    std::size_t pairs = 0;
    while (const auto batch = stream.next()) {
      index_t rows = 0;
      index_t labels = 0;
      for (const training_rows& one : batch->rows) {
        rows += one.rows.size();
        labels += static_cast<index_t>(one.labels.size());
      }
      CHECK(rows == batch->num_rows);
      CHECK(labels == batch->num_predictions);
      CHECK(rows <= options.budget);
      CHECK(batch->rows.size() == batch->pairs.size());
      CHECK(!batch->rows.empty());
      if (options.most_pairs > 0) CHECK(static_cast<index_t>(batch->rows.size()) <= options.most_pairs);
      for (const auto& id : ids(*batch)) {
        CHECK(seen[batch->epoch].insert(id).second);
        ++pairs;
      }
    }
    CHECK(seen.size() == 2);
    CHECK(pairs + static_cast<std::size_t>(stream.left_out()) == 202);
    if (options.budget > 120) CHECK(pairs == 202);
    CHECK(!stream.next());
    CHECK(stream.skipped_in_epoch().empty > 0);
  }
}

TEST_CASE("joined pairs fill streams up to their length, each pair once an epoch") {
  random_stream random(12);
  const files texts{{"x", table(random, 70)}, {"y", table(random, 31)}};
  for (int trial = 0; trial < 20; ++trial) {
    batch_options options = choices(random);
    options.how = stream::batch();
    options.joined = between(random, 30, options.budget);
    options.epochs = 2;
    batch_stream stream(sets({{"x", 2}, {"y", 1}}), options, opener(texts));
    std::map<index_t, std::set<std::pair<index_t, index_t>>> seen;
    std::size_t pairs = 0;
    bool several = false;
    while (const auto batch = stream.next()) {
      index_t rows = 0;
      for (const training_rows& one : batch->rows) {
        CHECK(one.rows.size() <= options.joined);
        CHECK(one.rows.max_position() == static_cast<double>(one.rows.size() - 1));
        rows += one.rows.size();
      }
      CHECK(rows == batch->num_rows);
      CHECK(rows <= options.budget);
      several = several || batch->pairs.size() > batch->rows.size();
      if (options.most_pairs > 0) CHECK(static_cast<index_t>(batch->pairs.size()) <= options.most_pairs);
      for (const auto& id : ids(*batch)) CHECK(seen[batch->epoch].insert(id).second);
      pairs += batch->pairs.size();
    }
    CHECK(several == (options.pool > 1 && options.most_pairs != 1));
    CHECK(pairs + static_cast<std::size_t>(stream.left_out()) == 202);
    // Measuring has every pair alone.
    batch_stream alone(sets({{"x", 2}, {"y", 1}}), options.for_validation(), opener(texts));
    while (const auto batch = alone.next()) CHECK(batch->pairs.size() == batch->rows.size());
  }
}

TEST_CASE("a stream that goes on from any saved state gives the same batches, bit for bit") {
  random_stream random(2);
  const files texts{{"x", table(random, 40)}, {"y", table(random, 25)}};
  const auto named = sets({{"x", 1}, {"y", 1}});
  for (int trial = 0; trial < 15; ++trial) {
    batch_options options = choices(random);
    options.epochs = 3;
    batch_stream whole(named, options, opener(texts));
    std::vector<training_batch> batches;
    std::vector<std::string> states{whole.state()};
    while (auto batch = whole.next()) {
      batches.push_back(std::move(*batch));
      states.push_back(whole.state());
    }
    REQUIRE(batches.size() > 6);
    batch_stream used(named, options, opener(texts));
    for (std::size_t from = 0; from < states.size(); ++from) {
      // A new stream, and one that has been elsewhere.
      batch_stream fresh(named, options, opener(texts), batch_state::parse(states[from]));
      used.restore(states[from]);
      CHECK(used.state() == states[from]);
      const std::size_t stop = std::min(batches.size(), from + 4);
      for (std::size_t i = from; i < stop; ++i) {
        const auto first = fresh.next();
        const auto second = used.next();
        REQUIRE(first.has_value());
        REQUIRE(second.has_value());
        CHECK(same_batch(*first, batches[i]));
        CHECK(same_batch(*second, batches[i]));
        CHECK(fresh.state() == states[i + 1]);
      }
      if (stop == batches.size()) CHECK(!fresh.next());
    }
  }
}

TEST_CASE("epochs differ in order and draws, seeds as well; length buckets change the order only") {
  random_stream random(3);
  const files texts{{"x", table(random, 60)}};
  batch_options options;
  options.rows.waits = waits_between(1, 4);
  options.budget = 150;
  options.epochs = 2;
  const auto run = [&](const batch_options& how) {
    std::map<index_t, std::vector<std::pair<index_t, index_t>>> orders;
    std::map<std::pair<index_t, index_t>, training_rows> rows;  // epoch and pair
    std::vector<index_t> spreads;
    batch_stream stream(sets({{"x", 1}}), how, opener(texts));
    while (auto batch = stream.next()) {
      index_t least = 1 << 20;
      index_t most = 0;
      for (std::size_t i = 0; i < batch->rows.size(); ++i) {
        orders[batch->epoch].push_back(ids(*batch)[i]);
        least = std::min(least, batch->rows[i].rows.size());
        most = std::max(most, batch->rows[i].rows.size());
        rows[{batch->epoch, batch->pairs[i].number}] = std::move(batch->rows[i]);
      }
      spreads.push_back(most - least);
    }
    return std::tuple(orders, rows, spreads);
  };
  auto [orders, rows, spreads] = run(options);
  CHECK(orders[0] != orders[1]);
  index_t differ = 0;
  for (index_t i = 0; i < 60; ++i) differ += same_rows(rows[{0, i}], rows[{1, i}]) ? 0 : 1;
  CHECK(differ > 20);

  batch_options other = options;
  other.by_length = false;
  auto [loose_orders, loose_rows, loose_spreads] = run(other);
  CHECK(loose_orders[0] != orders[0]);
  for (const auto& [id, one] : rows) CHECK(same_rows(one, loose_rows[id]));
  std::sort(spreads.begin(), spreads.end());
  std::sort(loose_spreads.begin(), loose_spreads.end());
  CHECK(spreads[spreads.size() / 2] * 3 < loose_spreads[loose_spreads.size() / 2]);

  other = options;
  other.seed = 1;
  CHECK(std::get<0>(run(other))[0] != orders[0]);
  other = options.for_validation();
  other.epochs = 2;
  auto [fixed_orders, fixed_rows, fixed_spreads] = run(other);
  CHECK(fixed_orders[0] == fixed_orders[1]);
  for (index_t i = 0; i < 60; ++i) {
    CHECK(fixed_orders[0][static_cast<std::size_t>(i)].second == i);
    CHECK(same_rows(fixed_rows[{0, i}], fixed_rows[{1, i}]));
  }
}

TEST_CASE("every pair has draws of its own") {
  std::string same;
  for (int i = 0; i < 90; ++i) same += "a b c\td e f\n";
  const files texts{{"x", same}, {"y", same}};
  batch_options options;
  options.rows.waits = waits_between(1, 3);
  options.rows.end = end_limit::wait_k;
  batch_stream stream(sets({{"x", 1}, {"y", 1}}), options.for_validation(), opener(texts));
  std::map<index_t, std::vector<index_t>> lengths;  // of each set's pairs
  while (const auto batch = stream.next()) {
    for (std::size_t i = 0; i < batch->rows.size(); ++i) {
      // What the first word's row sees tells k.
      const auto& one = batch->rows[i];
      const auto row = static_cast<std::size_t>(one.logit_rows.front());
      lengths[batch->pairs[i].set].push_back(one.rows.storage()[row]);
    }
  }
  CHECK(lengths[0] != lengths[1]);
  for (index_t k = 1; k <= 3; ++k) {
    // The prompt's two rows, then one for each word; there is no header, so that a source row predicts.
    const auto count = std::count(lengths[0].begin(), lengths[0].end(), 1 + k);
    CHECK(count > 15);
    CHECK(count < 50);
  }
}

TEST_CASE("shuffling reaches everywhere in a pool, and sets are mixed") {
  std::string one;
  for (int i = 0; i < 200; ++i) one += "a\tb\n";
  const files texts{{"x", one}, {"y", one}};
  batch_options options;
  options.budget = 60;
  options.epochs = 1;
  batch_stream stream(sets({{"x", 1}, {"y", 1}}), options, opener(texts));
  double distance = 0;
  index_t at = 0;
  index_t mixed = 0;
  index_t batches = 0;
  while (const auto batch = stream.next()) {
    index_t first = 0;
    for (const pair_id id : batch->pairs) {
      distance += std::abs(static_cast<double>(at++ - (2 * id.number + id.set)));
      first += id.set == 0 ? 1 : 0;
    }
    mixed += first > 0 && first < static_cast<index_t>(batch->pairs.size()) ? 1 : 0;
    ++batches;
  }
  CHECK(at == 400);
  // A third of the length on average if the order is random.
  CHECK(distance / 400 > 115);
  CHECK(distance / 400 < 152);
  CHECK(mixed > batches / 2);

  // Without shuffling a set comes after the other; with a pool of 10 they take turns by their shares.
  batch_options ordered = options.for_validation();
  batch_stream straight(sets({{"x", 1}, {"y", 1}}), ordered, opener(texts));
  std::vector<std::pair<index_t, index_t>> all;
  while (const auto batch = straight.next()) {
    for (const auto& id : ids(*batch)) all.push_back(id);
  }
  CHECK(std::is_sorted(all.begin(), all.end()));
  options.pool = 8;
  batch_stream shared(sets({{"x", 3}, {"y", 1}}), options, opener(texts));
  index_t of_first = 0;
  for (index_t pairs = 0; pairs < 40;) {
    const auto batch = shared.next();
    for (const pair_id id : batch->pairs) of_first += id.set == 0 ? 1 : 0;
    pairs += static_cast<index_t>(batch->pairs.size());
    if (pairs % 8 == 0) CHECK(of_first * 4 == pairs * 3);
  }
}

TEST_CASE("pairs past the budget or the context are left out, or refused with their place") {
  files texts{{"x", "a\tb\na a a a a a a a a a a a\tb\na\tc\n"}};
  batch_options options;
  options.how = stream::batch();
  options.budget = 12;
  options.epochs = 1;
  batch_stream stream(sets({{"x", 1}}), options, opener(texts));
  std::set<std::pair<index_t, index_t>> seen;
  while (const auto batch = stream.next()) {
    for (const auto& id : ids(*batch)) seen.insert(id);
  }
  CHECK(seen == std::set<std::pair<index_t, index_t>>{{0, 0}, {0, 2}});
  CHECK(stream.left_out() == 1);
  options.budget = 100;
  options.context = 10;
  const epoch_figures figures = count_epoch(sets({{"x", 1}}), options, opener(texts));
  CHECK(figures.pairs == 2);
  CHECK(figures.left_out == 1);
  CHECK(figures.batches == 1);
  CHECK(figures.rows == 10);  // each: start, instruction, word, end; word
  CHECK(figures.predictions == 4);
  CHECK(figures.longest_stream == 5);
  CHECK(figures.max_position == 4);
  options.unusable = unusable_pair::refuse;
  batch_stream strict(sets({{"x", 1}}), options, opener(texts));
  try {
    static_cast<void>(strict.next());
    FAIL("nothing was thrown");
  } catch (const limit_error& problem) {
    CHECK(std::string(problem.what()) == "x: line 2: the pair reaches position 15, but the context ends before 10");
  }
  texts["x"] = "a\t \n";
  batch_stream empty(sets({{"x", 1}}), batch_options{}, opener(texts));
  CHECK_THROWS_AS(static_cast<void>(empty.next()), config_error);
}

TEST_CASE("data that has changed since a state was saved is refused") {
  random_stream random(5);
  files texts{{"x", table(random, 40)}};
  batch_options options;
  options.budget = 60;
  options.pool = 15;
  batch_stream stream(sets({{"x", 1}}), options, opener(texts));
  const std::string start = stream.state();
  for (int i = 0; i < 5; ++i) static_cast<void>(stream.next());
  const std::string state = stream.state();
  const batch_state position = stream.position();
  CHECK(batch_state::parse(state) == position);
  CHECK(stream.next()->describe().starts_with("epoch 0, x "));
  const files before = texts;
  CHECK_NOTHROW(stream.restore(state));
  texts["x"][3] = texts["x"][3] == 'a' ? 'b' : 'a';
  CHECK_THROWS_AS(stream.restore(state), config_error);
  texts["x"] = "a\tb\n";
  CHECK_THROWS_AS(stream.restore(state), config_error);
  CHECK_NOTHROW(stream.restore(start));
  texts = before;
  CHECK_NOTHROW(stream.restore(state));
  for (const char* wrong : {"", "{}", "[]", "{\"epoch\": 0, \"pairs\": 0, \"batches\": 0}",
                            "{\"epoch\": -1, \"pairs\": 0, \"batches\": 0, \"digest\": 1}",
                            "{\"epoch\": 0, \"pairs\": 0, \"batches\": 0, \"digest\": -1}"}) {
    CHECK_THROWS_AS(stream.restore(std::string_view(wrong)), format_error);
  }
  batch_state far = position;
  far.batches = 1000;
  CHECK_THROWS_AS(stream.restore(far), config_error);
  far = position;
  far.pairs = 1000;
  CHECK_THROWS_AS(stream.restore(far), config_error);
}

TEST_CASE("options that make no sense are refused") {
  const files texts{{"x", "a\tb\n"}};
  const auto refused = [&](auto&& change, index_t share = 1) {
    batch_options options;
    change(options);
    CHECK_THROWS_AS(batch_stream(sets({{"x", share}}), options, opener(texts)), config_error);
  };
  refused([](batch_options& options) { options.budget = 0; });
  refused([](batch_options& options) { options.pool = 0; });
  refused([](batch_options& options) { options.epochs = -1; });
  refused([](batch_options& options) { options.rows.waits = {0}; });
  refused([](batch_options&) {}, 0);
  refused([](batch_options& options) { options.joined = -1; });
  refused([](batch_options& options) { options.joined = options.budget + 1; });
  refused([](batch_options& options) {
    options.context = 10;
    options.joined = 11;
  });
  batch_options wrong_plan;
  wrong_plan.joined = 20;
  batch_stream streamed(sets({{"x", 1}}), wrong_plan, opener(texts));
  CHECK_THROWS_AS(static_cast<void>(streamed.next()), config_error);
  CHECK_THROWS_AS(batch_stream({}, {}, opener(texts)), config_error);
}
