// SPDX-License-Identifier: Apache-2.0
#include <runnel/quant/format.hpp>

#include <doctest/doctest.h>

#include <string>

using namespace runnel::quant;

TEST_CASE("formats are found by number and by name") {
  for (const auto& known : all_formats) {
    CHECK(&info(known.format) == &known);
    CHECK(from_ggml_type(known.ggml_type) == known.format);
    CHECK(from_name(known.name) == known.format);
  }
  CHECK(from_name("Q4_0") == weight_format::q4_0);
  CHECK(from_name("BF16") == weight_format::bf16);
  CHECK(from_name("Q4_K") == weight_format::q4_k);
  CHECK(from_name("IQ4_NL") == weight_format::iq4_nl);
  for (const auto* name : {"", "q4", "q4_00", "f3", "f322", "q4-0"}) CHECK_FALSE(from_name(name).has_value());
  for (const auto type : {4u, 9u, 15u, 31u, ~0u}) CHECK_FALSE(from_ggml_type(type).has_value());
}

TEST_CASE("sizes are checked") {
  CHECK(bytes_for(weight_format::f32, 3) == 12);
  CHECK(bytes_for(weight_format::f16, 3) == 6);
  CHECK(bytes_for(weight_format::bf16, 3) == 6);
  CHECK(bytes_for(weight_format::q8_0, 64) == 68);
  CHECK(bytes_for(weight_format::q4_0, 64) == 36);
  CHECK(bytes_for(weight_format::q4_1, 64) == 40);
  CHECK(bytes_for(weight_format::q4_1, 0) == 0);
  CHECK(bytes_for(weight_format::q5_0, 64) == 44);
  CHECK(bytes_for(weight_format::q6_k, 512) == 420);
  CHECK_FALSE(try_bytes_for(weight_format::q4_k, 128).has_value());  // a super-block is 256 values
  CHECK_FALSE(try_bytes_for(weight_format::q2_k, 257).has_value());
  CHECK_THROWS_AS((void)bytes_for(weight_format::q5_k, 576), runnel::shape_error);
  CHECK_THROWS_AS((void)bytes_for(weight_format::q8_0, 33), runnel::shape_error);
  CHECK_THROWS_AS((void)bytes_for(weight_format::f32, std::uint64_t{1} << 62), runnel::limit_error);
  CHECK_FALSE(try_bytes_for(weight_format::q4_0, 16).has_value());
  CHECK_FALSE(try_bytes_for(weight_format::q8_0, ~std::uint64_t{31}).has_value());
  CHECK(try_bytes_for(weight_format::f16, std::uint64_t{1} << 62) == std::uint64_t{1} << 63);
}
