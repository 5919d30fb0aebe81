// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <runnel/core/error.hpp>
#include <runnel/io/mmap.hpp>

/// \file
/// What the tests of this room share: a folder that cleans up, bytes put together by hand, messages of failures.

namespace runnel_test {

/// A fresh folder, removed with everything in it at the end.
class scratch_folder {
 public:
  scratch_folder() {
    static std::atomic<unsigned> last{0};
    std::random_device seed;
    path_ = std::filesystem::temp_directory_path() /
            ("runnel-test-" + std::to_string(seed()) + "-" + std::to_string(last.fetch_add(1)));
    std::filesystem::create_directories(path_);
  }
  scratch_folder(const scratch_folder&) = delete;
  scratch_folder& operator=(const scratch_folder&) = delete;
  ~scratch_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  [[nodiscard]] std::size_t count() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
  }

 private:
  std::filesystem::path path_;
};

inline std::filesystem::path golden(std::string_view name) {
  return std::filesystem::path(__FILE__).parent_path().parent_path() / "golden" / "io" / name;
}

/// Bytes put together by hand, little endian.
class byte_builder {
 public:
  template <class T>
  requires std::is_arithmetic_v<T> byte_builder& number(T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    text_.append(raw, sizeof(T));
    return *this;
  }
  byte_builder& raw(std::string_view text) {
    text_ += text;
    return *this;
  }
  /// A string as GGUF stores it: length, then bytes.
  byte_builder& string(std::string_view text) { return number(std::uint64_t{text.size()}).raw(text); }
  byte_builder& zeros(std::size_t count) {
    text_.append(count, '\0');
    return *this;
  }
  byte_builder& pad(std::size_t alignment) { return zeros((alignment - text_.size() % alignment) % alignment); }

  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

inline runnel::io::mapped_file in_memory(std::string_view text, std::string name) {
  return runnel::io::mapped_file::from_bytes(bytes_of(text), std::move(name));
}

inline void put(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

inline std::string content(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// The message with which `action` throws `Error`; text that no test expects if it throws something else or nothing.
template <class Error, class Action>
std::string failure(Action&& action) {
  try {
    action();
  } catch (const Error& problem) {
    return problem.what();
  } catch (const std::exception& other) {
    return std::string("<another exception: ") + other.what() + ">";
  }
  return "<no exception>";
}

inline bool holds(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

/// The most address space this process ever had, in bytes; 0 where the system does not tell.
inline std::uint64_t peak_address_space() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("VmPeak:")) return std::stoull(line.substr(7)) * 1024;
  }
  return 0;
}

}  // namespace runnel_test
