// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace runnel::metrics {

namespace detail {

/// Sum of two natural numbers in decimal.
[[nodiscard]] inline std::string add_decimals(std::string_view a, std::string_view b) {
  std::string sum;
  int carry = 0;
  for (std::size_t i = 0; i < std::max(a.size(), b.size()) || carry > 0; ++i) {
    const int left = i < a.size() ? a[a.size() - 1 - i] - '0' : 0;
    const int right = i < b.size() ? b[b.size() - 1 - i] - '0' : 0;
    sum += static_cast<char>('0' + (left + right + carry) % 10);
    carry = (left + right + carry) / 10;
  }
  std::reverse(sum.begin(), sum.end());
  return sum;
}

/// A natural number without zeros in front of it.
[[nodiscard]] inline std::string without_leading_zeros(std::string_view digits) {
  const std::size_t first = digits.find_first_not_of('0');
  return first == std::string_view::npos ? "0" : std::string(digits.substr(first));
}

[[nodiscard]] inline bool all_digits(std::string_view text) noexcept {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// Digits, or digits with a point between them.
[[nodiscard]] inline bool is_numeric(std::string_view text) noexcept {
  const std::size_t point = text.find('.');
  return all_digits(text.substr(0, point)) && (point == std::string_view::npos || all_digits(text.substr(point + 1)));
}

/// A decimal fraction (digits, a point and digits; either side may be empty, not both) times 10 to the `zeros`, where
/// that is a natural number.
[[nodiscard]] inline std::optional<std::string> scale_decimal(std::string_view text, std::size_t zeros) {
  const std::size_t point = text.find('.');
  const auto whole = text.substr(0, point);
  auto fraction = point == std::string_view::npos ? std::string_view() : text.substr(point + 1);
  if (whole.empty() && fraction.empty()) return std::nullopt;
  if ((!whole.empty() && !all_digits(whole)) || (!fraction.empty() && !all_digits(fraction))) return std::nullopt;
  while (fraction.ends_with('0')) fraction.remove_suffix(1);
  if (fraction.size() > zeros) return std::nullopt;
  std::string digits(whole);
  digits += fraction;
  digits.append(zeros - fraction.size(), '0');
  return without_leading_zeros(digits);
}

}  // namespace detail

/// Spelled-out English numbers as digits, by the rules of Whisper's published normaliser: "twenty one thousand
/// dollars" becomes "$21000", "nineteen ninety nine" 1999, "one oh one" 101, "third" 3rd, "ten percent" 10%, "two and
/// a half million" 2500000. Numbers may have any number of digits. Built once; const functions may be called from any
/// thread.
class english_numbers {
 public:
  english_numbers() { fill(); }

  /// Words of a sentence in lower case with the numbers among them as digits. Words are UTF-8.
  [[nodiscard]] std::vector<std::string> operator()(const std::vector<std::string>& words) const {
    reader one{*this, words, {}, {}, {}, false};
    one.read();
    return std::move(one.out);
  }

  /// Whether a fraction may follow `word`: "and a half" is "point five" then.
  [[nodiscard]] bool takes_half(const std::string& word) const {
    const auto* const found = find(word);
    return found != nullptr && (is_decimal(*found) || found->kind == kind::multiplier);
  }

 private:
  enum class kind : std::uint8_t {
    zero,
    one,           // one to nineteen
    one_suffixed,  // ones, first
    ten,           // twenty to ninety
    ten_suffixed,  // twenties, twentieth
    multiplier,    // hundred and on
    multiplier_suffixed,
    sign_before,  // minus
    sign_after,   // dollars
    percent,
    per,
    special,  // and, double, triple, point
  };

  struct entry {
    english_numbers::kind kind;
    int value;           // of a multiplier: its zeros
    std::string suffix;  // or the sign
  };

  /// The number that is being read.
  struct number {
    std::string text;
    bool is_text = false;  // digits said one after another: they are joined, not added

    [[nodiscard]] bool ends_in_zeros(std::size_t zeros) const {
      if (text == "0") return true;
      return text.size() >= zeros && text.find_last_not_of('0') + 1 + zeros <= text.size();
    }
    /// The number and one that fits in the place of its zeros.
    [[nodiscard]] std::string plus(const std::string& digits) const {
      return text == "0" ? digits : text.substr(0, text.size() - digits.size()) + digits;
    }
    /// The part below a thousand times 10 to the `zeros`, with the rest.
    [[nodiscard]] std::string times(std::size_t zeros) const {
      const std::size_t low = std::min<std::size_t>(text.size(), 3);
      const std::string before = text.substr(0, text.size() - low) + std::string(low, '0');
      const std::string part = text.substr(text.size() - low) + std::string(zeros, '0');
      return detail::without_leading_zeros(detail::add_decimals(before, part));
    }
  };

  struct reader {
    const english_numbers& known;
    const std::vector<std::string>& words;
    std::vector<std::string> out;
    std::optional<number> value;
    std::string prefix;
    bool skip;

    void read() {
      for (std::size_t i = 0; i < words.size(); ++i) {
        if (std::exchange(skip, false)) continue;
        take(i);
      }
      give_value();
    }

    void give(const std::string& text) {
      out.push_back(prefix + text);
      prefix.clear();
      value.reset();
    }
    void give_value() {
      if (value) give(std::string(value->text));
    }
    /// What stands in `value` with digits behind it, joined as text.
    void join(const std::string& digits) {
      const bool empty = !value || (!value->is_text && value->text == "0");
      value = number{(empty ? std::string() : value->text) + digits, true};
    }

    [[nodiscard]] const entry* at(std::size_t i) const { return i < words.size() ? known.find(words[i]) : nullptr; }
    [[nodiscard]] bool is(std::size_t i, english_numbers::kind kind) const {
      const auto* const found = at(i);
      return found != nullptr && found->kind == kind;
    }
    [[nodiscard]] bool numeric(std::size_t i) const { return i < words.size() && detail::is_numeric(words[i]); }

    void take(std::size_t i) {
      const std::string& word = words[i];
      const std::size_t sign = sign_length(word);
      if (detail::is_numeric(std::string_view(word).substr(sign))) {
        take_digits(word, sign);
        return;
      }
      const auto* const found = at(i);
      if (found == nullptr) {
        give_value();
        give(word);
        return;
      }
      switch (found->kind) {
        case kind::zero: join("0"); break;
        case kind::one: take_one(*found, i); break;
        case kind::one_suffixed: take_one_suffixed(*found, i); break;
        case kind::ten: take_ten(*found); break;
        case kind::ten_suffixed: take_ten_suffixed(*found); break;
        case kind::multiplier: take_multiplier(*found); break;
        case kind::multiplier_suffixed: take_multiplier_suffixed(*found); break;
        default: take_other(*found, i); break;
      }
    }

    void take_digits(const std::string& word, std::size_t sign) {
      if (value && value->is_text && value->text.ends_with('.')) {
        value->text += word;
        return;
      }
      give_value();
      if (sign > 0) prefix = word.substr(0, sign);
      const std::string digits = word.substr(sign);
      const auto whole = detail::scale_decimal(digits, 0);
      value = whole ? number{*whole, false} : number{digits, true};
    }

    /// The digits of `value` with those of a word: in its zeros, or behind it. Whether they were put into zeros.
    std::pair<std::string, bool> with_one(const entry& word, std::size_t i) const {
      const std::string digits = std::to_string(word.value);
      const bool after_one = i > 0 && is(i - 1, kind::one);
      if (value->is_text || after_one) {
        const bool after_ten = i > 0 && is(i - 1, kind::ten);
        if (!after_ten || word.value >= 10 || !value->text.ends_with('0')) return {value->text + digits, false};
        return {value->text.substr(0, value->text.size() - 1) + digits, false};
      }
      if (value->ends_in_zeros(digits.size())) return {value->plus(digits), true};
      return {value->text + digits, false};
    }

    void take_one(const entry& word, std::size_t i) {
      if (!value) {
        value = number{std::to_string(word.value), false};
        return;
      }
      const auto [text, added] = with_one(word, i);
      value = number{text, !added};
    }

    void take_one_suffixed(const entry& word, std::size_t i) {
      give((value ? with_one(word, i).first : std::to_string(word.value)) + word.suffix);
    }

    void take_ten(const entry& word) {
      const std::string digits = std::to_string(word.value);
      if (!value) {
        value = number{digits, false};
      } else if (!value->is_text && value->ends_in_zeros(2)) {
        value = number{value->plus(digits), false};
      } else {
        value = number{value->text + digits, true};
      }
    }

    void take_ten_suffixed(const entry& word) {
      const std::string digits = std::to_string(word.value);
      if (!value) {
        give(digits + word.suffix);
      } else if (!value->is_text && value->ends_in_zeros(2)) {
        give(value->plus(digits) + word.suffix);
      } else {
        give(value->text + digits + word.suffix);
      }
    }

    void take_multiplier(const entry& word) {
      const auto zeros = static_cast<std::size_t>(word.value);
      const std::string alone = "1" + std::string(zeros, '0');
      if (!value) {
        value = number{alone, false};
      } else if (value->is_text || value->text == "0") {
        const auto product = detail::scale_decimal(value->text, zeros);
        if (!product) give_value();
        value = number{product.value_or(alone), false};
      } else {
        value = number{value->times(zeros), false};
      }
    }

    void take_multiplier_suffixed(const entry& word) {
      const auto zeros = static_cast<std::size_t>(word.value);
      const std::string alone = "1" + std::string(zeros, '0') + word.suffix;
      if (!value) {
        give(alone);
      } else if (value->is_text) {
        const auto product = detail::scale_decimal(value->text, zeros);
        if (!product) give_value();
        give(product ? *product + word.suffix : alone);
      } else {
        give(value->times(zeros) + word.suffix);
      }
    }

    void take_other(const entry& word, std::size_t i) {
      switch (word.kind) {
        case kind::sign_before:
          give_value();
          if (at(i + 1) != nullptr || numeric(i + 1)) {
            prefix = word.suffix;
          } else {
            give(words[i]);
          }
          break;
        case kind::sign_after:
          if (value) {
            prefix = word.suffix;
            give_value();
          } else {
            give(words[i]);
          }
          break;
        case kind::percent: give(value ? value->text + "%" : words[i]); break;
        case kind::per:
          if (value && i + 1 < words.size() && words[i + 1] == "cent") {
            give(value->text + "%");
            skip = true;
          } else {
            give_value();
            give(words[i]);
          }
          break;
        default: take_special(i); break;
      }
    }

    void take_special(std::size_t i) {
      const std::string& word = words[i];
      const auto* const next = at(i + 1);
      if (next == nullptr && !numeric(i + 1)) {
        give_value();
        give(word);
      } else if (word == "and") {
        if (i > 0 && is(i - 1, kind::multiplier)) return;  // "one hundred and one"
        give_value();
        give(word);
      } else if (word == "point") {
        if (numeric(i + 1) || (next != nullptr && is_decimal(*next))) join(".");
      } else if (next != nullptr && (next->kind == kind::one || next->kind == kind::zero)) {
        const std::string digits = std::to_string(next->value);
        join(word == "double" ? digits + digits : digits + digits + digits);
        skip = true;
      } else {
        give_value();
        give(word);
      }
    }

    /// Bytes of the currency sign that a word begins with.
    [[nodiscard]] static std::size_t sign_length(std::string_view word) noexcept {
      for (const std::string_view sign : {"-", "+", "$", "\xC2\xA2", "\xC2\xA3", "\xE2\x82\xAC"}) {
        if (word.starts_with(sign)) return sign.size();
      }
      return 0;
    }
  };

  [[nodiscard]] static bool is_decimal(const entry& word) noexcept {
    return word.kind == kind::zero || word.kind == kind::one || word.kind == kind::ten;
  }

  [[nodiscard]] const entry* find(const std::string& word) const {
    const auto found = words_.find(word);
    return found == words_.end() ? nullptr : &found->second;
  }

  void fill() {
    for (const char* word : {"o", "oh", "zero"}) words_[word] = {kind::zero, 0, ""};
    words_["zeroth"] = {kind::one_suffixed, 0, "th"};
    fill_small();
    constexpr std::array multipliers{
        std::pair("hundred", 2),      std::pair("thousand", 3),    std::pair("million", 6),
        std::pair("billion", 9),      std::pair("trillion", 12),   std::pair("quadrillion", 15),
        std::pair("quintillion", 18), std::pair("sextillion", 21), std::pair("septillion", 24),
        std::pair("octillion", 27),   std::pair("nonillion", 30),  std::pair("decillion", 33)};
    for (const auto& [name, zeros] : multipliers) {
      words_[name] = {kind::multiplier, zeros, ""};
      words_[std::string(name) + "s"] = {kind::multiplier_suffixed, zeros, "s"};
      words_[std::string(name) + "th"] = {kind::multiplier_suffixed, zeros, "th"};
    }
    for (const char* word : {"minus", "negative"}) words_[word] = {kind::sign_before, 0, "-"};
    for (const char* word : {"plus", "positive"}) words_[word] = {kind::sign_before, 0, "+"};
    for (const char* word : {"pound", "pounds"}) words_[word] = {kind::sign_after, 0, "\xC2\xA3"};
    for (const char* word : {"euro", "euros"}) words_[word] = {kind::sign_after, 0, "\xE2\x82\xAC"};
    for (const char* word : {"dollar", "dollars"}) words_[word] = {kind::sign_after, 0, "$"};
    for (const char* word : {"cent", "cents"}) words_[word] = {kind::sign_after, 0, "\xC2\xA2"};
    words_["percent"] = {kind::percent, 0, ""};
    words_["per"] = {kind::per, 0, ""};
    for (const char* word : {"and", "double", "triple", "point"}) words_[word] = {kind::special, 0, ""};
  }

  void fill_small() {
    constexpr std::array ones{"one",     "two",     "three",     "four",     "five",    "six",      "seven",
                              "eight",   "nine",    "ten",       "eleven",   "twelve",  "thirteen", "fourteen",
                              "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
    int value = 0;
    for (const std::string name : ones) {
      words_[name] = {kind::one, ++value, ""};
      words_[name == "six" ? "sixes" : name + "s"] = {kind::one_suffixed, value, "s"};
      if (value > 3 && value != 5 && value != 12) {
        words_[name + (name.ends_with('t') ? "h" : "th")] = {kind::one_suffixed, value, "th"};
      }
    }
    words_["first"] = {kind::one_suffixed, 1, "st"};
    words_["second"] = {kind::one_suffixed, 2, "nd"};
    words_["third"] = {kind::one_suffixed, 3, "rd"};
    words_["fifth"] = {kind::one_suffixed, 5, "th"};
    words_["twelfth"] = {kind::one_suffixed, 12, "th"};
    value = 20;
    for (const std::string name : {"twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"}) {
      words_[name] = {kind::ten, value, ""};
      const std::string stem = name.substr(0, name.size() - 1);
      words_[stem + "ies"] = {kind::ten_suffixed, value, "s"};
      words_[stem + "ieth"] = {kind::ten_suffixed, value, "th"};
      value += 10;
    }
  }

  std::unordered_map<std::string, entry> words_;
};

}  // namespace runnel::metrics
