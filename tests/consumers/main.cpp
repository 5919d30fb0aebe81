// SPDX-License-Identifier: Apache-2.0
// What a user of the library compiles first: the header with everything, in a program of two units.
#if __has_include(<runnel/runnel.hpp>)
#include <runnel/runnel.hpp>
#else
#include <runnel/core/config.hpp>
#include <runnel/core/error.hpp>
#endif

#include <cstdio>

const char* second_unit();

#if __cplusplus < 202002L
#error "linking runnel::runnel must bring C++20"
#endif

int main() {
  std::printf("runnel %d.%d.%d\n", RUNNEL_VERSION_MAJOR, RUNNEL_VERSION_MINOR, RUNNEL_VERSION_PATCH);
  try {
    throw runnel::config_error(second_unit());
  } catch (const runnel::error& problem) {
    return problem.what()[0] == 'c' ? 0 : 1;
  }
}
