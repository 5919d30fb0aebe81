// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include <runnel/train/text_source.hpp>

namespace runnel::cli {

/// Opens a text, plain or compressed by gzip, whatever it is called. Reading throws io_error that names the file if it
/// cannot be read, format_error if what was compressed is damaged or cut.
[[nodiscard]] train::byte_source open_text(const std::filesystem::path& path);

/// The same, and reading throws cancelled_error once a signal came: for whom that loses nothing.
[[nodiscard]] train::byte_source open_text_until_signal(const std::filesystem::path& path);

}  // namespace runnel::cli
