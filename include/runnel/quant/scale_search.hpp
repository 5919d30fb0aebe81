// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include <runnel/quant/super_block.hpp>

/// \file
/// How the K formats are encoded: for every group a scale (and minimum) with the least weighted squared error, then for
/// the super-block the two f16 and the small whole numbers, mended in turn until nothing gets better.
///
/// With quants q held, the best scale is a linear least squares fit; with scales held, the best quants are the nearest.
/// Both steps only ever lessen the error, and the search begins at many scales, as it ends in the next valley.
///
/// Large values count more where quants are few: weights were chosen by what they do to the predictions of a model.

namespace runnel::quant::detail {

/// x rounded to the nearest whole number, ties to even, for |x| < 2^22: no call, whatever the instruction set.
[[nodiscard]] inline float nearest(float x) noexcept {
  constexpr float shift = 12582912.0f;  // 1.5 x 2^23
  return (x + shift) - shift;
}

[[nodiscard]] inline float limited(float x, float least, float most) noexcept {
  return std::max(least, std::min(most, x));
}

/// The f16 nearest to x, as a float; not finite becomes the largest.
[[nodiscard]] inline float as_half(float x) noexcept {
  return static_cast<float>(f16(limited(x, -65504.0f, 65504.0f)));
}

/// A group of values and what their errors count.
template <std::size_t Size>
struct group_values {
  std::array<float, Size> x;
  std::array<float, Size> weights;
};

/// x = scale q - minimum.
struct group_fit {
  float scale = 0;
  float minimum = 0;
  float error = std::numeric_limits<float>::infinity();
};

/// Sums that a least squares fit takes.
struct fit_sums {
  float w = 0, x = 0, q = 0, xx = 0, xq = 0, qq = 0;
};

/// Quantizes with `scale` and `minimum`, and gives the sums for what came out.
template <std::size_t Size>
[[nodiscard]] fit_sums quantize_group(const group_values<Size>& group, float scale, float minimum, float least,
                                      float most) noexcept {
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  std::array<fit_sums, 4> parts{};  // independent chains
  for (std::size_t i = 0; i < Size; i += parts.size()) {
    for (std::size_t j = 0; j < parts.size(); ++j) {
      const float w = group.weights[i + j], x = group.x[i + j];
      const float q = limited(nearest((x + minimum) * inverse), least, most);
      parts[j].w += w;
      parts[j].x += w * x;
      parts[j].q += w * q;
      parts[j].xx += w * x * x;
      parts[j].xq += w * x * q;
      parts[j].qq += w * q * q;
    }
  }
  fit_sums all;
  for (const fit_sums& part : parts) {
    all.w += part.w;
    all.x += part.x;
    all.q += part.q;
    all.xx += part.xx;
    all.xq += part.xq;
    all.qq += part.qq;
  }
  return all;
}

/// Weighted squared error of the nearest quants.
template <std::size_t Size>
[[nodiscard]] float group_error(const group_values<Size>& group, float scale, float minimum, float least,
                                float most) noexcept {
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  std::array<float, 4> parts{};
  for (std::size_t i = 0; i < Size; i += parts.size()) {
    for (std::size_t j = 0; j < parts.size(); ++j) {
      const float x = group.x[i + j];
      const float q = limited(nearest((x + minimum) * inverse), least, most);
      const float off = scale * q - minimum - x;
      parts[j] += group.weights[i + j] * off * off;
    }
  }
  return (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

/// The best scale without a minimum, quants in [least, most].
template <std::size_t Size>
[[nodiscard]] group_fit fit_scale(const group_values<Size>& group, float least, float most) noexcept {
  float extreme = 0;
  for (const float x : group.x) {
    if (std::fabs(x) > std::fabs(extreme)) extreme = x;
  }
  group_fit best{0, 0, std::numeric_limits<float>::infinity()};
  if (!(std::fabs(extreme) > 1e-30f)) return best;
  float gain = 0;
  const auto attempt = [&](float at) {
    for (int turn = 0; turn < 2; ++turn) {
      const fit_sums sums = quantize_group(group, at, 0, least, most);
      if (!(sums.qq > 0)) return;
      at = sums.xq / sums.qq;
      if (at * sums.xq > gain) {
        gain = at * sums.xq;
        best.scale = at;
      }
    }
  };
  // The extreme takes the last quant of one side or of the other, or is cut off or left inside a little.
  for (int step = -3; step <= 4; ++step) {
    const float beyond = 0.2f * static_cast<float>(step);
    attempt(extreme / (least - beyond));
    attempt(extreme / (most + beyond));
  }
  return best;
}

/// The best scale and minimum, neither below zero, quants in [0, most].
template <std::size_t Size>
[[nodiscard]] group_fit fit_scale_and_minimum(const group_values<Size>& group, float most) noexcept {
  const auto [low, high] = std::minmax_element(group.x.begin(), group.x.end());
  const float floor = std::min(0.0f, *low), range = *high - floor;
  group_fit best{0, -floor, 0};
  best.error = group_error(group, 0, -floor, 0, 0);
  if (!(range > 1e-30f)) return best;
  const auto attempt = [&](float scale, float minimum) {
    for (int turn = 0; turn < 3; ++turn) {
      const fit_sums sums = quantize_group(group, scale, minimum, 0, most);
      const float spread = sums.w * sums.qq - sums.q * sums.q;
      if (!(spread > 0)) return;
      scale = (sums.w * sums.xq - sums.x * sums.q) / spread;
      minimum = (sums.q * sums.xq - sums.qq * sums.x) / spread;
      if (minimum < 0) {
        minimum = 0;
        scale = sums.xq / sums.qq;
      }
      if (!(scale > 0)) return;
      const float error = group_error(group, scale, minimum, 0, most);
      if (error < best.error) {
        best = {scale, minimum, error};
      } else if (turn > 0) {
        return;
      }
    }
  };
  for (int step = -3; step <= 6; ++step) attempt(range / (most + 0.2f * static_cast<float>(step)), -floor);
  return best;
}

/// The groups of a super-block.
template <class Layout>
using super_block_values = std::array<group_values<Layout::group_size>, super_block_size / Layout::group_size>;

/// What a super-block is encoded as.
template <class Layout>
struct super_block_fit {
  float scale = 0;    ///< an f16
  float minimum = 0;  ///< an f16
  group_scales<super_block_size / Layout::group_size> groups;
  double error = std::numeric_limits<double>::infinity();
};

template <class Layout>
inline constexpr float least_quant = static_cast<float>(-Layout::zero_point);
template <class Layout>
inline constexpr float most_quant = static_cast<float>(Layout::largest - Layout::zero_point);

/// The best small numbers near what the group's own fit wants. `reach` 1 also looks at the neighbours.
template <class Layout>
float choose_small(const group_values<Layout::group_size>& group, const super_block_fit<Layout>& by, float scale,
                   float minimum, int reach, int& small, int& less) noexcept {
  const auto whole = [](float x, int least, int most) {
    return static_cast<int>(limited(nearest(x), static_cast<float>(least), static_cast<float>(most)));
  };
  const int middle = by.scale != 0 ? whole(scale / by.scale, Layout::least_scale, Layout::most_scale) : 0;
  float best = std::numeric_limits<float>::infinity();
  for (int s = std::max(middle - reach, Layout::least_scale); s <= std::min(middle + reach, Layout::most_scale); ++s) {
    int first = 0, last = 0;
    if constexpr (Layout::has_minimums) {
      const int centre = by.minimum != 0 ? whole(minimum / by.minimum, 0, Layout::most_scale) : 0;
      first = std::max(centre - reach, 0);
      last = std::min(centre + reach, Layout::most_scale);
    }
    for (int m = first; m <= last; ++m) {
      const float error = group_error(group, by.scale * static_cast<float>(s), by.minimum * static_cast<float>(m),
                                      least_quant<Layout>, most_quant<Layout>);
      if (error < best) {
        best = error;
        small = s;
        less = m;
      }
    }
  }
  return best;
}

/// Refits the two f16 of a super-block with its small numbers and the quants that they lead to.
template <class Layout>
void refit(const super_block_values<Layout>& values, super_block_fit<Layout>& fit) noexcept {
  double ss = 0, sm = 0, mm = 0, sx = 0, mx = 0;
  for (std::size_t g = 0; g < values.size(); ++g) {
    const auto s = static_cast<double>(fit.groups.scales[g]), m = static_cast<double>(fit.groups.minimums[g]);
    const fit_sums sums = quantize_group(values[g], fit.scale * static_cast<float>(s),
                                         fit.minimum * static_cast<float>(m), least_quant<Layout>, most_quant<Layout>);
    ss += s * s * static_cast<double>(sums.qq);
    sm += s * m * static_cast<double>(sums.q);
    mm += m * m * static_cast<double>(sums.w);
    sx += s * static_cast<double>(sums.xq);
    mx += m * static_cast<double>(sums.x);
  }
  const double spread = ss * mm - sm * sm;
  if (Layout::has_minimums && spread > 1e-9 * ss * mm) {
    fit.scale = as_half(static_cast<float>((sx * mm - mx * sm) / spread));
    fit.minimum = as_half(static_cast<float>((sx * sm - mx * ss) / spread));
  } else if (ss > 0) {
    fit.scale = as_half(static_cast<float>((sx + sm * static_cast<double>(fit.minimum)) / ss));
  }
}

/// Mends a fit as long as it gets better.
template <class Layout>
void improve(const super_block_values<Layout>& values,
             const std::array<group_fit, super_block_size / Layout::group_size>& wanted,
             super_block_fit<Layout>& best) noexcept {
  super_block_fit<Layout> fit = best;
  for (int turn = 0; turn < 4; ++turn) {
    fit.error = 0;
    for (std::size_t g = 0; g < values.size(); ++g) {
      fit.error += static_cast<double>(choose_small<Layout>(values[g], fit, wanted[g].scale, wanted[g].minimum, 1,
                                                            fit.groups.scales[g], fit.groups.minimums[g]));
    }
    if (!(fit.error < best.error)) return;
    best = fit;
    refit<Layout>(values, fit);
  }
}

/// The best super-block that the search finds for 256 values.
template <class Layout>
[[nodiscard]] super_block_fit<Layout> fit_super_block(const super_block_values<Layout>& values) noexcept {
  std::array<group_fit, super_block_size / Layout::group_size> wanted;
  float extreme = 0, deepest = 0;
  for (std::size_t g = 0; g < values.size(); ++g) {
    if constexpr (Layout::has_minimums) {
      wanted[g] = fit_scale_and_minimum(values[g], most_quant<Layout>);
    } else {
      wanted[g] = fit_scale(values[g], least_quant<Layout>, most_quant<Layout>);
    }
    if (std::fabs(wanted[g].scale) > std::fabs(extreme)) extreme = wanted[g].scale;
    deepest = std::max(deepest, wanted[g].minimum);
  }
  super_block_fit<Layout> best;
  const auto begin = [&](float scale, float minimum) {
    super_block_fit<Layout> fit;
    fit.scale = as_half(scale);
    fit.minimum = as_half(minimum);
    improve<Layout>(values, wanted, fit);
    if (fit.error < best.error) best = fit;
  };
  constexpr auto most = static_cast<float>(Layout::most_scale);
  begin(extreme / most, deepest / most);
  if constexpr (Layout::least_scale < 0) begin(extreme / static_cast<float>(Layout::least_scale), 0);
  return best;
}

/// Encodes 256 values.
template <class Layout>
void encode_super_block(const float* x, std::byte* block) noexcept {
  super_block_values<Layout> values;
  for (std::size_t g = 0; g < values.size(); ++g) {
    float squares = 0;
    for (std::size_t i = 0; i < Layout::group_size; ++i) {
      // What is not finite cannot be stored, nor could its square; a limit keeps every step defined.
      const float value = x[g * Layout::group_size + i];
      values[g].x[i] = std::isnan(value) ? 0.0f : limited(value, -1e9f, 1e9f);
      squares += values[g].x[i] * values[g].x[i];
    }
    for (std::size_t i = 0; i < Layout::group_size; ++i) {
      values[g].weights[i] = Layout::weight(values[g].x[i], squares / static_cast<float>(Layout::group_size));
    }
  }
  const auto fit = fit_super_block<Layout>(values);
  store_half(block + Layout::scale_offset, f16(fit.scale));
  if constexpr (Layout::has_minimums) store_half(block + Layout::scale_offset + 2, f16(fit.minimum));
  Layout::write_groups(fit.groups, block);
  for (std::size_t part = 0; part < super_block_size / 32; ++part) {
    quads all{};
    for (std::size_t k = 0; k < 32; ++k) {
      const std::size_t at = 32 * part + k, g = at / Layout::group_size;
      const float scale = fit.scale * static_cast<float>(fit.groups.scales[g]);
      const float minimum = fit.minimum * static_cast<float>(fit.groups.minimums[g]);
      const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
      const float q = limited(nearest((values[g].x[at % Layout::group_size] + minimum) * inverse), least_quant<Layout>,
                              most_quant<Layout>);
      all[k / 4] |= static_cast<quad>(static_cast<int>(q) + Layout::zero_point) << (8 * (k % 4));
    }
    Layout::write_quants(all, part, block);
  }
}

}  // namespace runnel::quant::detail
