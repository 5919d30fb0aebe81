// SPDX-License-Identifier: Apache-2.0
#include <runnel/io/checked.hpp>

#include <doctest/doctest.h>

#include "support.hpp"

using namespace runnel::io;
using namespace runnel_test;

TEST_CASE("sums and products that do not fit are nothing") {
  constexpr std::uint64_t most = ~std::uint64_t{0};
  CHECK(checked_add(most, 0) == most);
  CHECK(checked_add(most - 5, 5) == most);
  CHECK_FALSE(checked_add(most, 1));
  CHECK_FALSE(checked_add(most, most));
  CHECK(checked_mul(most, 1) == most);
  CHECK(checked_mul(most, 0) == 0);
  CHECK(checked_mul(0, most) == 0);
  CHECK(checked_mul(std::uint64_t{1} << 32, (std::uint64_t{1} << 32) - 1) == most - 0xffffffffu);
  CHECK_FALSE(checked_mul(std::uint64_t{1} << 32, std::uint64_t{1} << 32));
  using sizes = std::vector<std::uint64_t>;
  CHECK(checked_product(sizes{}) == 1);
  CHECK(checked_product(sizes{2, 3, 5}) == 30);
  CHECK(checked_product(sizes{most, most, 0}) == 0);
  CHECK_FALSE(checked_product(sizes{most, 2}));
}

TEST_CASE("text of a file is made harmless for messages") {
  CHECK(in_quotes("plain größe") == "'plain größe'");
  CHECK(in_quotes(std::string_view("\x1b[2J\0\n\x7f", 7)) == "'\\x1b[2J\\x00\\x0a\\x7f'");
  CHECK(in_quotes(std::string(96, 'a')) == "'" + std::string(96, 'a') + "'");
  CHECK(in_quotes(std::string(97, 'a')) == "'" + std::string(96, 'a') + "...'");
  CHECK(shape_text(std::vector<std::uint64_t>{}) == "[]");
  CHECK(shape_text(std::vector<std::uint64_t>{1, 20}) == "[1, 20]");
}

TEST_CASE("an index finds names and duplicates") {
  const name_index index({"b", "", "a", "ab"});
  CHECK(index.find("b") == 0);
  CHECK(index.find("") == 1);
  CHECK(index.find("a") == 2);
  CHECK(index.find("ab") == 3);
  CHECK_FALSE(index.find("c"));
  CHECK_FALSE(index.duplicate());
  CHECK(name_index({"x", "y", "x"}).duplicate() == "x");
  CHECK_FALSE(name_index().find("x"));
}

TEST_CASE("a reader never passes the end") {
  const auto bytes = byte_builder().number(std::uint32_t{7}).raw("abc").text();
  byte_reader in(bytes_of(bytes), "the file");
  CHECK(in.number<std::uint32_t>("first") == 7);
  CHECK(in.remaining() == 3);
  in.about("key", "k");
  const auto text = failure<runnel::format_error>([&] { (void)in.number<std::uint32_t>("second"); });
  CHECK(text == "the file: key 'k': second needs 4 bytes at offset 4, but only 3 remain in the file");
  CHECK(failure<runnel::format_error>([&] {
          (void)in.take(~std::uint64_t{0}, "all");
        }).starts_with("the file: key 'k': all"));
  CHECK(in.text(3, "rest") == "abc");
  CHECK(in.remaining() == 0);
  CHECK(in.take(0, "nothing").empty());
}
