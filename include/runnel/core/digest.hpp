// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace runnel {

/// A number that changes with any byte: every word goes through steps that can be undone. `seed` is the digest of what
/// came before. Files hold such numbers, so they must not change from version to version. Not for secrets. Linear.
[[nodiscard]] inline std::uint64_t digest(std::span<const std::byte> bytes, std::uint64_t seed) noexcept {
  constexpr std::uint64_t odd = 0x9e3779b97f4a7c15U;
  std::array<std::uint64_t, 4> lanes{seed, seed ^ odd, ~seed, seed + odd};
  const auto add = [&](std::size_t lane, std::uint64_t word) {
    lanes[lane] = std::rotl((lanes[lane] ^ word) * odd, 29);
  };
  std::size_t i = 0;
  for (; i + 32 <= bytes.size(); i += 32) {
    std::array<std::uint64_t, 4> words;
    std::memcpy(words.data(), bytes.data() + i, sizeof words);
    for (std::size_t lane = 0; lane < 4; ++lane) add(lane, words[lane]);
  }
  for (std::size_t lane = 0; i < bytes.size(); ++lane) {
    std::uint64_t word = 0;
    const std::size_t count = std::min<std::size_t>(8, bytes.size() - i);
    std::memcpy(&word, bytes.data() + i, count);
    add(lane % 4, word);
    i += count;
  }
  std::uint64_t out = bytes.size();
  for (const std::uint64_t lane : lanes) out = std::rotl((out ^ lane) * odd, 31);
  return out ^ (out >> 32U);
}

/// The same of a text's bytes.
[[nodiscard]] inline std::uint64_t digest(std::string_view text, std::uint64_t seed) noexcept {
  return digest(std::as_bytes(std::span(text.data(), text.size())), seed);
}

}  // namespace runnel
