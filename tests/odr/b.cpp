// SPDX-License-Identifier: Apache-2.0
#include <runnel_all_headers.hpp>

int other_unit();
int other_unit() { return 0; }
