// SPDX-License-Identifier: Apache-2.0
#include <runnel/io/json.hpp>

#include <doctest/doctest.h>

#include <random>

#include <nlohmann/json.hpp>

#include "support.hpp"

using runnel::format_error;
using runnel::io::json_document;
using runnel::io::json_object;
using runnel::io::json_value;
using namespace runnel_test;

namespace {

/// The value as another library has it.
nlohmann::json converted(json_value value) {
  if (value.is_null()) return nullptr;
  if (const auto truth = value.truth()) return *truth;
  if (const auto text = value.text()) return *text;
  if (const auto number = value.natural()) return *number;
  if (const auto number = value.integer()) return *number;
  if (const auto number = value.number()) return *number;
  nlohmann::json out = value.is_array() ? nlohmann::json::array() : nlohmann::json::object();
  std::size_t count = 0;
  for (const json_value one : value) {
    ++count;
    if (value.is_array())
      out.push_back(converted(one));
    else
      out[std::string(one.name())] = converted(one);
  }
  CHECK(count == value.size());
  return out;
}

/// Whether both libraries take `text`, and as the same; 1 if they do.
int same(const std::string& text) {
  CAPTURE(text);
  const auto expected = nlohmann::json::parse(text, nullptr, false);
  try {
    const json_document document(text, "some.json");
    REQUIRE_FALSE(expected.is_discarded());
    REQUIRE(converted(document.root()) == expected);
    return 1;
  } catch (const format_error& problem) {
    REQUIRE(std::string_view(problem.what()).starts_with("some.json: "));
    REQUIRE(expected.is_discarded());
    return 0;
  }
}

constexpr std::string_view rich = R"({"a":[1,-2,3.5e1,"x\u00e4\n",true,false,null,{}],"b":{"c":{"d":[[],[""]]}},"":0})";

}  // namespace

TEST_CASE("values are those of another library, whatever becomes of the text") {
  CHECK(same(std::string(rich)) == 1);
  CHECK(same(R"({"twice":1,"other":2,"twice":[3]})") == 1);
  CHECK(same("[0,18446744073709551615,18446744073709551616,-9223372036854775808,-9223372036854775809,1e308,-0]") == 1);
  int taken = 0;
  for (std::size_t at = 0; at < rich.size(); ++at) {
    same(std::string(rich.substr(0, at)));
    for (int value = 0; value < 256; ++value) {
      std::string changed(rich);
      changed[at] = static_cast<char>(value);
      taken += same(changed);
    }
  }
  CHECK(taken > 500);
}

TEST_CASE("soups of tokens are taken or refused as by another library") {
  constexpr std::string_view tokens[] = {"{", "}",      "[",    "]",    ",", ":",  "\"a\"", "\"\\u00e4\"",
                                         "1", "-2.5e1", "true", "null", " ", "\"", "0"};
  std::mt19937 random(5);
  int taken = 0;
  for (int round = 0; round < 100'000; ++round) {
    std::string text = round % 2 == 0 ? "[" : "{\"k\":";
    for (auto left = random() % 7; left > 0; --left) text += tokens[random() % std::size(tokens)];
    text += round % 2 == 0 ? "]" : "}";
    taken += same(text);
  }
  CHECK(taken > 500);
}

TEST_CASE("members are typed, and complaints say where") {
  const json_document document(
      R"({"text":"t","flag":true,"id":7,"big":2147483648,"huge":9223372036854775808,"minus":-3,"real":1.0,"null":null,
          "list":[1,2],"inner":{"deep":{"x":[]}},"again":1,"again":"2"})",
      "config.json");
  const json_object root(document.root());
  CHECK(root.source_name() == "config.json");
  CHECK(root.text("text") == "t");
  CHECK(root.text("again") == "2");
  CHECK(root.text_or("gone", "other") == "other");
  CHECK(root.text_or("null", "other") == "other");
  CHECK(root.flag_or("flag", false));
  CHECK(root.flag_or("gone", true));
  CHECK(root.id("id") == 7);
  CHECK(root.integer("big") == 2147483648);
  CHECK(root.integer("minus") == -3);
  CHECK(root.integer_or("gone", 5) == 5);
  CHECK(root.number("real") == 1.0);
  CHECK(root.number("minus") == -3.0);
  CHECK(root.number("huge") == 9223372036854775808.0);
  CHECK(root.number_or("gone", 0.5) == 0.5);
  CHECK(root.array("list").size() == 2);
  CHECK(root.object("inner").object("deep").array("x").size() == 0);
  CHECK_FALSE(root.find("null").has_value());
  CHECK_FALSE(root.find("gone").has_value());
  CHECK(root.members().size() == 12);

  const auto check = [](auto&& action, const char* expected) {
    CHECK(failure<format_error>(action) == std::string("config.json: ") + expected);
  };
  check([&] { (void)root.text("gone"); }, "gone is missing");
  check([&] { (void)root.text("null"); }, "null is missing");
  check([&] { (void)root.text("id"); }, "id: expected a string, found 7");
  check([&] { (void)root.text_or("list", ""); }, "list: expected a string, found array");
  check([&] { (void)root.flag_or("text", true); }, "text: expected true or false, found \"t\"");
  check([&] { (void)root.id("big"); }, "big: expected a token id, found 2147483648");
  check([&] { (void)root.id("minus"); }, "minus: expected a token id, found -3");
  check([&] { (void)root.id("real"); }, "real: expected a token id, found 1 (a floating-point number)");
  check([&] { (void)root.integer("real"); }, "real: expected a whole number, found 1 (a floating-point number)");
  check([&] { (void)root.integer("huge"); }, "huge: expected a whole number, found 9223372036854775808");
  check([&] { (void)root.number("flag"); }, "flag: expected a number, found true");
  check([&] { (void)root.array("inner"); }, "inner: expected an array, found object");
  check([&] { (void)root.object("list"); }, "list: expected an object, found array");
  check([&] { (void)root.object("inner").object("deep").text("x"); }, "inner.deep.x: expected a string, found array");
  check([&] { (void)root.object("inner").object("deep").text("y"); }, "inner.deep.y is missing");
  check([&] { (void)json_object(root.array("list")); }, "the file: expected an object, found array");
  check([&] { (void)json_object::to_id(root.array("list"), "where", "name"); },
        "where of \"name\": expected a token id, found array");

  const json_document other("\"" + std::string(100, 'x') + "\"", "other.json");
  CHECK(other.root().describe() == "\"" + std::string(80, 'x') + "...");
}

TEST_CASE("files have a limit") {
  scratch_folder folder;
  put(folder / "a.json", "[1, 2]");
  CHECK(runnel::io::read_json_file(folder / "a.json", 6).root().size() == 2);
  CHECK(holds(failure<format_error>([&] { (void)runnel::io::read_json_file(folder / "a.json", 5); }), "has 6 bytes"));
  CHECK_THROWS_AS((void)runnel::io::read_json_file(folder / "b.json", 5), runnel::io_error);
}

TEST_CASE("members that are not known, or come twice, are refused; lists of texts") {
  const auto object_of = [](const json_document& document) { return json_object(document.root()); };
  const json_document good(R"({"a": ["x", "y"], "b": 1})", "f.json");
  CHECK_NOTHROW(object_of(good).check_names({"a", "b", "c"}));
  CHECK(object_of(good).texts("a") == std::vector<std::string>{"x", "y"});
  CHECK(object_of(good).texts("c").empty());
  const auto problem = [&](const char* text, auto&& ask) {
    const json_document document(text, "f.json");
    try {
      ask(object_of(document));
    } catch (const format_error& failed) {
      return std::string(failed.what());
    }
    return std::string();
  };
  const auto names = [](const json_object& object) { object.check_names({"a", "b"}); };
  CHECK(problem(R"({"c": 1})", names) == "f.json: 'c' is unknown, expected one of a, b");
  CHECK(problem(R"({"a": 1, "a": 2})", names) == "f.json: a occurs more than once");
  const auto texts = [](const json_object& object) { static_cast<void>(object.texts("a")); };
  CHECK(problem(R"({"a": "x"})", texts) == "f.json: a: expected an array, found \"x\"");
  CHECK(problem(R"({"a": ["x", 2]})", texts) == "f.json: a[1]: expected a string, found 2");
}
