// SPDX-License-Identifier: Apache-2.0
#if __has_include(<runnel/runnel.hpp>)
#include <runnel/runnel.hpp>
#else
#include <runnel/core/error.hpp>
#endif

const char* second_unit();
const char* second_unit() { return "caught across units"; }
