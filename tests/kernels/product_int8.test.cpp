// SPDX-License-Identifier: Apache-2.0
#include <runnel/kernels/product_int8.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <runnel/kernels/reference/product.hpp>
#include <runnel/ops/product.hpp>

#include "support/instruction_sets.hpp"
#include "support/random_values.hpp"

// Products in bf16 and in bytes against the scalar twin, through the op that converts their inputs.

namespace {

using namespace runnel;
using ops::compute_mode;
using quant::weight_format;

constexpr float inf = std::numeric_limits<float>::infinity();

bool has_minimums(weight_format format) {
  bool found = false;
  quant::with_byte_codec(format, [&]<class Codec>(Codec) { found = Codec::has_minimums; });
  return found;
}

index_t group_size(weight_format format) {
  index_t found = 32;
  quant::with_byte_codec(format, [&]<class Codec>(Codec) { found = static_cast<index_t>(Codec::group_size); });
  return found;
}

/// A matrix and what it decodes to.
struct matrix {
  ops::prepared_matrix packed;
  std::vector<double> values;
  std::vector<double> sizes;  // of what a product adds up for each value: a quant's part and the minimum, apart

  matrix(random_stream& random, weight_format format, index_t outputs, index_t inputs, bool row_scales = false,
         index_t planes = 1) {
    const auto plain = tests::normals<float>(random, outputs * inputs);
    std::vector<std::byte> bytes(static_cast<std::size_t>(quant::bytes_for(format, plain.size())));
    quant::encode(format, plain.data(), plain.size(), bytes.data());
    const ops::matrix_source source{format, outputs, inputs, bytes, {}, {planes, planes}};
    packed = row_scales ? ops::prepared_matrix::prepare_byte_rows(source) : ops::prepared_matrix::prepare(source);
    std::vector<float> row(static_cast<std::size_t>(inputs));
    for (index_t n = 0; n < outputs; ++n) {
      packed.decode_row(n, row);
      values.insert(values.end(), row.begin(), row.end());
    }
    // Where there is a minimum, both parts may be larger than their sum, but not than the block's range.
    for (std::size_t at = 0; at < values.size(); at += 32) {
      double most = 0;
      for (std::size_t i = at; i < std::min(at + 32, values.size()); ++i) most = std::max(most, std::fabs(values[i]));
      for (std::size_t i = at; i < std::min(at + 32, values.size()); ++i) {
        sizes.push_back(has_minimums(format) && !row_scales ? 3 * most : std::fabs(values[i]));
      }
    }
  }
};

std::vector<float> run(const ops::prepared_matrix& weight, std::span<const float> x, std::span<const float> bias,
                       index_t rows, compute_mode mode, instruction_set which, int threads = 1) {
  ops::eval context({threads, mode, which});
  std::vector<float> out;
  context.team.run([&] {
    const auto input = context.make(rows, weight.inputs());
    std::copy(x.begin(), x.end(), input.data());
    const tensor_view<const float, 1> b =
        bias.empty() ? tensor_view<const float, 1>{}
                     : tensor_view<const float, 1>(bias.data(), {static_cast<index_t>(bias.size())});
    const auto y = context(ops::product{}, input, weight, b);
    out.assign(y.data(), y.data() + y.size());
  });
  return out;
}

/// What a mode makes of inputs and weights before it multiplies them exactly.
void rounded_operands(compute_mode mode, const ops::prepared_matrix& weight, index_t rows, std::vector<double>& x,
                      std::vector<double>& w) {
  if (mode == compute_mode::f32) return;
  if (mode == compute_mode::bf16) {
    std::vector<double> rest = x;
    kernels::reference::round_to_bf16(x, x);
    if (weight.planes().pairs == 2) {
      for (std::size_t i = 0; i < x.size(); ++i) rest[i] -= x[i];
      kernels::reference::round_to_bf16(rest, rest);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] += rest[i];
    }
    kernels::reference::round_to_bf16(w, w);
    return;
  }
  const auto inputs = static_cast<std::size_t>(weight.inputs());
  const std::size_t block = weight.has_row_scales() ? inputs : 32;
  std::vector<float> plain(x.begin(), x.end());
  for (std::size_t at = 0; at < static_cast<std::size_t>(rows) * inputs; at += block) {
    const std::span<float> from = std::span(plain).subspan(at, block);
    const std::span<double> to = std::span(x).subspan(at, block);
    kernels::reference::round_to_bytes(from, to);
    if (weight.planes().bytes == 1) continue;
    std::vector<double> first(to.begin(), to.end());
    for (std::size_t i = 0; i < block; ++i) from[i] = static_cast<float>(static_cast<double>(from[i]) - first[i]);
    kernels::reference::round_to_bytes(from, to);
    for (std::size_t i = 0; i < block; ++i) to[i] += first[i];
  }
}

struct kind {
  weight_format format;
  compute_mode mode;
  bool row_scales = false;
  index_t planes = 1;
};

const std::vector<kind>& kinds() {
  static const std::vector<kind> all = [] {
    std::vector<kind> made;
    for (const auto& format : quant::all_formats) {
      made.push_back({format.format, compute_mode::bf16});
      made.push_back({format.format, compute_mode::bf16, false, 2});
      if (ops::effective_compute(compute_mode::int8, format.format) != compute_mode::int8) continue;
      made.push_back({format.format, compute_mode::int8});
      made.push_back({format.format, compute_mode::int8, false, 2});
    }
    made.push_back({weight_format::f32, compute_mode::int8, true});
    made.push_back({weight_format::q4_1, compute_mode::int8, true});
    made.push_back({weight_format::q5_k, compute_mode::int8, true});
    made.push_back({weight_format::f16, compute_mode::f32, true});
    return made;
  }();
  return all;
}

/// Largest error in units of what the chain of float steps allows.
double error(const kind& of, const matrix& m, index_t rows, std::span<const float> x, std::span<const float> bias,
             std::span<const float> found) {
  const index_t outputs = m.packed.outputs(), inputs = m.packed.inputs();
  std::vector<double> exact_x(x.begin(), x.end()), w = m.values, b(bias.begin(), bias.end());
  rounded_operands(of.mode, m.packed, rows, exact_x, w);
  std::vector<double> y(static_cast<std::size_t>(rows * outputs));
  kernels::reference::product<double>(exact_x, w, b, rows, outputs, inputs, y);
  // Sums of bytes are exact, so only their scales and the steps from block to block round.
  const bool in_bytes = of.mode == compute_mode::int8;
  const index_t chain = 2 * (inputs / group_size(of.format)) * of.planes;
  const auto steps = static_cast<double>(in_bytes ? chain + 6 : 2 * inputs * of.planes + 6);
  std::vector<double> x_sizes = exact_x, size(y.size());
  for (double& value : x_sizes) value = std::fabs(value);
  kernels::reference::product<double>(x_sizes, m.sizes, std::vector<double>{}, rows, outputs, inputs, size);
  double most = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (!bias.empty()) size[i] += std::fabs(b[i % static_cast<std::size_t>(outputs)]);
    const double allowed = 1e-30 + size[i] * steps * 6e-8;
    const double difference = std::fabs(static_cast<double>(found[i]) - y[i]);
    most = std::isnan(difference) ? INFINITY : std::max(most, difference / allowed);
  }
  return most;
}

TEST_CASE("products in bf16 and bytes are right, and row-pure for any rows and threads") {
  random_stream random(31);
  for (int turn = 0; turn < 8; ++turn) {
    for (const kind& of : kinds()) {
      const bool any = !of.row_scales && quant::info(of.format).block_size == 1;
      const auto block = std::max<index_t>(32, static_cast<index_t>(quant::info(of.format).block_size));
      const index_t most = turn == 0 ? 1280 / block : block == 32 ? 6 : 3;
      const bool stretches = any && turn == 1;  // more than one stretch of weights that are multiplied as they lie
      const index_t inputs = stretches ? tests::between(random, 4096, 4200)
                             : any     ? tests::between(random, 1, 600)
                                       : block * tests::between(random, 1, most);
      const index_t outputs = tests::between(random, 1, stretches ? 40 : 100),
                    rows = tests::between(random, 1, turn % 2 == 0 ? 40 : 9);
      const matrix m(random, of.format, outputs, inputs, of.row_scales, of.planes);
      CAPTURE(of.planes);
      auto x = tests::normals<float>(random, rows * inputs);
      for (index_t k = 0; k < inputs; ++k) x[static_cast<std::size_t>(random.below(rows) * inputs + k)] = 0;
      x[static_cast<std::size_t>(random.below(rows * inputs))] = 300;  // an outlier, as real activations have
      const auto bias = random.below(2) == 1 ? tests::normals<float>(random, outputs) : std::vector<float>{};
      CAPTURE(std::string(quant::info(of.format).name));
      CAPTURE(ops::name_of(of.mode));
      CAPTURE(of.row_scales);
      CAPTURE(rows);
      CAPTURE(outputs);
      CAPTURE(inputs);
      std::vector<float> baseline;
      for (const instruction_set which : tests::runnable_instruction_sets()) {
        CAPTURE(name_of(which));
        const auto all = run(m.packed, x, bias, rows, of.mode, which);
        CHECK(error(of, m, rows, x, bias, all) <= 1);
        CHECK(tests::same_bits(run(m.packed, x, bias, rows, of.mode, which, 3), all));
        for (index_t first = 0; first < rows;) {
          const index_t count = tests::between(random, 1, rows - first);
          const auto part = run(m.packed,
                                std::span(x)
                                    .subspan(static_cast<std::size_t>(first * inputs))
                                    .first(static_cast<std::size_t>(count * inputs)),
                                bias, count, of.mode, which);
          CHECK(tests::same_bits(
              std::span<const float>(part),
              std::span<const float>(all).subspan(static_cast<std::size_t>(first * outputs), part.size())));
          first += count;
        }
      }
    }
  }
}

TEST_CASE("whole sums are exact at their extremes") {
  // 255 and 15 are the largest quants, -127 and 127 the largest inputs; two products fill 16 bits and more.
  for (const weight_format format : {weight_format::q8_0, weight_format::q4_0, weight_format::q4_1}) {
    for (const float sign : {-1.0f, 1.0f}) {
      std::vector<float> values(64);
      for (std::size_t k = 0; k < 64; ++k)
        values[k] = k % 32 == 0 ? -sign * 8 : sign * (format == weight_format::q8_0 ? 8 : 7);
      std::vector<std::byte> bytes(static_cast<std::size_t>(quant::bytes_for(format, 64)));
      quant::encode(format, values.data(), 64, bytes.data());
      const auto weight = ops::prepared_matrix::prepare({format, 1, 64, bytes, {}});
      std::vector<float> decoded(64), x(64, 127.0f);
      weight.decode_row(0, decoded);
      double expected = 0;
      for (const float value : decoded) expected += 127.0 * static_cast<double>(value);
      for (const instruction_set which : tests::runnable_instruction_sets()) {
        const auto y = run(weight, x, {}, 1, compute_mode::int8, which);
        CHECK(static_cast<double>(y[0]) == doctest::Approx(expected).epsilon(1e-6));
      }
    }
  }
}

TEST_CASE("blocks of all bits and of none are summed exactly") {
  for (const auto& format : quant::all_formats) {
    if (ops::effective_compute(compute_mode::int8, format.format) != compute_mode::int8) continue;
    CAPTURE(std::string(format.name));
    for (const int fill : {0x00, 0xff, 0x77, 0x88}) {
      std::vector<std::byte> bytes(static_cast<std::size_t>(quant::bytes_for(format.format, 512)),
                                   static_cast<std::byte>(fill));
      for (std::size_t at = 0; at < bytes.size(); at += format.block_bytes) {
        for (std::size_t half = 0; half + 1 < format.block_bytes; half += format.block_bytes - 2) {
          for (const std::size_t i : {half, half + 2}) {  // wherever a scale or minimum may be
            if (i + 2 <= format.block_bytes) std::memcpy(bytes.data() + at + i, "\x00\x34", 2);
          }
        }
        if (format.format == weight_format::q2_k) std::memcpy(bytes.data() + at + 80, "\x00\x34", 2);
      }
      const auto weight = ops::prepared_matrix::prepare({format.format, 1, 512, bytes, {}});
      std::vector<float> decoded(512), x(512);
      weight.decode_row(0, decoded);
      for (const float sign : {-127.0f, 127.0f}) {
        double expected = 0, size = 0;
        for (std::size_t k = 0; k < 512; ++k) {
          x[k] = k % 7 == 6 ? 0.0f : sign;
          expected += static_cast<double>(x[k]) * static_cast<double>(decoded[k]);
          size += 127 * std::fabs(static_cast<double>(decoded[k]));
        }
        for (const instruction_set which : tests::runnable_instruction_sets()) {
          const auto y = run(weight, x, {}, 1, compute_mode::int8, which);
          CHECK(std::fabs(static_cast<double>(y[0]) - expected) <= 1e-5 * size + 1e-20);
        }
      }
    }
  }
}

TEST_CASE("two planes have the digits of 16 bits") {
  random_stream random(36);
  const auto x = tests::normals<float>(random, 256);
  for (const auto& [format, mode] :
       {std::pair(weight_format::q4_1, compute_mode::int8), std::pair(weight_format::bf16, compute_mode::bf16)}) {
    const matrix one(random, format, 40, 256), two(random, format, 40, 256, false, 2);
    const auto off = [&, mode = mode](const matrix& m, instruction_set which) {
      const auto exact = run(m.packed, x, {}, 1, compute_mode::f32, which);
      const auto found = run(m.packed, x, {}, 1, mode, which);
      double sum = 0;
      for (std::size_t n = 0; n < exact.size(); ++n) sum += std::fabs(static_cast<double>(found[n] - exact[n]));
      return sum;
    };
    for (const instruction_set which : tests::runnable_instruction_sets()) {
      CHECK(off(two, which) < off(one, which) / 50);
    }
  }
}

TEST_CASE("projections of one input share it, whatever their formats and planes") {
  random_stream random(37);
  const matrix plain(random, weight_format::q8_0, 40, 64), fine(random, weight_format::q8_0, 33, 64, false, 2),
      other(random, weight_format::q4_1, 70, 64), wide(random, weight_format::bf16, 5, 64),
      wide_fine(random, weight_format::bf16, 5, 64, false, 2), wide_too(random, weight_format::f32, 34, 64, false, 2);
  const auto x = tests::normals<float>(random, 6 * 64);
  struct projection {
    const ops::prepared_matrix& weight;
    tensor_view<const float, 1> bias;
  };
  for (const instruction_set which : tests::runnable_instruction_sets()) {
    for (const auto mode : {compute_mode::f32, compute_mode::bf16, compute_mode::int8}) {
      ops::eval context({3, mode, which});
      context.team.run([&] {
        const auto input = context.make(6, 64);
        std::copy(x.begin(), x.end(), input.data());
        const auto all = context(ops::products{}, input, projection{plain.packed, {}}, projection{fine.packed, {}},
                                 projection{other.packed, {}}, projection{wide.packed, {}},
                                 projection{wide_fine.packed, {}}, projection{wide_too.packed, {}});
        const matrix* const weights[] = {&plain, &fine, &other, &wide, &wide_fine, &wide_too};
        for (std::size_t i = 0; i < all.size(); ++i) {
          const std::vector<float> alone = run(weights[i]->packed, x, {}, 6, mode, which);
          CHECK(tests::same_bits(std::span<const float>(all[i].data(), alone.size()), std::span<const float>(alone)));
        }
      });
    }
  }
}

TEST_CASE("a gated product is both products and the activation") {
  random_stream random(38);
  const matrix gate(random, weight_format::q4_1, 45, 64), up(random, weight_format::q8_0, 45, 64);
  const auto x = tests::normals<float>(random, 7 * 64);
  struct projection {
    const ops::prepared_matrix& weight;
    tensor_view<const float, 1> bias;
  };
  for (const instruction_set which : tests::runnable_instruction_sets()) {
    for (const auto mode : {compute_mode::f32, compute_mode::bf16, compute_mode::int8}) {
      const auto left = run(gate.packed, x, {}, 7, mode, which), right = run(up.packed, x, {}, 7, mode, which);
      ops::eval context({3, mode, which});
      context.team.run([&] {
        const auto input = context.make(7, 64);
        std::copy(x.begin(), x.end(), input.data());
        const auto y = context(ops::gated_product{}, input, projection{gate.packed, {}}, projection{up.packed, {}});
        for (std::size_t i = 0; i < left.size(); ++i) {
          const double g = static_cast<double>(left[i]);
          const double expected = g / (1 + std::exp(-g)) * static_cast<double>(right[i]);
          CHECK(std::fabs(static_cast<double>(y.data()[i]) - expected) <= 1e-5 * (1 + std::fabs(expected)));
        }
      });
    }
  }
}

TEST_CASE("rows of bytes as long as they may be do not overflow") {
  const index_t inputs = 131072;
  const std::vector<float> ones(static_cast<std::size_t>(inputs), 127.0f);
  for (const float sign : {1.0f, -1.0f}) {
    std::vector<float> values(static_cast<std::size_t>(inputs), sign);
    const auto weight = ops::prepared_matrix::prepare_byte_rows(
        {weight_format::f32, 1, inputs, std::as_bytes(std::span<const float>(values)), {}});
    std::vector<float> decoded(static_cast<std::size_t>(inputs));
    weight.decode_row(0, decoded);
    const double expected = 127.0 * static_cast<double>(inputs) * static_cast<double>(decoded[0]);
    for (const instruction_set which : tests::runnable_instruction_sets()) {
      const auto y = run(weight, ones, {}, 1, compute_mode::int8, which);
      CHECK(static_cast<double>(y[0]) == doctest::Approx(expected).epsilon(1e-6));
    }
    values.resize(static_cast<std::size_t>(inputs) + 32);
    CHECK_THROWS_WITH_AS((void)ops::prepared_matrix::prepare_byte_rows(
                             {weight_format::f32, 1, inputs + 32, std::as_bytes(std::span<const float>(values)), {}}),
                         "matrix: rows of bytes have at most 131072 inputs, found 131104", shape_error);
  }
}

TEST_CASE("rows of bytes that are not finite, tiny or zero") {
  random_stream random(33);
  for (const bool row_scales : {false, true}) {
    const matrix m(random, weight_format::q8_0, 33, 96, row_scales);
    for (const instruction_set which : tests::runnable_instruction_sets()) {
      auto x = tests::normals<float>(random, 3 * 96);
      const auto plain = run(m.packed, x, {}, 3, compute_mode::int8, which);
      for (const float poison : {inf, -inf, std::numeric_limits<float>::quiet_NaN()}) {
        auto broken = x;
        broken[96 + 40] = poison;
        const auto y = run(m.packed, broken, {}, 3, compute_mode::int8, which);
        for (std::size_t n = 0; n < 33; ++n) {
          CHECK(std::isnan(y[33 + n]));
          CHECK(y[n] == plain[n]);
          CHECK(y[66 + n] == plain[66 + n]);
        }
      }
      for (const float tiny : {0.0f, 1e-40f, std::numeric_limits<float>::denorm_min()}) {
        const std::vector<float> small(96, tiny);
        for (const float value : run(m.packed, small, {}, 1, compute_mode::int8, which)) CHECK(value == 0);
      }
      const std::vector<float> huge(96, std::numeric_limits<float>::max() / 1e4f);
      for (const float value : run(m.packed, huge, {}, 1, compute_mode::int8, which)) CHECK(std::isfinite(value));
    }
  }
}

TEST_CASE("bf16 products carry zeros, infinities and NaN") {
  random_stream random(34);
  const matrix one(random, weight_format::bf16, 37, 11), two(random, weight_format::bf16, 37, 11, false, 2);
  for (const instruction_set which : tests::runnable_instruction_sets()) {
    for (const matrix& m : {std::cref(one), std::cref(two)}) {
      std::vector<float> x(11, 0.0f);
      for (const float value : run(m.packed, x, {}, 1, compute_mode::bf16, which)) CHECK(value == 0);
      x[10] = inf;  // the odd last input shares its word with nothing
      auto y = run(m.packed, x, {}, 1, compute_mode::bf16, which);
      for (std::size_t n = 0; n < 37; ++n) CHECK(y[n] == (m.values[n * 11 + 10] > 0 ? inf : -inf));
      x[3] = std::numeric_limits<float>::quiet_NaN();
      y = run(m.packed, x, {}, 1, compute_mode::bf16, which);
      for (const float value : y) CHECK(std::isnan(value));
      x.assign(11, 0.0f);
      x[2] = std::nextafter(std::numeric_limits<float>::max(), 0.0f);  // rounds to infinity
      y = run(m.packed, x, {}, 1, compute_mode::bf16, which);
      for (const float value : y) CHECK(std::isinf(value));
    }
  }
}

TEST_CASE("quants stay within 127 and near their inputs at every magnitude") {
  random_stream random(36);
  for (int exponent = -148; exponent < 128; ++exponent) {
    CAPTURE(exponent);
    std::vector<float> x(64);
    for (float& value : x) value = std::ldexp(static_cast<float>(2 * random.uniform() - 1), exponent);
    x[static_cast<std::size_t>(random.below(64))] = std::ldexp(std::nextafter(1.0f, 0.0f), exponent);
    tests::for_each_arch([&]<class Arch>(Arch) {
      std::vector<kernels::byte_block> blocks(4);  // two planes
      kernels::quantize_row<Arch>(x.data(), 64, 8, 2, blocks.data());
      for (std::size_t k = 0; k < 64; ++k) {
        const auto &first = blocks[k / 32], &second = blocks[2 + k / 32];
        const int quant = first.quants[k % 32];
        CHECK(std::abs(quant) <= 127);
        const double rest = static_cast<double>(x[k]) - static_cast<double>(first.scale) * quant;
        if (first.scale == 0) {
          CHECK(quant == 0);
          CHECK(std::fabs(x[k]) < 127 * 4e-37f);
          continue;
        }
        CHECK(std::fabs(rest) <= 0.501 * static_cast<double>(first.scale));
        if (second.scale != 0) {
          const double more = static_cast<double>(second.scale) * static_cast<double>(second.quants[k % 32]);
          CHECK(std::fabs(rest - more) <= 0.501 * static_cast<double>(second.scale));
        }
      }
    });
  }
}

TEST_CASE("inputs of rows that lie unaligned round to the same numbers") {
  random_stream random(35);
  const auto x = tests::normals<float>(random, 160);
  for (const instruction_set which : tests::runnable_instruction_sets()) {
    simd::with_arch(which, [&]<class Arch>(Arch) {
      std::vector<kernels::byte_block> blocks(5), other(5);
      std::vector<quant::word> pairs(80), other_pairs(80);
      std::vector<kernels::split_pair> split(80), other_split(80);
      kernels::quantize_row<Arch>(x.data(), 160, 8, 1, blocks.data());
      kernels::round_row_to_bf16<Arch>(x.data(), 159, pairs.data());
      kernels::split_row_to_bf16<Arch>(x.data(), 159, split.data());
      for (std::size_t shift = 1; shift < 17; ++shift) {
        std::vector<float> moved(160 + shift);
        std::copy(x.begin(), x.end(), moved.begin() + static_cast<std::ptrdiff_t>(shift));
        kernels::quantize_row<Arch>(moved.data() + shift, 160, 8, 1, other.data());
        kernels::round_row_to_bf16<Arch>(moved.data() + shift, 159, other_pairs.data());
        kernels::split_row_to_bf16<Arch>(moved.data() + shift, 159, other_split.data());
        for (std::size_t b = 0; b < blocks.size(); ++b) {
          CHECK(other[b].quants == blocks[b].quants);
          CHECK(other[b].scale == blocks[b].scale);
          CHECK(other[b].start == blocks[b].start);
        }
        CHECK(other_pairs == pairs);
        for (std::size_t k = 0; k < split.size(); ++k) {
          CHECK(split[k].rounded == pairs[k]);
          CHECK(other_split[k].rounded == split[k].rounded);
          CHECK(other_split[k].rest == split[k].rest);
        }
      }
      CHECK((pairs.back() >> 16) == 0);
      for (std::size_t k = 0; k < 158; ++k) {
        const auto pair = static_cast<std::uint32_t>(pairs[k / 2]);
        CHECK(static_cast<std::uint16_t>(k % 2 == 0 ? pair : pair >> 16) == bf16(x[k]).bits);
      }
    });
  }
}

}  // namespace
