// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include <runnel/autograd/parameter.hpp>
#include <runnel/core/error.hpp>
#include <runnel/io/checked.hpp>

namespace runnel::train {

/// Whether `name` is what `pattern` says: `*` stands for any characters, also none, `?` for one. O(pattern * name).
[[nodiscard]] constexpr bool matches(std::string_view pattern, std::string_view name) noexcept {
  std::size_t p = 0, n = 0, star = std::string_view::npos, resumed = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resumed = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {  // the last star takes one more
      p = star + 1;
      n = ++resumed;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

/// Takes the gradients of the parameters whose names match any of `patterns`; the others keep what they have. Throws
/// config_error for a pattern that matches none, and if nothing would be left to train.
inline void freeze(autograd::parameter_list<float>& parameters, std::span<const std::string> patterns) {
  for (const std::string& pattern : patterns) {
    bool found = false;
    for (auto& one : parameters) {
      if (!matches(pattern, one.name)) continue;
      one.train(false);
      found = true;
    }
    expect(found, "freeze: ", io::in_quotes(pattern), " matches no parameter; the first is called ",
           parameters.empty() ? std::string("nothing") : io::in_quotes(parameters.front().name));
  }
  bool any = false;
  for (const auto& one : parameters) any = any || one.trainable();
  expect(any, "freeze: every parameter is frozen, nothing is left to train");
}

/// How many numbers are trained, and how many are not.
struct parameter_count {
  index_t trained = 0;
  index_t frozen = 0;
};

[[nodiscard]] inline parameter_count count(const autograd::parameter_list<float>& parameters) noexcept {
  parameter_count out;
  for (const auto& one : parameters) (one.trainable() ? out.trained : out.frozen) += one.values.size();
  return out;
}

/// Bytes that training takes: 16 a trained number (value, gradient, two moments), 4 a frozen one, and `activations`.
[[nodiscard]] inline std::size_t training_bytes(const parameter_count& of, std::size_t activations) noexcept {
  return static_cast<std::size_t>(of.trained) * 16 + static_cast<std::size_t>(of.frozen) * 4 + activations;
}

}  // namespace runnel::train
