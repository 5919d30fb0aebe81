// SPDX-License-Identifier: Apache-2.0

#include "translation_log.hpp"

#include <cmath>
#include <system_error>

#include <nlohmann/json.hpp>

#include <runnel/core/error.hpp>
#include <runnel/io/atomic_file.hpp>

namespace runnel::cli {

std::string translation::text() const {
  std::string joined;
  for (const auto& word : words) {
    if (!joined.empty()) joined += ' ';
    joined += word;
  }
  return joined;
}

translation_log::translation_log(const std::filesystem::path& folder, const settings& how) {
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  expect<io_error>(!problem && std::filesystem::is_directory(folder, problem), "--output: cannot make the folder '",
                   folder.string(), "': ", problem ? problem.message() : "a file of this name is in the way");
  std::string config;
  for (const auto& [key, value] : how) {  // a JSON string is a YAML string
    config += key + ": " + nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }
  io::write_file_atomically(folder / "config.yaml", std::as_bytes(std::span(config.data(), config.size())));
  const auto path = folder / "instances.log";
  name_ = path.string();
  file_.open(path, std::ios::binary | std::ios::trunc);
  expect<io_error>(file_.good(), "--output: cannot write '", name_, "'");
}

void translation_log::add(const translation& one) {
  nlohmann::ordered_json line;
  line["index"] = one.index;
  line["prediction"] = one.text();
  line["delays"] = one.delays;
  auto elapsed = nlohmann::ordered_json::array();
  for (const double ms : one.elapsed_ms) elapsed.push_back(std::round(ms * 1000) / 1000);
  line["elapsed"] = std::move(elapsed);
  line["prediction_length"] = one.words.size();
  line["reference"] = one.reference ? nlohmann::ordered_json(*one.reference) : nlohmann::ordered_json(nullptr);
  line["source"] = one.source;
  line["source_length"] = one.num_source_units;
  file_ << line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n' << std::flush;
  expect<io_error>(file_.good(), "--output: cannot write '", name_, "'");
}

}  // namespace runnel::cli
