// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

namespace runnel {

/// Spreads one 64-bit seed over many independent words (Steele, Lea and Flood's splitmix64).
class splitmix64 {
 public:
  static constexpr std::uint64_t step = 0x9e3779b97f4a7c15u;
  static constexpr std::uint64_t first_factor = 0xbf58476d1ce4e5b9u;
  static constexpr std::uint64_t second_factor = 0x94d049bb133111ebu;

  constexpr explicit splitmix64(std::uint64_t seed = 0) noexcept : state_(seed) {}
  constexpr std::uint64_t operator()() noexcept {
    state_ += step;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * first_factor;
    z = (z ^ (z >> 27)) * second_factor;
    return z ^ (z >> 31);
  }

 private:
  std::uint64_t state_;
};

/// A seed for each place of a tree: one of `seed`'s own, and on from there part by part. Saved runs depend on its bits.
template <class... Part>
[[nodiscard]] constexpr std::uint64_t derive_seed(std::uint64_t seed, Part... parts) noexcept {
  std::uint64_t out = splitmix64(seed)();
  ((out = splitmix64(out ^ static_cast<std::uint64_t>(parts))()), ...);
  return out;
}

/// Random bits that are the same on every machine (Blackman and Vigna's xoshiro256**). A value of 32 bytes: copying it
/// saves the stream, assigning it back replays the stream. Models UniformRandomBitGenerator. Not for secrets.
class random_stream {
 public:
  using result_type = std::uint64_t;

  constexpr explicit random_stream(std::uint64_t seed = 0) noexcept {
    splitmix64 spread(seed);
    for (auto& word : state_) word = spread();
  }

  static constexpr result_type min() noexcept { return 0; }
  static constexpr result_type max() noexcept { return std::numeric_limits<result_type>::max(); }

  constexpr result_type operator()() noexcept {
    const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const std::uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  /// A number in [0, 1), a multiple of 2^-53.
  constexpr double uniform() noexcept { return static_cast<double>((*this)() >> 11) * 0x1p-53; }

  /// A number in [0, `bound`), without bias worth mentioning for bounds far below 2^53; `bound` must be positive.
  constexpr std::int64_t below(std::int64_t bound) noexcept {
    return static_cast<std::int64_t>(uniform() * static_cast<double>(bound));
  }

  friend constexpr bool operator==(const random_stream&, const random_stream&) = default;

 private:
  std::uint64_t state_[4] = {};
};

}  // namespace runnel
