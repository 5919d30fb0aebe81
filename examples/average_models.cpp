// SPDX-License-Identifier: Apache-2.0
//
// Averages the weights of models that one training gave, one after another: what they share stays, what each learned by
// heart fades (Izmailov et al. 2018; Wortsman et al. 2022).
//
//   average_models OUT MODEL MODEL...
//
// Each MODEL is a folder with safetensors files in it or below, all of the same names and shapes. OUT, which must not
// be there yet, becomes a copy of the first with the mean of all weights, in the types that they have.

#include <cstddef>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <span>
#include <string>
#include <vector>

#include <runnel/io/safetensors.hpp>
#include <runnel/quant/codecs.hpp>

namespace {

using namespace runnel;
namespace fs = std::filesystem;

/// The mean of a tensor over files, stored as in the first.
std::vector<std::byte> mean(const io::stored_tensor& first, std::span<const io::safetensors_file> files) {
  const auto count = static_cast<std::size_t>(first.elements());
  std::vector<double> sums(count);
  std::vector<float> values(count);
  for (const auto& file : files) {
    const auto* const other = file.find_tensor(first.name);
    expect<format_error>(other != nullptr && other->shape == first.shape, file.name(), ": tensor ", first.name,
                         other == nullptr ? " is missing" : " has another shape than the first model's");
    quant::decode(other->loadable_format(), other->bytes.data(), count, values.data());
    for (std::size_t i = 0; i < count; ++i) sums[i] += static_cast<double>(values[i]);
  }
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(sums[i] / static_cast<double>(files.size()));
  std::vector<std::byte> out(first.bytes.size());
  quant::encode(first.loadable_format(), values.data(), count, out.data());
  return out;
}

void average(const fs::path& out, const std::vector<fs::path>& models) {
  expect(!fs::exists(out), out.string(), ": is there already");
  fs::copy(models.front(), out, fs::copy_options::recursive);
  std::size_t averaged = 0;
  for (const auto& entry : fs::recursive_directory_iterator(models.front())) {
    if (entry.path().extension() != ".safetensors") continue;
    const fs::path name = fs::relative(entry.path(), models.front());
    std::vector<io::safetensors_file> files;
    for (const auto& model : models) files.emplace_back(model / name);
    std::fstream to(out / name, std::ios::binary | std::ios::in | std::ios::out);
    for (const io::stored_tensor& tensor : files.front().tensors()) {
      const auto bytes = mean(tensor, files);
      to.seekp(static_cast<std::streamoff>(tensor.file_offset));
      to.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
      ++averaged;
    }
    to.close();
    expect<io_error>(to.good(), (out / name).string(), ": cannot be written");
  }
  expect<format_error>(averaged > 0, models.front().string(), ": has no safetensors file");
  std::cout << out.string() << ": the mean of " << models.size() << " models, " << averaged << " tensors\n";
}

}  // namespace

int main(int argc, char** argv) {
  try {
    expect(argc >= 4, "usage: average_models OUT MODEL MODEL...");
    average(argv[1], {argv + 2, argv + argc});
    return 0;
  } catch (const std::exception& problem) {
    std::cerr << "average_models: " << problem.what() << '\n';
    return 1;
  }
}
