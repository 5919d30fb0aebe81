// SPDX-License-Identifier: Apache-2.0
// Two points have no sum.
// expect: no match for 'operator+'
// expect: invalid operands to binary expression
#include <runnel/position/position.hpp>

void f(runnel::source_position source, runnel::target_position target, runnel::distance<runnel::target_group> step,
       runnel::group_offset<runnel::target_group, runnel::source_group> offset) {
  static_cast<void>(source), static_cast<void>(target), static_cast<void>(step), static_cast<void>(offset);
#ifdef RUNNEL_MUST_FAIL
  static_cast<void>(source + source);
#endif
}
