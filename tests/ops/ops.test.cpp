// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <runnel/cache/key_value_cache.hpp>
#include <runnel/nn/linear.hpp>
#include <runnel/nn/rotary.hpp>
#include <runnel/ops/attention.hpp>
#include <runnel/ops/elementwise.hpp>
#include <runnel/ops/product.hpp>
#include <runnel/ops/rotary.hpp>

#include "support/instruction_sets.hpp"
#include "support/random_values.hpp"

namespace {

using namespace runnel;
using ops::eval;
using quant::weight_format;

eval::value random_value(eval& context, random_stream& random, index_t rows, index_t features) {
  const auto out = context.make(rows, features);
  const auto values = tests::normals<float>(random, rows * features);
  std::copy(values.begin(), values.end(), out.data());
  return out;
}

std::vector<float> copy_of(const tensor_view<const float, 2>& x) { return {x.data(), x.data() + x.size()}; }

/// A matrix in `format` from its file bytes.
struct stored_matrix {
  std::vector<std::byte> bytes;
  std::vector<float> decoded;
  ops::matrix_source source;

  stored_matrix(random_stream& random, weight_format format, index_t outputs, index_t inputs) {
    const auto values = tests::normals<float>(random, outputs * inputs);
    bytes.resize(static_cast<std::size_t>(quant::bytes_for(format, values.size())));
    decoded.resize(values.size());
    quant::encode(format, values.data(), values.size(), bytes.data());
    quant::decode(format, bytes.data(), values.size(), decoded.data());
    source = {format, outputs, inputs, bytes, {}};
  }
};

TEST_CASE("prepared rows decode to what the file holds, in any order") {
  random_stream random(1);
  for (const auto& format : quant::all_formats) {
    CAPTURE(std::string(format.name));
    const auto block = static_cast<index_t>(format.block_size);
    for (const index_t outputs : {1, 31, 32, 33, 70}) {
      const index_t inputs = block * 3;
      const stored_matrix stored(random, format.format, outputs, inputs);
      std::vector<index_t> order(static_cast<std::size_t>(outputs));
      std::iota(order.begin(), order.end(), index_t{0});
      for (std::size_t i = order.size(); i > 1; --i) {
        std::swap(order[i - 1], order[static_cast<std::size_t>(random.below(static_cast<index_t>(i)))]);
      }
      for (const bool shuffled : {false, true}) {
        auto source = stored.source;
        if (shuffled) source.row_order = order;
        const auto matrix = ops::prepared_matrix::prepare(source);
        CHECK(matrix.format() == format.format);
        CHECK(matrix.outputs() == outputs);
        CHECK(matrix.inputs() == inputs);
        CHECK(matrix.bytes() > 0);
        std::vector<float> row(static_cast<std::size_t>(inputs));
        for (index_t n = 0; n < outputs; ++n) {
          matrix.decode_row(n, row);
          const auto from = shuffled ? order[static_cast<std::size_t>(n)] : n;
          CHECK(
              tests::same_bits(std::span<const float>(row),
                               std::span(stored.decoded).subspan(static_cast<std::size_t>(from * inputs), row.size())));
        }
      }
    }
  }
}

TEST_CASE("odd inputs of half formats") {
  random_stream random(2);
  for (const auto format : {weight_format::f16, weight_format::bf16}) {
    const stored_matrix stored(random, format, 35, 7);
    const auto matrix = ops::prepared_matrix::prepare(stored.source);
    std::vector<float> row(8, -1.0f);
    matrix.decode_row(34, std::span(row).first(7));
    CHECK(tests::same_bits(std::span<const float>(row).first(7), std::span<const float>(stored.decoded).last(7)));
    CHECK(row[7] == -1);
  }
}

TEST_CASE("matrices whose bytes, shape and format disagree are refused") {
  random_stream random(3);
  const stored_matrix stored(random, weight_format::q4_0, 3, 64);
  const auto refuses = [&](auto&& change, const char* text) {
    auto source = stored.source;
    change(source);
    CHECK_THROWS_WITH_AS((void)ops::prepared_matrix::prepare(source), text, shape_error);
  };
  refuses([](auto& s) { s.outputs = 0; }, "matrix: shape [0, 64] must not be empty");
  refuses([](auto& s) { s.inputs = -64; }, "matrix: shape [3, -64] must not be empty");
  refuses([](auto& s) { s.inputs = 48; }, "matrix: 48 inputs are not a multiple of the 32 of a q4_0 block");
  refuses([](auto& s) { s.bytes = s.bytes.first(107); },
          "matrix: [3, 64] in q4_0 takes 36 bytes a row, found 107 in all");
  refuses([](auto& s) { s.outputs = 4; }, "matrix: [4, 64] in q4_0 takes 36 bytes a row, found 108 in all");
  refuses([](auto& s) { s.outputs = 2; }, "matrix: [2, 64] in q4_0 takes 36 bytes a row, found 108 in all");
  const std::vector<index_t> two{0, 1};
  refuses([&](auto& s) { s.row_order = two; }, "matrix: the row order names 2 rows of 3");
  const std::vector<index_t> outside{0, 3, 1}, negative{0, -1, 1};
  refuses([&](auto& s) { s.row_order = outside; }, "matrix: the row order names row 3 of 3");
  refuses([&](auto& s) { s.row_order = negative; }, "matrix: the row order names row -1 of 3");
}

TEST_CASE("ops check shapes and say both") {
  random_stream random(4);
  eval context;
  const auto x = random_value(context, random, 3, 8);
  const stored_matrix stored(random, weight_format::f32, 5, 7);
  const auto weight = ops::prepared_matrix::prepare(stored.source);
  CHECK_THROWS_WITH_AS((void)context(ops::product{}, x, weight), "product: input has 8 features, the weight takes 7",
                       shape_error);
  const auto fits = random_value(context, random, 3, 7);
  const tensor<float, 1> short_bias({4}), eight({8});
  CHECK_THROWS_WITH_AS((void)context(ops::product{}, fits, weight, short_bias.view()),
                       "product: bias has 4 features, the weight gives 5", shape_error);
  CHECK_THROWS_WITH_AS((void)context(ops::rms_norm{}, x, short_bias.view()),
                       "rms_norm: weight has 4 features, input has 8", shape_error);
  CHECK_THROWS_AS((void)context(ops::layer_norm{}, x, eight.view(), short_bias.view()), shape_error);
  CHECK_THROWS_WITH_AS((void)context(ops::add{}, x, fits), "add: expected shape [3, 8], found [3, 7]", shape_error);
  const nn::linear<nn::inference_parameters> five{ops::prepared_matrix::prepare(stored.source), {}},
      four{ops::prepared_matrix::prepare(stored_matrix(random, weight_format::f32, 4, 7).source), {}};
  CHECK_THROWS_WITH_AS((void)context(ops::gated_product{}, fits, five, four),
                       "gated_product: the gate gives 5 features, the other side 4", shape_error);
  CHECK_THROWS_AS((void)context(ops::gated_product{}, x, five, five), shape_error);
  CHECK_THROWS_AS((void)context(ops::products{}, x, five, four), shape_error);
  const std::vector<index_t> outside{0, 3};
  CHECK_THROWS_WITH_AS((void)context(ops::select_rows{}, x, std::span<const index_t>(outside)),
                       "select_rows: row 3 of 3", shape_error);
  CHECK_THROWS_AS((void)context.block(x, [&](const auto&) { return fits; }), shape_error);
  const std::vector<std::int32_t> tokens{0, 5}, negative{-1};
  CHECK_THROWS_WITH_AS((void)context(ops::embedding{}, std::span<const std::int32_t>(tokens), weight),
                       "embedding: token id 5 is outside of the vocabulary of 5", config_error);
  CHECK_THROWS_AS((void)context(ops::embedding{}, std::span<const std::int32_t>(negative), weight), config_error);
  for (const auto which : {instruction_set::baseline, instruction_set::avx2, instruction_set::avx512}) {
    if (simd::compiled(which))
      CHECK_NOTHROW(eval({1, ops::compute_mode::f32, which}));
    else
      CHECK_THROWS_AS(eval({1, ops::compute_mode::f32, which}), config_error);
  }
}

TEST_CASE("ops give the same bits for any number of threads and rows together") {
  random_stream random(5);
  const index_t features = 96, outputs = 130, rows = 23;
  const stored_matrix stored(random, weight_format::q8_0, outputs, features);
  const auto weight = ops::prepared_matrix::prepare(stored.source);
  tensor<float, 1> w({features}), bias({outputs});
  std::iota(w.values().begin(), w.values().end(), 1.0f);
  std::iota(bias.values().begin(), bias.values().end(), 0.5f);
  const auto inputs = tests::normals<float>(random, rows * features);
  for (const auto which : tests::runnable_instruction_sets()) {
    const auto run = [&](int threads, index_t first, index_t count) {
      eval context({threads, ops::compute_mode::f32, which});
      std::vector<float> out;
      context.team.run([&] {
        const auto x = context.make(count, features);
        std::copy_n(inputs.data() + first * features, count * features, x.data());
        const auto y = context(ops::product{}, context(ops::rms_norm{}, x, w.view()), weight, bias.view());
        out = copy_of(context(ops::soft_cap{30}, y));
      });
      return out;
    };
    const auto all = run(1, 0, rows);
    for (const int threads : {2, 3, 5}) CHECK(tests::same_bits(run(threads, 0, rows), all));
    for (index_t r = 0; r < rows; ++r) {
      CHECK(tests::same_bits(std::span<const float>(run(1 + static_cast<int>(r % 3), r, 1)),
                             std::span<const float>(all).subspan(static_cast<std::size_t>(r * outputs), outputs)));
    }
  }
}

TEST_CASE("embedding rows are rows of the matrix, scaled where asked") {
  random_stream random(6);
  eval context;
  const stored_matrix stored(random, weight_format::f16, 9, 5);
  const auto weight = ops::prepared_matrix::prepare(stored.source);
  const std::vector<std::int32_t> ids{8, 0, 8, 3};
  const auto plain = context(ops::embedding{}, std::span<const std::int32_t>(ids), weight);
  const auto scaled = context(ops::embedding{3}, std::span<const std::int32_t>(ids), weight);
  for (index_t i = 0; i < 4; ++i) {
    for (index_t k = 0; k < 5; ++k) {
      const float expected = stored.decoded[static_cast<std::size_t>(ids[static_cast<std::size_t>(i)] * 5 + k)];
      CHECK(plain(i, k) == expected);
      CHECK(scaled(i, k) == 3 * expected);
    }
  }
}

TEST_CASE("rows are selected in the order asked for") {
  random_stream random(7);
  eval context;
  const auto x = random_value(context, random, 4, 3);
  const std::vector<index_t> wanted{2, 0, 2};
  const auto y = context(ops::select_rows{}, x, std::span<const index_t>(wanted));
  REQUIRE(y.size(0) == 3);
  for (index_t i = 0; i < 3; ++i) CHECK(tests::same_bits<float>(y.row(i), x.row(wanted[static_cast<std::size_t>(i)])));
  CHECK(context(ops::select_rows{}, x, std::span<const index_t>()).size(0) == 0);
}

TEST_CASE("rotary tables: angles in double, fractions and far positions exact to float") {
  eval context;
  const auto frequencies = nn::rotary_frequencies({64, 10000, nn::rope_scaling::none, 1, 1, 4, 8192, {}});
  const double far = (1 << 20) + 0.3;  // no float
  row_table rows;
  rows.add({group::source, 0, 0}, {}, 0, {}, 0);
  rows.add({group::source, far, 1}, {}, 0, {}, 0);
  rows.add({group::target, 3, 0}, {0, 1}, 0.5, {}, 0);
  rows.add({group::target, far - 1, 1}, {0, 1}, 0.25, {}, 0);
  const auto angles = context(ops::rotary_table{frequencies, 1}, rows);
  const auto check = [&](const ops::rotary_angles::table& table, index_t row, double position) {
    for (index_t i = 0; i < 32; ++i) {
      const long double frequency = std::pow(10000.0L, -2.0L * static_cast<long double>(i) / 64);
      const long double angle = static_cast<long double>(position) * frequency;
      CHECK(std::fabs(static_cast<double>(table.cosines(row, i)) - static_cast<double>(std::cos(angle))) < 1e-7);
      CHECK(std::fabs(static_cast<double>(table.sines(row, i)) - static_cast<double>(std::sin(angle))) < 1e-7);
    }
  };
  check(angles.own, 0, 0);
  check(angles.own, 1, far);
  check(angles.own, 2, 3);
  check(angles.toward[0], 2, 3.5);
  check(angles.toward[0], 3, far - 0.75);
  check(angles.toward[0], 1, far);
  CHECK(angles.toward[1].cosines.data() == angles.own.cosines.data());  // no offset: shared
  CHECK(angles.toward[0].cosines.data() != angles.own.cosines.data());
  const auto larger = context(ops::rotary_table{frequencies, 1.5}, rows);
  CHECK(larger.own.cosines(0, 0) == 1.5f);
}

/// A few source and target rows with an offset toward the source.
row_table some_rows(random_stream& random, index_t sources, index_t targets, double offset) {
  row_table rows;
  for (index_t r = 0; r < sources; ++r) {
    rows.add({group::source, static_cast<double>(r), r}, {0, static_cast<std::int32_t>(r + 1)}, 0, {}, 0);
  }
  for (index_t p = 0; p < targets; ++p) {
    const auto seen = static_cast<std::int32_t>(random.below(sources + 1));
    rows.add({group::target, static_cast<double>(p), p}, {0, seen}, offset, {0, static_cast<std::int32_t>(p + 1)}, 0);
  }
  return rows;
}

TEST_CASE("streams of one pass attend as each does alone: offsets, storage, and streams without rows") {
  using stream = ops::attention_stream<cache::key_value_cache>;
  const index_t heads = 4, kv_heads = 2, head_dim = 8;
  const std::vector<double> frequencies{1, 0.3, 0.1, 0.02};
  for (int turn = 0; turn < 12; ++turn) {
    CAPTURE(turn);
    random_stream random(static_cast<std::uint64_t>(turn) + 50);
    std::vector<row_table> tables;
    std::vector<cache::storage_type> types;
    for (int i = 0; i < 5; ++i) {
      const bool empty = i == turn % 6;
      tables.push_back(some_rows(random, empty ? 0 : 1 + random.below(70), empty ? 0 : random.below(4),
                                 random.below(2) == 0 ? 0.0 : 3.5));
      types.push_back(cache::storage_types[static_cast<std::size_t>(random.below(cache::storage_types.size()))]);
    }
    index_t all = 0;
    for (const auto& rows : tables) all += rows.size();
    const auto queries = tests::normals<float>(random, all * heads * head_dim);
    const auto keys = tests::normals<float>(random, all * kv_heads * head_dim);
    const auto values = tests::normals<float>(random, all * kv_heads * head_dim);
    eval context(ops::eval_options{1 + turn % 2, turn % 3 == 0 ? ops::compute_mode::f32 : ops::compute_mode::bf16});
    // Streams [begin, end) in one pass; appends what comes out.
    const auto run = [&](std::size_t begin, std::size_t end, index_t first_row, std::vector<float>& out) {
      std::vector<cache::key_value_cache> stores;
      for (std::size_t i = begin; i < end; ++i) {
        stores.emplace_back(cache::entry_shape{1, kv_heads, head_dim, types[i]});
        for (const auto which : {group::source, group::target}) stores.back().reserve(which, 100);
      }
      context.memory.reset();
      context.team.run([&] {
        std::vector<stream> streams;
        index_t rows = 0;
        for (std::size_t i = begin; i < end; ++i) {
          streams.push_back(
              {&tables[i], {context(ops::rotary_table{frequencies, 1}, tables[i])}, &stores[i - begin], rows});
          rows += tables[i].size();
        }
        const auto part = [&](const std::vector<float>& from, index_t features) {
          const auto made = context.make(rows, features);
          std::copy_n(from.begin() + first_row * features, rows * features, made.data());
          return made;
        };
        const ops::attention_streams<cache::key_value_cache> some(streams);
        const int rotary = turn % 4 == 3 ? ops::no_rotary : 0;
        const auto attended = context.make(rows, heads * head_dim);
        context(ops::store_keys{head_dim}, part(keys, kv_heads * head_dim), part(values, kv_heads * head_dim), some,
                rotary, 0);
        ops::range_attention attend{heads, kv_heads, head_dim, 0.4f, 0};
        attend.layer_format = turn % 2 == 0 ? quant::weight_format::bf16 : quant::weight_format::q8_0;
        context(attend, part(queries, heads * head_dim), some, rotary, 0, attended);
        out.insert(out.end(), attended.data(), attended.data() + attended.size());
      });
    };
    std::vector<float> together, alone;
    run(0, tables.size(), 0, together);
    index_t first = 0;
    for (std::size_t i = 0; i < tables.size(); ++i) {
      run(i, i + 1, first, alone);
      first += tables[i].size();
    }
    CHECK(tests::same_bits(together, alone));
  }
}

TEST_CASE("few rows over many keys, which threads share out, attend as one thread has them") {
  const index_t heads = 4, kv_heads = 2, head_dim = 12, features = kv_heads * head_dim, sources = 6300, targets = 530;
  random_stream random(61);
  row_table rows, short_rows;  // some see much, one a window, one the target alone; others little
  for (const key_range seen : {key_range{0, 6300}, {900, 1290}, {0, 0}, {511, 513}}) {
    rows.add({group::target, 3.0, targets - 1}, seen, 2.5, {seen.begin > 600 ? 520 : 0, 530}, 0);
  }
  for (std::int32_t i = 0; i < 20; ++i) short_rows.add({group::target, 1.0 + i, i}, {i, i + 5}, 1.5, {0, i + 1}, 0);
  row_table blind;  // the last tile of all: nothing lies behind its state
  for (index_t i = 0; i < 3; ++i) blind.add({group::target, 1.0, i}, {7, 7}, 0, {0, 0}, 0);
  const index_t all = rows.size() + 2 * short_rows.size() + 2 * blind.size();
  const auto queries = tests::normals<float>(random, all * heads * head_dim);
  for (const auto type : cache::storage_types) {
    CAPTURE(cache::name_of(type));
    cache::key_value_cache store({1, kv_heads, head_dim, type});
    for (const auto& [which, count] : {std::pair{group::source, sources}, {group::target, targets}}) {
      const auto keys = tests::normals<float>(random, count * features),
                 values = tests::normals<float>(random, count * features);
      store.reserve(which, count);
      store.write(0, which, {0, keys.data(), values.data(), count, features, features});
      store.commit(which, count);
    }
    for (const auto mode : {ops::compute_mode::f32, ops::compute_mode::bf16}) {
      const auto run = [&](int threads) {
        eval context(ops::eval_options{threads, mode});
        const auto out = context.make(all, heads * head_dim), in = context.make(all, heads * head_dim);
        std::copy(queries.begin(), queries.end(), in.data());
        context.team.run([&] {
          const std::vector<double> frequencies{1, 0.3, 0.1, 0.03, 0.01, 0.001};
          std::vector<ops::attention_stream<cache::key_value_cache>> streams;
          index_t first = 0;
          for (const row_table* some : {&short_rows, &blind, &rows, &short_rows, &blind}) {
            streams.push_back({some, {context(ops::rotary_table{frequencies, 1}, *some)}, &store, first});
            first += some->size();
          }
          ops::range_attention attend{heads, kv_heads, head_dim, 0.3f, 0};
          attend.layer_format = quant::weight_format::bf16;
          context(attend, in, ops::attention_streams<cache::key_value_cache>(streams), 0, 0, out);
        });
        return std::vector<float>(out.data(), out.data() + out.size());
      };
      const auto alone = run(1);
      for (index_t i = (all - blind.size()) * heads * head_dim; i < all * heads * head_dim; ++i) {
        CHECK(alone[static_cast<std::size_t>(i)] == 0);
      }
      for (const int threads : {2, 3, 8}) CHECK(tests::same_bits(run(threads), alone));
    }
  }
}

TEST_CASE("streams that do not fit their pass are refused") {
  using stream = ops::attention_stream<cache::key_value_cache>;
  random_stream random(60);
  const auto rows = some_rows(random, 3, 1, 0);
  cache::key_value_cache store({1, 1, 4});
  store.reserve(group::source, 3);
  store.reserve(group::target, 1);
  eval context;
  const auto x = context.make(4, 4);
  std::fill_n(x.data(), x.size(), 1.0f);
  const ops::store_keys write{4};
  const ops::range_attention attend{1, 1, 4};
  for (const index_t first : {index_t{1}, index_t{-1}}) {
    const stream gap{&rows, {}, &store, first};
    CHECK_THROWS_AS(context(write, x, x, std::span(&gap, 1), ops::no_rotary, 0), shape_error);
    CHECK_THROWS_AS(context(attend, x, std::span(&gap, 1), ops::no_rotary, 0, x), shape_error);
  }
  const stream fits{&rows, {}, &store, 0};
  const auto longer = context.make(5, 4);
  CHECK_THROWS_AS(context(write, longer, longer, std::span(&fits, 1), ops::no_rotary, 0), shape_error);
  CHECK_THROWS_AS(context(attend, context.make(4, 8), std::span(&fits, 1), ops::no_rotary, 0, x), shape_error);
  CHECK_NOTHROW(context(write, x, x, std::span(&fits, 1), ops::no_rotary, 0));
}

/// Queries, keys and values of a pass over one stream, and what the definition says attention gives for them.
struct attention_pass {
  index_t heads = 4, kv_heads = 2, head_dim = 8;
  row_table rows;
  std::vector<float> queries, keys, values;
  std::vector<double> frequencies = nn::rotary_frequencies({8, 10000, nn::rope_scaling::none, 1, 1, 4, 8192, {}});

  std::vector<float> run(eval& context) const {
    cache::key_value_cache store({1, kv_heads, head_dim});
    store.reserve(group::source, 100);
    store.reserve(group::target, 100);
    const auto value = [&](const std::vector<float>& from) {
      const auto out = context.make(rows.size(), static_cast<index_t>(from.size()) / rows.size());
      std::copy(from.begin(), from.end(), out.data());
      return out;
    };
    std::vector<float> out;
    context.memory.reset();
    context.team.run([&] {
      const auto angles = context(ops::rotary_table{frequencies, 1}, rows);
      const auto attended = context.make(rows.size(), heads * head_dim);
      const ops::attention_stream<cache::key_value_cache> stream{&rows, {angles}, &store, 0};
      const std::span streams(&stream, 1);
      context(ops::store_keys{head_dim}, value(keys), value(values), streams, 0, 0);
      context(ops::range_attention{heads, kv_heads, head_dim, 0.4f, 0}, value(queries), streams, 0, 0, attended);
      out = copy_of(attended);
    });
    return out;
  }

  [[nodiscard]] std::vector<double> by_definition() const {
    std::vector<double> out;
    const auto at = [&](const std::vector<float>& all, index_t row, index_t head, index_t count, index_t i) {
      return static_cast<double>(all[static_cast<std::size_t>((row * count + head) * head_dim + i)]);
    };
    for (index_t q = 0; q < rows.size(); ++q) {
      for (index_t head = 0; head < heads; ++head) {
        const index_t kv = head / (heads / kv_heads);
        std::vector<double> sum(static_cast<std::size_t>(head_dim), 0.0);
        double total = 0;
        for (index_t k = 0; k < rows.size(); ++k) {
          const auto s = static_cast<std::size_t>(rows.groups()[static_cast<std::size_t>(k)]);
          const auto range = rows.toward(s).ranges[static_cast<std::size_t>(q)];
          const auto place = rows.storage()[static_cast<std::size_t>(k)];
          if (place < range.begin || place >= range.end) continue;
          const double relative = rows.values()[static_cast<std::size_t>(q)] +
                                  rows.toward(s).offsets[static_cast<std::size_t>(q)] -
                                  rows.values()[static_cast<std::size_t>(k)];
          double score = 0;
          for (index_t i = 0; i < head_dim / 2; ++i) {
            const double angle = relative * frequencies[static_cast<std::size_t>(i)], c = std::cos(angle),
                         sn = std::sin(angle);
            const double a = at(queries, q, head, heads, i), b = at(queries, q, head, heads, i + head_dim / 2);
            score += (a * c - b * sn) * at(keys, k, kv, kv_heads, i) +
                     (b * c + a * sn) * at(keys, k, kv, kv_heads, i + head_dim / 2);
          }
          const double weight = std::exp(score * static_cast<double>(0.4f));
          total += weight;
          for (index_t i = 0; i < head_dim; ++i)
            sum[static_cast<std::size_t>(i)] += weight * at(values, k, kv, kv_heads, i);
        }
        for (const double value : sum) out.push_back(total > 0 ? value / total : 0);
      }
    }
    return out;
  }
};

TEST_CASE("keys turn once by their own position, queries by theirs in the keys' frame") {
  random_stream random(8);
  for (int turn = 0; turn < 30; ++turn) {
    attention_pass pass;
    const bool shifted[] = {random.below(2) == 0, random.below(2) == 0};
    index_t stored[] = {0, 0};
    const index_t count = tests::between(random, 1, 40);
    std::vector<std::array<index_t, 2>> see;
    for (index_t i = 0; i < count; ++i) {
      const auto of = static_cast<std::size_t>(random.below(2));
      const auto own = stored[of]++;
      const auto range = [&](std::size_t s) {
        const auto end = static_cast<std::int32_t>(random.below(stored[s] + 1));
        return key_range{static_cast<std::int32_t>(random.below(end + 1)), end};
      };
      pass.rows.add({static_cast<group>(of), 50 * random.uniform(), own}, range(0),
                    shifted[0] ? 20 * random.uniform() : 0, range(1), shifted[1] ? -20 * random.uniform() : 0);
    }
    pass.queries = tests::normals<float>(random, count * 32);
    pass.keys = tests::normals<float>(random, count * 16);
    pass.values = tests::normals<float>(random, count * 16);
    const auto expected = pass.by_definition();
    for (const auto which : tests::runnable_instruction_sets()) {
      eval context({1, ops::compute_mode::f32, which}), threads({3, ops::compute_mode::f32, which});
      const auto found = pass.run(context);
      double most = 0;
      for (std::size_t i = 0; i < found.size(); ++i)
        most = std::max(most, std::fabs(static_cast<double>(found[i]) - expected[i]));
      CHECK(most < 2e-5);
      CHECK(tests::same_bits(pass.run(threads), found));
    }
  }
}

TEST_CASE("a stop request is seen between layers") {
  eval context;
  std::stop_source source;
  CHECK_NOTHROW(context.check_stop());
  context.stop = source.get_token();
  CHECK_NOTHROW(context.check_stop());
  source.request_stop();
  CHECK_THROWS_AS(context.check_stop(), cancelled_error);
  const auto x = context.make(1, 1);
  CHECK_THROWS_AS((void)context.block(x, [](const auto& in) { return in; }), cancelled_error);
}

}  // namespace
