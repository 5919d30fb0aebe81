// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include <runnel/quant/f32.hpp>
#include <runnel/quant/half.hpp>
#include <runnel/quant/q4_0.hpp>
#include <runnel/quant/q4_1.hpp>
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
    case weight_format::f32: break;
  }
  return f(f32_codec{});
}

/// Calls `f(codec{})` if the weights of `format` are whole numbers of at most a byte; the one switch over those.
template <class F>
RUNNEL_INLINE void with_byte_codec(weight_format format, F&& f) {
  switch (format) {
    case weight_format::q8_0: return f(q8_0_codec{});
    case weight_format::q4_0: return f(q4_0_codec{});
    case weight_format::q4_1: return f(q4_1_codec{});
    case weight_format::f32:
    case weight_format::f16:
    case weight_format::bf16: break;
  }
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
