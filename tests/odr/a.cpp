// SPDX-License-Identifier: Apache-2.0
// Together with b.cpp: a function in a header that is neither inline nor a template is defined twice and does not link.
#include <runnel_all_headers.hpp>

int other_unit();

int main() { return other_unit(); }
