// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/io/npy.hpp>
#include <runnel/speech/encoder_stream.hpp>
#include <runnel/speech/load.hpp>

namespace runnel::tests {

inline std::filesystem::path speech_golden(std::string_view name) {
  return std::filesystem::path(__FILE__).parent_path().parent_path() / "golden" / "speech" / name;
}

/// The audio that goldens were made with (golden/speech/generate.py).
inline std::vector<float> golden_samples(index_t count = 24000) {
  std::vector<float> out;
  for (index_t i = 0; i < count; ++i) {
    const index_t mixed = (i * 7919 + (i * i % 1013) * 31 + (i / 160) * 577) % 2003 - 1001;
    out.push_back(static_cast<float>(mixed) / 2048);
  }
  return out;
}

inline speech::frozen_statistics golden_statistics(const std::filesystem::path& folder) {
  if (!std::filesystem::exists(folder / "mean.npy")) return {};
  return {io::read_npy<float>(folder / "mean.npy").values, io::read_npy<float>(folder / "variance.npy").values};
}

inline speech::encoder golden_encoder(std::string_view name, const speech::encoder_config& config) {
  return speech::load_encoder(speech_golden(name), config, golden_statistics(speech_golden(name)));
}

/// The streaming form of a config.
inline speech::encoder_config causal_form(speech::encoder_config config, index_t left_context = 20,
                                          index_t left_pad = 80) {
  config.causal_position = config.causal_attention = true;
  config.left_context = left_context;
  config.left_pad = left_pad;
  return config;
}

/// Largest difference from a golden array.
inline double away_from(const std::filesystem::path& golden, std::span<const float> found) {
  const auto expected = io::read_npy<float>(golden);
  REQUIRE(expected.values.size() == found.size());
  double most = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    REQUIRE(std::isfinite(found[i]));
    most = std::max(most, std::fabs(static_cast<double>(found[i]) - static_cast<double>(expected.values[i])));
  }
  return most;
}

/// Frames of a stream that gets its samples `piece` at a time.
inline std::vector<float> run_stream(const speech::encoder& of, std::span<const float> samples, std::size_t piece,
                                     const speech::encoder_stream_options& options = {}) {
  speech::encoder_stream stream(of, options);
  std::vector<float> out;
  const auto take = [&](const speech::encoder_stream::frames& frames) {
    out.insert(out.end(), frames.data(), frames.data() + frames.size());
  };
  for (std::size_t at = 0; at < samples.size(); at += piece) {
    take(stream.push(samples.subspan(at, std::min(piece, samples.size() - at))));
  }
  take(stream.finish());
  CHECK(static_cast<index_t>(out.size()) == stream.num_frames() * of.config().hidden_size);
  return out;
}

}  // namespace runnel::tests
