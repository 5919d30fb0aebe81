// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include <runnel/quant/f32.hpp>
#include <runnel/quant/half.hpp>
#include <runnel/quant/iq4_nl.hpp>
#include <runnel/quant/q2_k.hpp>
#include <runnel/quant/q3_k.hpp>
#include <runnel/quant/q4_0.hpp>
#include <runnel/quant/q4_1.hpp>
#include <runnel/quant/q4_k.hpp>
#include <runnel/quant/q5_0.hpp>
#include <runnel/quant/q5_1.hpp>
#include <runnel/quant/q5_k.hpp>
#include <runnel/quant/q6_k.hpp>
#include <runnel/quant/q8_0.hpp>

namespace runnel::quant {

/// Calls `f(codec{})` with the codec of `format`: the one switch over formats.
template <class F>
RUNNEL_INLINE decltype(auto) with_codec(weight_format format, F&& f) {
  switch (format) {
    case weight_format::f16: return f(f16_codec{});
    case weight_format::bf16: return f(bf16_codec{});
    case weight_format::q8_0: return f(q8_0_codec{});
    case weight_format::q4_0: return f(q4_0_codec{});
    case weight_format::q4_1: return f(q4_1_codec{});
    case weight_format::q5_0: return f(q5_0_codec{});
    case weight_format::q5_1: return f(q5_1_codec{});
    case weight_format::q2_k: return f(q2_k_codec{});
    case weight_format::q3_k: return f(q3_k_codec{});
    case weight_format::q4_k: return f(q4_k_codec{});
    case weight_format::q5_k: return f(q5_k_codec{});
    case weight_format::q6_k: return f(q6_k_codec{});
    case weight_format::iq4_nl: return f(iq4_nl_codec{});
    case weight_format::f32: break;
  }
  return f(f32_codec{});
}

/// Codecs of whole numbers of at most a byte.
template <class Codec>
concept byte_codec = requires {
  Codec::zero_point;
};

/// Codecs that decode straight to registers in floats.
template <class Codec>
concept decodes_lanes = !byte_codec<Codec> || Codec::format == weight_format::q8_0 ||
                        Codec::format == weight_format::q4_0 || Codec::format == weight_format::q4_1;

/// Calls `f(codec{})` if the weights of `format` are whole numbers of at most a byte.
template <class F>
RUNNEL_INLINE void with_byte_codec(weight_format format, F&& f) {
  with_codec(format, [&]<class Codec>(Codec codec) {
    if constexpr (byte_codec<Codec>) f(codec);
  });
}

/// Decodes `count` values (a whole number of blocks) stored as in files. Scalar; for small tensors and tests.
inline void decode(weight_format format, const std::byte* bytes, std::size_t count, float* values) {
  with_codec(format, [&]<class Codec>(Codec) {
    for (std::size_t k = 0; k < count; k += Codec::block_size) {
      Codec::decode(bytes + k / Codec::block_size * Codec::block_bytes, values + k);
    }
  });
}

/// Encodes `count` values (a whole number of blocks) as they are stored in files.
inline void encode(weight_format format, const float* values, std::size_t count, std::byte* bytes) {
  with_codec(format, [&]<class Codec>(Codec) {
    for (std::size_t k = 0; k < count; k += Codec::block_size) {
      Codec::encode(values + k, bytes + k / Codec::block_size * Codec::block_bytes);
    }
  });
}

}  // namespace runnel::quant
