// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <ostream>

#include <runnel/position/group.hpp>

namespace runnel {

/// Displacement between two positions of one group, in tokens (fractions allowed).
template <Group G>
class distance {
 public:
  constexpr distance() = default;
  constexpr explicit distance(double tokens) noexcept : tokens_(tokens) {}
  [[nodiscard]] constexpr double tokens() const noexcept { return tokens_; }

  friend constexpr auto operator<=>(distance, distance) = default;
  friend constexpr distance operator+(distance a, distance b) noexcept { return distance(a.tokens_ + b.tokens_); }
  friend constexpr distance operator-(distance a, distance b) noexcept { return distance(a.tokens_ - b.tokens_); }
  friend constexpr distance operator-(distance a) noexcept { return distance(-a.tokens_); }
  friend constexpr distance operator*(double factor, distance a) noexcept { return distance(factor * a.tokens_); }
  friend std::ostream& operator<<(std::ostream& out, distance a) { return out << G::name << "+" << a.tokens_; }

 private:
  double tokens_ = 0;
};

/// A point on the position axis of one group (paper section 4.2: source and target are numbered independently).
///
/// Point minus point is a `distance`, point plus distance is a point; adding points does not compile, nor does mixing
/// groups: that takes a `group_offset`. Held as double, so that integers up to 2^53 and fractional phi are exact.
template <Group G>
class position {
 public:
  constexpr position() = default;
  constexpr explicit position(double value) noexcept : value_(value) {}
  [[nodiscard]] constexpr double value() const noexcept { return value_; }

  friend constexpr auto operator<=>(position, position) = default;
  friend constexpr distance<G> operator-(position a, position b) noexcept { return distance<G>(a.value_ - b.value_); }
  friend constexpr position operator+(position a, distance<G> d) noexcept { return position(a.value_ + d.tokens()); }
  friend constexpr position operator+(distance<G> d, position a) noexcept { return a + d; }
  friend constexpr position operator-(position a, distance<G> d) noexcept { return position(a.value_ - d.tokens()); }
  friend std::ostream& operator<<(std::ostream& out, position a) { return out << G::name << ":" << a.value_; }

 private:
  double value_ = 0;
};

/// How a query of one group stands in the frame of another group's keys: the only bridge between groups.
///
/// `query + offset` is the query as the keys of group `Key` see it. For grouped positions the offset from target to
/// source is phi (paper section 4.2). The inverse is never derived: a plan states each direction it uses.
template <Group Query, Group Key>
class group_offset {
 public:
  constexpr group_offset() = default;
  constexpr explicit group_offset(double tokens) noexcept : tokens_(tokens) {}
  [[nodiscard]] constexpr double tokens() const noexcept { return tokens_; }

  friend constexpr auto operator<=>(group_offset, group_offset) = default;
  friend constexpr position<Key> operator+(position<Query> query, group_offset offset) noexcept {
    return position<Key>(query.value() + offset.tokens_);
  }

 private:
  double tokens_ = 0;
};

using source_position = position<source_group>;
using target_position = position<target_group>;

}  // namespace runnel
