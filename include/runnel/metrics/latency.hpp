// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/metrics/words.hpp>

namespace runnel::metrics {

/// When a sentence's words were written. `delays` are in one unit with `source_length`: words of source read, or
/// milliseconds of speech heard, or, computation-aware, milliseconds that had gone by.
struct latency_input {
  std::span<const double> delays;  ///< of each word of the hypothesis
  double source_length = 0;
  /// Words of the reference, or nothing where there is none: the hypothesis's length stands in for it.
  std::optional<std::int64_t> reference_length;
};

namespace detail {

/// Average lagging where the ideal writer needs `target_length` steps for the source.
[[nodiscard]] inline std::optional<double> lag(std::span<const double> delays, double source_length,
                                               double target_length) noexcept {
  if (delays.front() > source_length) return delays.front();
  if (target_length <= 0) return std::nullopt;
  const double rate = target_length / source_length;
  double sum = 0;
  std::size_t count = 0;
  for (const double delay : delays) {
    sum += delay - static_cast<double>(count) / rate;
    ++count;
    if (delay >= source_length) break;
  }
  return sum / static_cast<double>(count);
}

[[nodiscard]] inline bool can_be_timed(const latency_input& of) noexcept {
  return !of.delays.empty() && of.source_length > 0;
}

[[nodiscard]] inline double target_length(const latency_input& of) noexcept {
  return of.reference_length ? static_cast<double>(*of.reference_length) : static_cast<double>(of.delays.size());
}

}  // namespace detail

/// Average lagging (Ma et al., 2019, "STACL", section 4), with the reference's length as SimulEval takes it: how far
/// behind an ideal writer the words are that were written up to the one for which all of the source had been read. A
/// first word later than the whole source is its own lag, whatever the reference. Nothing for an empty hypothesis or
/// source; otherwise nothing for an empty reference.
[[nodiscard]] inline std::optional<double> average_lagging(const latency_input& of) noexcept {
  if (!detail::can_be_timed(of)) return std::nullopt;
  return detail::lag(of.delays, of.source_length, detail::target_length(of));
}

/// Length-adaptive average lagging (Papi et al., 2022; Polak et al., 2022): as `average_lagging`, with the longer of
/// reference and hypothesis, so that writing too much gains nothing. Nothing for an empty hypothesis or source.
[[nodiscard]] inline std::optional<double> length_adaptive_average_lagging(const latency_input& of) noexcept {
  if (!detail::can_be_timed(of)) return std::nullopt;
  const auto written = static_cast<double>(of.delays.size());
  return detail::lag(of.delays, of.source_length, std::max(written, detail::target_length(of)));
}

/// Average proportion (Cho and Esipova, 2016): the share of the source that had been read, averaged over the words of
/// the reference's length, as SimulEval takes it. Nothing for an empty hypothesis, source or reference.
[[nodiscard]] inline std::optional<double> average_proportion(const latency_input& of) noexcept {
  if (!detail::can_be_timed(of) || detail::target_length(of) <= 0) return std::nullopt;
  double sum = 0;
  for (const double delay : of.delays) sum += delay;
  return sum / (of.source_length * detail::target_length(of));
}

/// Differentiable average lagging (Cherry and Foster, 2019; Arivazhagan et al., 2019): every word takes at least its
/// share of the source's time, so lag once got is not lost by writing fast. By the hypothesis's length alone. Nothing
/// for an empty hypothesis or source.
[[nodiscard]] inline std::optional<double> differentiable_average_lagging(const latency_input& of) noexcept {
  if (!detail::can_be_timed(of)) return std::nullopt;
  const auto written = static_cast<double>(of.delays.size());
  const double rate = written / of.source_length;
  double sum = 0;
  double before = 0;
  std::size_t count = 0;
  for (const double delay : of.delays) {
    before = count == 0 ? delay : std::max(delay, before + 1 / rate);
    sum += before - static_cast<double>(count) / rate;
    ++count;
  }
  return sum / written;
}

/// The four latencies of a sentence; nothing where one is not defined.
struct latencies {
  std::optional<double> al;
  std::optional<double> laal;
  std::optional<double> ap;
  std::optional<double> dal;
};

/// All four at once.
[[nodiscard]] inline latencies measure_latency(const latency_input& of) noexcept {
  return {average_lagging(of), length_adaptive_average_lagging(of), average_proportion(of),
          differentiable_average_lagging(of)};
}

/// Means over sentences; a sentence counts for the latencies that it has, as in SimulEval, which skips those without
/// delays.
class mean_latency {
 public:
  void add(const latencies& one) noexcept {
    al_.add(one.al);
    laal_.add(one.laal);
    ap_.add(one.ap);
    dal_.add(one.dal);
  }
  /// The means; nothing for a latency that no sentence had.
  [[nodiscard]] latencies mean() const noexcept { return {al_.mean(), laal_.mean(), ap_.mean(), dal_.mean()}; }
  /// Sentences that had a hypothesis and a source.
  [[nodiscard]] std::int64_t sentences() const noexcept { return laal_.count; }

 private:
  struct accumulator {
    void add(const std::optional<double>& value) noexcept {
      if (!value) return;
      sum += *value;
      ++count;
    }
    [[nodiscard]] std::optional<double> mean() const noexcept {
      return count > 0 ? std::optional(sum / static_cast<double>(count)) : std::nullopt;
    }
    double sum = 0;
    std::int64_t count = 0;
  };
  accumulator al_;
  accumulator laal_;
  accumulator ap_;
  accumulator dal_;
};

/// What a target is counted in.
enum class latency_unit : std::uint8_t { word, character };

/// A reference's length as SimulEval counts it: words are what stands between single spaces, so two spaces in a row
/// hold one more, and an empty reference is one word; characters are those between the first and the last that is no
/// white space.
[[nodiscard]] inline std::int64_t reference_length(std::string_view reference, latency_unit unit) noexcept {
  if (unit == latency_unit::character) return static_cast<std::int64_t>(unicode::length(trim(reference)));
  return static_cast<std::int64_t>(std::count(reference.begin(), reference.end(), ' ')) + 1;
}

/// Computation-aware delays of a text's words in milliseconds, as SimulEval has them for speech: the source read, at
/// `ms_per_unit` for each unit of it, and the time that computing had taken by then. `delays` count units,
/// `computed_ms` counts from the sentence's beginning, without waiting for input. Throws shape_error if their numbers
/// differ, config_error unless `ms_per_unit` is positive.
[[nodiscard]] inline std::vector<double> computation_aware_delays(std::span<const double> delays,
                                                                  std::span<const double> computed_ms,
                                                                  double ms_per_unit) {
  expect<shape_error>(delays.size() == computed_ms.size(), "latency: expected a time for each of ", delays.size(),
                      " delays, found ", computed_ms.size());
  expect<config_error>(ms_per_unit > 0 && std::isfinite(ms_per_unit),
                       "latency: expected a positive number of milliseconds a source unit, found ", ms_per_unit);
  std::vector<double> aware(delays.size());
  for (std::size_t i = 0; i < aware.size(); ++i) aware[i] = delays[i] * ms_per_unit + computed_ms[i];
  return aware;
}

/// Things done in each second, or nothing where no time went by.
[[nodiscard]] inline std::optional<double> throughput(std::int64_t count, double seconds) noexcept {
  return seconds > 0 ? std::optional(static_cast<double>(count) / seconds) : std::nullopt;
}

}  // namespace runnel::metrics
