// SPDX-License-Identifier: Apache-2.0
// What typed positions allow and refuse, as the compiler sees it.
#include <concepts>
#include <type_traits>

#include <runnel/position/position.hpp>

namespace {

using runnel::distance;
using runnel::group_offset;
using runnel::source_group;
using runnel::source_position;
using runnel::target_group;
using runnel::target_position;

template <class A, class B>
concept addable = requires(A a, B b) {
  a + b;
};
template <class A, class B>
concept subtractable = requires(A a, B b) {
  a - b;
};
template <class A, class B>
concept comparable = requires(A a, B b) {
  a < b;
};

using source_distance = distance<source_group>;
using target_distance = distance<target_group>;
using target_to_source = group_offset<target_group, source_group>;

// Points and displacements of one group.
static_assert(std::same_as<decltype(source_position() - source_position()), source_distance>);
static_assert(std::same_as<decltype(source_position() + source_distance()), source_position>);
static_assert(std::same_as<decltype(source_distance() + source_position()), source_position>);
static_assert(!addable<source_position, source_position>);

// Nothing crosses groups...
static_assert(!subtractable<source_position, target_position>);
static_assert(!subtractable<target_position, source_position>);
static_assert(!comparable<source_position, target_position>);
static_assert(!addable<source_position, target_distance>);
static_assert(!addable<source_distance, target_distance>);
static_assert(!std::constructible_from<source_position, target_position>);
static_assert(!std::constructible_from<source_distance, target_distance>);

// ...but an offset, and that in its own direction only.
static_assert(std::same_as<decltype(target_position() + target_to_source()), source_position>);
static_assert(!addable<source_position, target_to_source>);
static_assert(!addable<target_distance, target_to_source>);
static_assert(!std::constructible_from<target_to_source, group_offset<source_group, target_group>>);

// Numbers become positions only where someone says so.
static_assert(!std::convertible_to<double, source_position>);
static_assert(!std::convertible_to<source_position, double>);
static_assert(!std::convertible_to<double, source_distance>);
static_assert(!std::convertible_to<double, target_to_source>);

// They cost what a double costs.
static_assert(sizeof(source_position) == sizeof(double) && std::is_trivially_copyable_v<source_position>);

static_assert((target_position(3) + target_to_source(4.5)).value() == 7.5);
static_assert((source_position(7) - source_position(9)).tokens() == -2);

}  // namespace
