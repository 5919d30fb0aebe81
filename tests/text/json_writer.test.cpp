// SPDX-License-Identifier: Apache-2.0
#include <runnel/text/json_writer.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <runnel/core/error.hpp>
#include <runnel/unicode/utf8.hpp>

#include "support.hpp"

using runnel::text::json_writer;
using runnel_test::failure;
using runnel_test::holds;

TEST_CASE("what is written is what a JSON parser reads, with members in their order") {
  json_writer out;
  out.begin_object();
  out.member("text", "a\"b");
  out.member("yes", true);
  out.member("no", false);
  out.member("none", nullptr);
  out.member("least", std::numeric_limits<std::int64_t>::min());
  out.member("most", std::numeric_limits<std::uint64_t>::max());
  out.key("empty");
  out.begin_object();
  out.end();
  out.key("flat");
  out.begin_array(true);
  out.value(1);
  out.begin_object();
  out.member("x", 2);
  out.end();
  out.end();
  out.key("deep");
  out.begin_array();
  out.begin_array();
  out.end();
  out.value(std::string("last"));
  out.end();
  out.end();
  const std::string expected =
      "{\n \"text\": \"a\\\"b\",\n \"yes\": true,\n \"no\": false,\n \"none\": null,\n"
      " \"least\": -9223372036854775808,\n \"most\": 18446744073709551615,\n \"empty\": {},\n"
      " \"flat\": [1, {\"x\": 2}],\n \"deep\": [\n  [],\n  \"last\"\n ]\n}";
  CHECK(out.text() == expected);
  CHECK(nlohmann::json::accept(out.text()));
}

TEST_CASE("every character comes back, as a value and as a key") {
  std::vector<std::string> texts{"",        std::string("\0", 1),       "\x7F",
                                 "\\u0041", "\xE2\x80\xA8\xE2\x80\xA9", "\xEF\xBB\xBF\xEF\xBF\xBF\xF4\x8F\xBF\xBF"};
  for (std::uint32_t c = 0; c < 0x250; ++c) texts.push_back("a" + runnel::unicode::encode(c) + "b");
  for (const auto& text : texts) {
    json_writer out;
    out.begin_object();
    out.member(text, text);
    out.end();
    const auto back = nlohmann::json::parse(out.text());
    REQUIRE(back.begin().key() == text);
    REQUIRE(back.begin().value() == text);
  }
}

TEST_CASE("numbers come back exactly, and what JSON has no number for is null") {
  for (const double number : {0.0, -0.0, 0.1, 1e-7, 5e-324, 1.7976931348623157e308, -123456789.125, 3.0, 1e22}) {
    json_writer out;
    out.value(number);
    REQUIRE(nlohmann::json::accept(out.text()));
    REQUIRE(nlohmann::json::parse(out.text()).get<double>() == number);
  }
  json_writer out;
  out.begin_array(true);
  out.value(std::numeric_limits<double>::infinity());
  out.value(-std::numeric_limits<float>::infinity());
  out.value(std::numeric_limits<double>::quiet_NaN());
  out.value(0.1f);
  out.end();
  CHECK(out.text() == "[null, null, null, 0.1]");
}

TEST_CASE("what is not UTF-8 is refused") {
  for (const std::string text : {"\xFF", "a\xC3", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\x80"}) {
    const auto problem = failure<runnel::config_error>([&] {
      json_writer out;
      out.value(text);
    });
    CHECK(holds(problem, "not UTF-8"));
  }
}
