// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/core/index.hpp>
#include <runnel/kernels/elementwise.hpp>

namespace runnel::speech {

/// One convolution of the front end.
struct conv_shape {
  index_t outputs = 512;
  index_t kernel = 3;
  index_t stride = 2;
};

/// What norms the front end has, named as Hugging Face configs name them.
enum class front_end_norm : std::uint8_t {
  layer,  ///< layer norm of every frame after each convolution: streams exactly
  group,  ///< statistics of each channel over all time after the first: streams with frozen statistics only
};

/// What is done to samples before anything else.
enum class normalization : std::uint8_t {
  none,
  fixed,      ///< (x - mean) / deviation, both stored with the model
  running,    ///< by mean and variance of what has been heard so far, with a prior
  utterance,  ///< by mean and variance of everything: only where the whole audio is there
};

[[nodiscard]] constexpr std::string_view name_of(normalization kind) noexcept {
  switch (kind) {
    case normalization::none: return "none";
    case normalization::fixed: return "fixed";
    case normalization::running: return "running";
    case normalization::utterance: return "utterance";
  }
  return "unknown";
}

/// How samples are normalised. Samples that are no numbers, or beyond 1e8, count as 0 with each.
struct normalization_config {
  normalization kind = normalization::none;
  double mean = 0;              ///< fixed; the prior's for running
  double deviation = 1;         ///< the same
  double prior_samples = 8000;  ///< running: what the prior counts for
};

/// Sizes and form of a wav2vec2 encoder: the original, or what streams (paper, section 4.3 and Appendix B).
struct encoder_config {
  std::vector<conv_shape> convs;
  bool conv_bias = false;
  front_end_norm norm = front_end_norm::group;
  kernels::activation front_end_act = kernels::activation::gelu;
  index_t hidden_size = 0;
  index_t num_hidden_layers = 0;
  index_t num_attention_heads = 0;
  index_t intermediate_size = 0;
  kernels::activation hidden_act = kernels::activation::gelu;
  float layer_norm_eps = 1e-5f;
  bool do_stable_layer_norm = false;  ///< norms before attention and feed-forward (large models), else after (base)
  index_t position_kernel = 128;      ///< frames that the position embedding covers
  index_t position_groups = 16;
  index_t sample_rate = 16000;

  bool causal_position = false;   ///< the position embedding sees t - kernel + 1 .. t, not t - kernel / 2 ..
  bool causal_attention = false;  ///< frames see themselves and those before
  index_t left_context = 0;       ///< with causal attention: frames before itself that a frame sees; 0: all
  index_t left_pad = 0;           ///< zero samples before the first (80: each chunk of 6400 gives 20 frames)
  index_t right_pad = 0;          ///< zero samples that `finish` adds: time to say what was heard last
  bool pad_tail = false;          ///< `finish` adds zeros until the last sample is in a frame
  normalization_config input{};

  /// Whether frames come while audio does; else all of them at the end.
  [[nodiscard]] bool streams() const noexcept { return causal_position && causal_attention; }
  [[nodiscard]] index_t features() const noexcept { return convs.back().outputs; }
  [[nodiscard]] index_t head_dim() const noexcept { return hidden_size / num_attention_heads; }

  /// Samples that one frame is made of (400 in published models).
  [[nodiscard]] index_t receptive_field() const noexcept {
    index_t field = 1, step = 1;
    for (const auto& conv : convs) {
      field += (conv.kernel - 1) * step;
      step *= conv.stride;
    }
    return field;
  }
  /// Samples from one frame to the next (320).
  [[nodiscard]] index_t hop() const noexcept {
    index_t step = 1;
    for (const auto& conv : convs) step *= conv.stride;
    return step;
  }
  /// Frames that so many samples give, those of the left pad included in `samples`.
  [[nodiscard]] index_t frames_of(index_t samples) const noexcept {
    return samples < receptive_field() ? 0 : (samples - receptive_field()) / hop() + 1;
  }
  /// Zeros that complete the frame which the last of so many samples is in, those of the left pad included in
  /// `samples`; 0 if every sample is in a whole one.
  [[nodiscard]] index_t missing(index_t samples) const noexcept {
    const index_t frames = frames_of(samples);
    const index_t covered = frames == 0 ? left_pad : (frames - 1) * hop() + receptive_field();
    return samples <= covered ? 0 : frames * hop() + receptive_field() - samples;
  }
  /// Frames that audio of so many samples gives from beginning to end, with all padding.
  [[nodiscard]] index_t frames_of_audio(index_t samples) const noexcept {
    const index_t padded = left_pad + samples + (samples > 0 ? right_pad : 0);
    return frames_of(pad_tail ? padded + missing(padded) : padded);
  }
};

/// Throws format_error naming `source` and key unless the sizes make an encoder.
inline void validate(const encoder_config& config, std::string_view source) {
  constexpr index_t most = index_t{1} << 24;  // keeps products of three sizes within 64 bits
  const auto need = [&](const char* key, index_t value, index_t least = 1) {
    expect<format_error>(value >= least && value <= most, source, ": ", key, ": expected a number from ", least, " to ",
                         most, ", found ", value);
  };
  expect<format_error>(!config.convs.empty() && config.convs.size() <= 32, source,
                       ": conv_dim: expected 1 to 32 layers, found ", config.convs.size());
  index_t hop = 1, field = 1;
  for (const auto& conv : config.convs) {
    need("conv_dim", conv.outputs);
    need("conv_kernel", conv.kernel);
    need("conv_stride", conv.stride);
    field += (conv.kernel - 1) * hop;
    hop *= conv.stride;
    expect<format_error>(hop <= most && field <= most, source, ": conv_stride: a frame of more than ", most,
                         " samples");
    expect<format_error>(conv.stride <= conv.kernel, source, ": conv_stride: ", conv.stride,
                         " is larger than its kernel ", conv.kernel);
  }
  need("hidden_size", config.hidden_size);
  need("num_hidden_layers", config.num_hidden_layers);
  need("num_attention_heads", config.num_attention_heads);
  need("intermediate_size", config.intermediate_size);
  need("num_conv_pos_embeddings", config.position_kernel);
  need("num_conv_pos_embedding_groups", config.position_groups);
  need("sample_rate", config.sample_rate);
  need("left_context", config.left_context, 0);
  need("left_pad", config.left_pad, 0);
  need("right_pad", config.right_pad, 0);
  expect<format_error>(config.hidden_size % config.num_attention_heads == 0, source,
                       ": num_attention_heads: ", config.num_attention_heads, " do not divide hidden_size ",
                       config.hidden_size);
  expect<format_error>(config.hidden_size % config.position_groups == 0, source,
                       ": num_conv_pos_embedding_groups: ", config.position_groups, " do not divide hidden_size ",
                       config.hidden_size);
  expect<format_error>(config.layer_norm_eps > 0, source, ": layer_norm_eps: expected a positive number, found ",
                       config.layer_norm_eps);
  expect<format_error>(config.left_context == 0 || config.causal_attention, source,
                       ": left_context: only causal attention has one");
  expect<format_error>(config.input.deviation > 0 && config.input.prior_samples >= 1, source,
                       ": normalization: deviation and prior_samples must be positive");
  expect<format_error>(config.input.kind != normalization::utterance || !config.streams(), source,
                       ": normalization: utterance needs the whole audio before the first frame, so an encoder that "
                       "streams cannot have it; expected none, fixed or running");
}

}  // namespace runnel::speech
