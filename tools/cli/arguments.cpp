// SPDX-License-Identifier: Apache-2.0

#include "arguments.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>
#include <vector>

#include <CLI/CLI.hpp>

#include <runnel/core/error.hpp>

namespace runnel::cli {

namespace {

CLI::Validator whole_number(std::int64_t least, std::int64_t most) {
  return CLI::Validator(
      [least, most](std::string& text) {
        std::int64_t value = 0;
        const char* const end = text.data() + text.size();
        const auto [stop, failure] = std::from_chars(text.data(), end, value);
        if (failure == std::errc() && stop == end && value >= least && value <= most) {
          text = std::to_string(value);  // "007" is seven, though CLI11 would take it for octal
          return std::string();
        }
        return message("expected a whole number from ", least, " to ", most, ", found '", text, "'");
      },
      "");
}

CLI::Validator real_number(double least, double most) {
  return CLI::Validator(
      [least, most](std::string& text) {
        double value = 0;
        const char* const end = text.data() + text.size();
        const auto [stop, failure] = std::from_chars(text.data(), end, value);
        const bool is_number = failure == std::errc() && stop == end && std::isfinite(value);
        if (is_number && value >= least && value <= most) return std::string();
        return message("expected a number from ", least, " to ", most, ", found '", text, "'");
      },
      "");
}

}  // namespace

bool argument::given() const { return option_->count() > 0; }

argument& argument::required() {
  option_->required();
  return *this;
}

argument& argument::environment(const std::string& name) {
  option_->envname(name);
  return *this;
}

argument& argument::excludes(const argument& other) {
  option_->excludes(other.option_);
  return *this;
}

argument& argument::one_of(std::initializer_list<std::string> values) {
  option_->check(CLI::Validator(
      [known = std::vector<std::string>(values)](std::string& text) {
        if (std::find(known.begin(), known.end(), text) != known.end()) return std::string();
        std::string list;
        for (const auto& one : known) list += (list.empty() ? "" : ", ") + one;
        return message("expected ", known.size() > 1 ? "one of " : "", list, "; found '", text, "'");
      },
      ""));
  return *this;
}

argument arguments::text(const std::string& names, std::string& value, const std::string& kind,
                         const std::string& help) {
  auto* const option = app_->add_option(names, value, help)->type_name(kind);
  if (!value.empty()) option->capture_default_str();
  return argument(option);
}

argument arguments::texts(const std::string& names, std::vector<std::string>& values, const std::string& kind,
                          const std::string& help, int each) {
  auto* const option = app_->add_option(names, values, help)->type_name(kind);
  option->type_size(each)->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  return argument(option);
}

argument arguments::rest(const std::string& name, std::vector<std::string>& values, const std::string& kind,
                         const std::string& help) {
  return argument(app_->add_option(name, values, help)->type_name(kind));
}

argument arguments::whole(const std::string& names, std::int64_t& value, const std::string& kind,
                          const std::string& help, std::int64_t least, std::int64_t most) {
  return argument(
      app_->add_option(names, value, help)->check(whole_number(least, most))->type_name(kind)->capture_default_str());
}

argument arguments::real(const std::string& names, double& value, const std::string& kind, const std::string& help,
                         double least, double most) {
  return argument(
      app_->add_option(names, value, help)->check(real_number(least, most))->type_name(kind)->capture_default_str());
}

argument arguments::flag(const std::string& names, bool& value, const std::string& help) {
  return argument(app_->add_flag(names, value, help));
}

void arguments::footer(const std::string& text) { app_->footer(text); }

}  // namespace runnel::cli
