// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace runnel::cli {

/// The greatest count that options take.
inline constexpr std::int64_t most_of_anything = 1'000'000'000;

/// One option of a command.
class argument {
 public:
  argument() = default;
  explicit argument(CLI::Option* option) : option_(option) {}

  /// Whether it was given (or came from the environment). False before parsing.
  [[nodiscard]] bool given() const;

  argument& required();
  /// The environment variable that is used where the option is not given.
  argument& environment(const std::string& name);
  /// Not together with `other`.
  argument& excludes(const argument& other);
  /// Only these values.
  argument& one_of(std::initializer_list<std::string> values);

 private:
  CLI::Option* option_ = nullptr;
};

/// The options of one command, as it declares them. Values are references that must outlive the parsing; what they hold
/// is the default, and shown as such in the help.
///
/// This is a narrow door to CLI11, whose headers cost each source file more than all of the library's.
class arguments {
 public:
  explicit arguments(CLI::App& app) : app_(&app) {}

  argument text(const std::string& names, std::string& value, const std::string& kind, const std::string& help);
  /// Texts that come `each` at a time; may be given again and again.
  argument texts(const std::string& names, std::vector<std::string>& values, const std::string& kind,
                 const std::string& help, int each = 1);
  /// Everything that is no option.
  argument rest(const std::string& name, std::vector<std::string>& values, const std::string& kind,
                const std::string& help);
  /// A whole number in [least, most], in decimal.
  argument whole(const std::string& names, std::int64_t& value, const std::string& kind, const std::string& help,
                 std::int64_t least = 0, std::int64_t most = most_of_anything);
  /// A finite number in [least, most].
  argument real(const std::string& names, double& value, const std::string& kind, const std::string& help, double least,
                double most);
  argument flag(const std::string& names, bool& value, const std::string& help);

  /// What stands below the options in the help.
  void footer(const std::string& text);

 private:
  CLI::App* app_;
};

}  // namespace runnel::cli
