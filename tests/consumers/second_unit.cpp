// SPDX-License-Identifier: Apache-2.0
#include <runnel/core/error.hpp>

const char* second_unit();
const char* second_unit() { return "caught across units"; }
