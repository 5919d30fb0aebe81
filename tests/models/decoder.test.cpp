// SPDX-License-Identifier: Apache-2.0
#include <runnel/models/decoder.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <thread>

#include "golden.hpp"
#include "support/instruction_sets.hpp"
#include "support/random_values.hpp"
#include "support/tiny_model.hpp"

namespace {

using namespace runnel;
using quant::weight_format;
using tests::logit_rows;

std::vector<std::int32_t> random_tokens(random_stream& random, index_t count, index_t vocab) {
  std::vector<std::int32_t> out;
  for (index_t i = 0; i < count; ++i) out.push_back(static_cast<std::int32_t>(random.below(vocab)));
  return out;
}

index_t both_sizes(const cache::key_value_cache& cache) {
  return 1000 * cache.size(group::source) + cache.size(group::target);
}

TEST_CASE("any chunking, any number of threads and any instruction set: within one, the same bits") {
  random_stream random(1);
  for (int turn = 0; turn < 12; ++turn) {
    tests::tiny_model_options options;
    options.tied = turn % 2 == 0;
    options.bias = turn % 3 == 0;
    const auto model = tests::tiny_decoder(random, options);
    const index_t count = tests::between(random, 1, turn % 4 == 0 ? 150 : 40);
    const auto tokens = random_tokens(random, count, 28);
    for (const auto which : tests::runnable_instruction_sets()) {
      ops::eval context({1, ops::compute_mode::f32, which});
      const auto whole = tests::prefill(*model, context, tokens);
      for (int split = 0; split < 3; ++split) {
        ops::eval other({1 + split, ops::compute_mode::f32, which});
        auto cache = model->make_cache();
        logit_rows found;
        for (index_t at = 0; at < count;) {
          const index_t size = split == 0 ? 1 : tests::between(random, 1, count - at);
          const auto part = std::span(tokens).subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(size));
          for (auto& row : tests::logits_of(*model, other, cache, tests::causal_rows(at, at + size), part)) {
            found.push_back(std::move(row));
          }
          at += size;
        }
        CHECK(found == whole);
      }
    }
  }
}

TEST_CASE("coarser numbers stay near the exact ones, and bf16 is nearer than bytes") {
  random_stream random(21);
  double off_bf16 = 0, off_int8 = 0;
  for (const auto format : {weight_format::q8_0, weight_format::q4_0, weight_format::q4_1}) {
    for (int turn = 0; turn < 3; ++turn) {
      tests::tiny_model_options options;
      options.format = format;
      const auto model = tests::tiny_decoder(random, options);
      const auto tokens = random_tokens(random, 40, 28);
      const auto logits = [&](ops::compute_mode mode) {
        ops::eval context({1, mode});
        return tests::prefill(*model, context, tokens);
      };
      const auto exact = logits(ops::compute_mode::f32);
      const auto off = [&](const logit_rows& found) {
        double sum = 0, size = 0;
        for (std::size_t r = 0; r < exact.size(); ++r) {
          for (std::size_t i = 0; i < exact[r].size(); ++i) {
            sum += std::fabs(static_cast<double>(found[r][i] - exact[r][i]));
            size += std::fabs(static_cast<double>(exact[r][i]));
          }
        }
        return sum / size;
      };
      const double bf16 = off(logits(ops::compute_mode::bf16)), int8 = off(logits(ops::compute_mode::int8));
      CHECK(bf16 > 0);
      CHECK(bf16 < 0.02);
      CHECK(int8 < 0.04);
      off_bf16 += bf16;
      off_int8 += int8;
      CHECK(model->effective(ops::compute_mode::int8) == ops::compute_mode::int8);
    }
  }
  CHECK(off_bf16 < off_int8);
  const auto plain = tests::tiny_decoder(random);
  CHECK(plain->effective(ops::compute_mode::int8) == ops::compute_mode::f32);
  CHECK(plain->effective(ops::compute_mode::bf16) == ops::compute_mode::bf16);
}

TEST_CASE("streams in one pass give each what it gives alone") {
  random_stream random(2);
  for (int turn = 0; turn < 10; ++turn) {
    const auto model = tests::tiny_decoder(random);
    ops::eval context({2});
    const auto count = static_cast<std::size_t>(tests::between(random, 1, 5));
    std::vector<cache::key_value_cache> caches;
    std::vector<row_table> rows;
    std::vector<std::vector<std::int32_t>> tokens;
    std::vector<std::vector<index_t>> wanted;
    std::vector<logit_rows> alone;
    for (std::size_t i = 0; i < count; ++i) {
      caches.push_back(model->make_cache());
      const index_t length = tests::between(random, 1, 70);
      tokens.push_back(random_tokens(random, length, 28));
      rows.push_back(tests::causal_rows(0, length));
      wanted.emplace_back();
      for (index_t r = 0; r < length; ++r) {
        if (random.below(3) == 0) wanted.back().push_back(length - 1 - r);  // any order, any number
      }
      alone.push_back(tests::prefill(*model, context, tokens[i]));
    }
    std::vector<models::stream_rows> streams;
    for (std::size_t i = 0; i < count; ++i) streams.push_back({&caches[i], &rows[i], tokens[i], wanted[i]});
    const auto found = tests::copy_rows(model->forward(context, streams));
    std::size_t at = 0;
    for (std::size_t i = 0; i < count; ++i) {
      for (const index_t row : wanted[i]) CHECK(found.at(at++) == alone[i][static_cast<std::size_t>(row)]);
      CHECK(caches[i].size(group::source) == rows[i].size());
    }
    CHECK(at == found.size());
  }
}

TEST_CASE("no streams and no rows are passes too") {
  random_stream random(3);
  const auto model = tests::tiny_decoder(random);
  ops::eval context;
  CHECK(model->forward(context, {}).size() == 0);
  auto cache = model->make_cache();
  CHECK(tests::logits_of(*model, context, cache, row_table(), {}).empty());
  CHECK(both_sizes(cache) == 0);
}

TEST_CASE("rows and tokens that do not fit are refused before anything changes") {
  random_stream random(4);
  const auto model = tests::tiny_decoder(random);
  ops::eval context;
  auto cache = model->make_cache();
  const std::vector<std::int32_t> five(5, 1), four(4, 1);
  (void)tests::logits_of(*model, context, cache, tests::causal_rows(0, 5), five);
  const auto before = both_sizes(cache);
  const auto refuses = [&](const row_table& rows, const std::vector<std::int32_t>& tokens, const char* text,
                           const std::vector<index_t>& wanted = {}) {
    const models::stream_rows stream{&cache, &rows, tokens, wanted};
    CHECK_THROWS_WITH_AS((void)model->forward(context, std::span(&stream, 1)), text, config_error);
    CHECK(both_sizes(cache) == before);
  };
  refuses(tests::causal_rows(5, 10), four, "forward: 5 rows but 4 tokens");
  refuses(tests::causal_rows(4, 8), four,
          "forward: row 0 is stored at 4, expected 5: rows of a group are appended in order");
  refuses(tests::causal_rows(6, 10), four,
          "forward: row 0 is stored at 6, expected 5: rows of a group are appended in order");
  auto tokens = four;
  tokens[2] = 28;
  refuses(tests::causal_rows(5, 9), tokens, "forward: token id 28 is outside of the vocabulary of 28");
  tokens[2] = -1;
  refuses(tests::causal_rows(5, 9), tokens, "forward: vector 0 of 0");
  const auto one = [&](key_range source, key_range target, index_t storage = 5) {
    row_table rows;
    rows.add({group::source, 5, storage}, source, 0, target, 0);
    return rows;
  };
  refuses(one({0, 7}, {}), {1}, "forward: a row sees keys [0, 7) of 6");
  refuses(one({-1, 3}, {}), {1}, "forward: a row sees keys [-1, 3) of 6");
  refuses(one({0, 6}, {0, 1}), {1}, "forward: a row sees keys [0, 1) of 0");
  refuses(one({0, 6}, {}), {1}, "forward: logits of row 1 of 1", {1});
  refuses(one({0, 6}, {}), {1}, "forward: logits of row -1 of 1", {-1});
  // A range that ends before it begins is empty, wherever it stands.
  auto copy = cache.snapshot();
  CHECK_NOTHROW((void)tests::logits_of(*model, context, copy, one({0, 6}, {1000, 0}), std::vector<std::int32_t>{1}));
}

TEST_CASE("positions that are no numbers are refused") {
  random_stream random(5);
  const auto model = tests::tiny_decoder(random);
  ops::eval context;
  auto cache = model->make_cache();
  for (const double position : {std::nan(""), static_cast<double>(INFINITY)}) {
    row_table rows;
    rows.add({group::source, position, 0}, {0, 1}, 0, {}, 0);
    CHECK_THROWS_AS((void)tests::logits_of(*model, context, cache, rows, std::vector<std::int32_t>{1}), config_error);
    CHECK(both_sizes(cache) == 0);
  }
}

TEST_CASE("one bad stream stops the whole pass, and all caches stay") {
  random_stream random(6);
  const auto model = tests::tiny_decoder(random);
  ops::eval context;
  auto good = model->make_cache(), bad = model->make_cache();
  const auto rows = tests::causal_rows(0, 3), wrong = tests::causal_rows(1, 4);
  const std::vector<std::int32_t> tokens{1, 2, 3};
  const models::stream_rows streams[] = {{&good, &rows, tokens, {}}, {&bad, &wrong, tokens, {}}};
  CHECK_THROWS_AS((void)model->forward(context, streams), config_error);
  CHECK(both_sizes(good) == 0);
  CHECK(both_sizes(bad) == 0);
}

TEST_CASE("one cache cannot be two streams of a pass") {
  random_stream random(7);
  const auto model = tests::tiny_decoder(random);
  ops::eval context;
  auto cache = model->make_cache();
  const auto rows = tests::causal_rows(0, 2);
  const std::vector<std::int32_t> tokens{1, 2};
  const models::stream_rows streams[] = {{&cache, &rows, tokens, {}}, {&cache, &rows, tokens, {}}};
  CHECK_THROWS_AS((void)model->forward(context, streams), config_error);
  CHECK(both_sizes(cache) == 0);
}

TEST_CASE("a cache of another model is refused") {
  random_stream random(8);
  tests::tiny_model_options small, large;
  small.head_dim = 4;
  large.head_dim = 8;
  const auto model = tests::tiny_decoder(random, small), other = tests::tiny_decoder(random, large);
  ops::eval context;
  auto cache = other->make_cache();
  CHECK_THROWS_AS(
      (void)tests::logits_of(*model, context, cache, tests::causal_rows(0, 1), std::vector<std::int32_t>{1}),
      config_error);
}

TEST_CASE("a stopped pass leaves the caches, and the next gives the same bits") {
  random_stream random(9);
  tests::tiny_model_options options;
  options.layers = 3;
  for (const int threads : {1, 2}) {
    const auto model = tests::tiny_decoder(random, options);
    const auto tokens = random_tokens(random, 90, 28);
    const auto first = std::span(tokens).first(50), rest = std::span(tokens).subspan(50);
    ops::eval context({threads});
    auto untouched = model->make_cache(), cache = model->make_cache();
    (void)tests::logits_of(*model, context, untouched, tests::causal_rows(0, 50), first);
    (void)tests::logits_of(*model, context, cache, tests::causal_rows(0, 50), first);
    const auto expected = tests::logits_of(*model, context, untouched, tests::causal_rows(50, 90), rest);
    const auto stop_now = [&] {
      std::stop_source stop;
      context.stop = stop.get_token();
      stop.request_stop();
      CHECK_THROWS_AS((void)tests::logits_of(*model, context, cache, tests::causal_rows(50, 90), rest),
                      cancelled_error);
      CHECK(both_sizes(cache) == 50000);
      context.stop = {};
    };
    stop_now();
    // From another thread, at any moment: stopped or not, the cache says which.
    for (int turn = 0; turn < 10; ++turn) {
      std::stop_source stop;
      context.stop = stop.get_token();
      std::thread other([&] {
        for (int spin = 0; spin < 500 * turn; ++spin) std::atomic_signal_fence(std::memory_order_seq_cst);
        stop.request_stop();
      });
      try {
        const auto found = tests::logits_of(*model, context, cache, tests::causal_rows(50, 90), rest);
        CHECK(found == expected);
        CHECK(both_sizes(cache) == 90000);
        cache.truncate(group::source, 50);
      } catch (const cancelled_error&) {
        CHECK(both_sizes(cache) == 50000);
      }
      other.join();
      context.stop = {};
    }
    stop_now();
    CHECK(tests::logits_of(*model, context, cache, tests::causal_rows(50, 90), rest) == expected);
  }
}

TEST_CASE("a model is shared: threads with contexts and caches of their own do not meet") {
  random_stream random(10);
  const auto model = tests::tiny_decoder(random);
  const auto tokens = random_tokens(random, 60, 28);
  ops::eval context;
  const auto expected = tests::prefill(*model, context, tokens);
  std::atomic<int> same{0};
  std::vector<std::thread> users;
  for (int i = 0; i < 4; ++i) {
    users.emplace_back([&, i] {
      ops::eval own({1 + i % 2});
      for (int turn = 0; turn < 3; ++turn) same += tests::prefill(*model, own, tokens) == expected ? 1 : 0;
    });
  }
  for (auto& user : users) user.join();
  CHECK(same == 12);
}

TEST_CASE("a constant added to all positions changes next to nothing") {
  random_stream random(11);
  for (int turn = 0; turn < 5; ++turn) {
    const auto model = tests::tiny_decoder(random);
    const auto tokens = random_tokens(random, 30, 28);
    const auto shifted = [&](double by) {
      row_table rows;
      for (index_t r = 0; r < 30; ++r) {
        rows.add({group::source, static_cast<double>(r) + by, r}, {0, static_cast<std::int32_t>(r + 1)}, 0, {}, 0);
      }
      ops::eval context;
      auto cache = model->make_cache();
      return tests::logits_of(*model, context, cache, rows, tokens);
    };
    const auto plain = shifted(0);
    std::vector<float> flat;
    double largest = 0;
    for (const auto& row : plain) flat.insert(flat.end(), row.begin(), row.end());
    for (const float value : flat) largest = std::max(largest, std::fabs(static_cast<double>(value)));
    for (const double by : {1.0, 0.37, 12345.0, 1048576.0}) {
      CHECK(tests::largest_difference(shifted(by), flat) <= 1e-4 * largest);
    }
  }
}

TEST_CASE("weights and config must fit") {
  random_stream random(12);
  const auto model = tests::tiny_decoder(random);
  CHECK(model->weight_bytes() > 0);
  auto config = model->config();
  config.num_hidden_layers += 1;
  CHECK_THROWS_AS(models::decoder(config, models::decoder_weights<nn::inference_parameters>{}), format_error);
  const auto refuses = [&](auto&& change, const char* key) {
    auto wrong = model->config();
    change(wrong);
    CAPTURE(std::string(key));
    try {
      models::validate(wrong, "file");
      CHECK(false);
    } catch (const format_error& failure) {
      CHECK(std::string(failure.what()).find(key) != std::string::npos);
      CHECK(std::string(failure.what()).starts_with("file: "));
    }
  };
  refuses([](auto& c) { c.vocab_size = 0; }, "vocab_size");
  refuses([](auto& c) { c.hidden_size = -1; }, "hidden_size");
  refuses([](auto& c) { c.hidden_size = index_t{1} << 40; }, "hidden_size");
  refuses([](auto& c) { c.intermediate_size = 0; }, "intermediate_size");
  refuses([](auto& c) { c.num_hidden_layers = 0; }, "num_hidden_layers");
  refuses([](auto& c) { c.num_hidden_layers = 100000; }, "num_hidden_layers");
  refuses([](auto& c) { c.num_attention_heads = 0; }, "num_attention_heads");
  refuses([](auto& c) { c.num_key_value_heads = 0; }, "num_key_value_heads");
  refuses([](auto& c) { c.num_attention_heads = c.num_key_value_heads * 2 + 1, c.num_key_value_heads *= 2; },
          "multiple");
  refuses([](auto& c) { c.head_dim = 7; }, "head_dim");
  refuses([](auto& c) { c.head_dim = 4096; }, "head_dim");
  refuses([](auto& c) { c.rope.dimension = c.head_dim + 2; }, "rotary");
  refuses([](auto& c) { c.max_position_embeddings = 0; }, "max_position_embeddings");
  refuses([](auto& c) { c.rms_norm_eps = -1; }, "rms_norm_eps");
  refuses([](auto& c) { c.rms_norm_eps = std::nanf(""); }, "rms_norm_eps");
  refuses([](auto& c) { c.rope.theta = 0; }, "rope_theta");
  refuses([](auto& c) { c.rope.theta = INFINITY; }, "rope_theta");
}

}  // namespace
