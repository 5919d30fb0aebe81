// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include <runnel/core/simd.hpp>

namespace runnel::tests {

/// The instruction sets of this build that this processor has. Define RUNNEL_ALL_INSTRUCTION_SETS in every unit of a
/// test program, before any include, to have more than the best.
inline std::vector<instruction_set> runnable_instruction_sets() {
  std::vector<instruction_set> out;
  for (const auto which : {instruction_set::baseline, instruction_set::avx2, instruction_set::avx512}) {
    if (!simd::compiled(which)) continue;
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    if (which == instruction_set::avx2 && !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) continue;
    if (which == instruction_set::avx512 && !__builtin_cpu_supports("avx512bw")) continue;
#endif
    out.push_back(which);
  }
  return out;
}

/// Calls `f(Arch{})` for each of them.
template <class F>
void for_each_arch(F&& f) {
  for (const instruction_set which : runnable_instruction_sets()) {
    simd::with_arch(which, [&](auto arch) { f(arch); });
  }
}

}  // namespace runnel::tests
