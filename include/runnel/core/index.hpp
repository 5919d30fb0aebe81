// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace runnel {

/// Signed count or index of rows, tokens, keys and elements.
using index_t = std::int64_t;

}  // namespace runnel
