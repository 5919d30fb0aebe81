// SPDX-License-Identifier: Apache-2.0
#include <runnel/train/freeze.hpp>

#include <doctest/doctest.h>

#include "io/support.hpp"

namespace {

using namespace runnel;
using runnel_test::failure;
using runnel_test::holds;
using train::matches;

TEST_CASE("patterns with stars and question marks") {
  CHECK(matches("", ""));
  CHECK(matches("*", ""));
  CHECK(matches("*", "anything.at.all"));
  CHECK(matches("a*c", "abc"));
  CHECK(matches("a*c", "ac"));
  CHECK(matches("a*c", "acbc"));
  CHECK(matches("*.norm.*", "layers.0.norm.weight"));
  CHECK(matches("layers.?.mlp*", "layers.3.mlp.up"));
  CHECK(matches("**a**", "bab"));
  CHECK_FALSE(matches("", "a"));
  CHECK_FALSE(matches("?", ""));
  CHECK_FALSE(matches("a*c", "acb"));
  CHECK_FALSE(matches("layers.?.mlp*", "layers.13.mlp.up"));
  CHECK_FALSE(matches("norm", "norm.weight"));
  CHECK_FALSE(matches("a?", "a"));
  // Where taking back at every star would take for ever.
  const std::string pattern = "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b";
  CHECK_FALSE(matches(pattern, std::string(20000, 'a')));
}

TEST_CASE("freezing takes gradients by name, and says what matches nothing") {
  autograd::parameter_list<float> list;
  for (const char* name : {"embed", "layers.0.up", "layers.1.up"}) {
    auto& one = list.emplace_back();
    one.name = name;
    one.values = tensor<float, 2>({2, 5});
    one.train(true);
  }
  const std::vector<std::string> none, some{"layers.0.*"}, wrong{"layer.*"}, all{"embed", "*up"};
  train::freeze(list, none);
  CHECK(train::count(list).trained == 30);
  train::freeze(list, some);
  CHECK(train::count(list).trained == 20);
  CHECK(train::count(list).frozen == 10);
  CHECK_FALSE(list[1].trainable());
  CHECK(train::training_bytes(train::count(list), 7) == 16 * 20 + 4 * 10 + 7);
  const auto text = failure<config_error>([&] { train::freeze(list, wrong); });
  CHECK(holds(text, "layer.*"));
  CHECK(holds(text, "embed"));
  CHECK(holds(failure<config_error>([&] { train::freeze(list, all); }), "nothing is left to train"));
}

}  // namespace
