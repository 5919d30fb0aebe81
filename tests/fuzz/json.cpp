// SPDX-License-Identifier: Apache-2.0
// Any bytes as JSON: what is taken is what another library takes it for.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <runnel/core/error.hpp>
#include <runnel/io/json.hpp>

namespace {

bool same(runnel::io::json_value value, const nlohmann::json& other) {
  if (const auto text = value.text()) return other == *text;
  if (const auto truth = value.truth()) return other == *truth;
  if (const auto number = value.number()) return other == *number;
  if (value.is_null()) return other.is_null();
  if (value.is_array() != other.is_array()) return false;
  std::size_t place = 0;
  for (const auto one : value) {
    if (value.is_array() && (place >= other.size() || !same(one, other[place]))) return false;
    // Of members of one name the last counts there, so others may differ.
    if (value.is_object() && !other.contains(std::string(one.name()))) return false;
    ++place;
  }
  return value.is_object() || place == other.size();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const runnel::io::json_document document(text, "input");
    const auto other = nlohmann::json::parse(text, nullptr, false);
    if (other.is_discarded() || !same(document.root(), other)) std::abort();
  } catch (const runnel::error&) {
  }
  return 0;
}
