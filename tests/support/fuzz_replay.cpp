// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target without libFuzzer: on every file of the given folders, and on fixed mutations of each.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using bytes = std::vector<std::uint8_t>;

// Exactly sized, on the heap: an address sanitizer sees the first byte read past the end.
void run(const bytes& input) {
  const bytes copy(input.begin(), input.end());
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

void run_mutations(const bytes& seed, std::mt19937_64& random, int count) {
  if (seed.empty()) {
    return;
  }
  const auto below = [&random](std::size_t bound) { return static_cast<std::size_t>(random() % bound); };
  for (int round = 0; round < count; ++round) {
    bytes input = seed;
    // Headers are where lengths and offsets live, so half of the changes go there.
    const std::size_t span = round % 2 == 0 ? input.size() : std::min<std::size_t>(input.size(), 256);
    switch (below(5)) {
      case 0: input.resize(below(input.size())); break;
      case 1: input[below(span)] ^= static_cast<std::uint8_t>(1u << below(8)); break;
      case 2: input[below(span)] = static_cast<std::uint8_t>(random()); break;
      case 3: {
        const std::size_t at = below(span);
        const std::size_t length = std::min<std::size_t>(8, input.size() - at);
        std::fill_n(input.begin() + static_cast<std::ptrdiff_t>(at), length,
                    static_cast<std::uint8_t>(below(2) == 0 ? 0xff : 0x00));
        break;
      }
      default: {
        const std::size_t from = below(input.size());
        const bytes piece(input.begin() + static_cast<std::ptrdiff_t>(from), input.end());
        input.insert(input.begin() + static_cast<std::ptrdiff_t>(below(input.size())), piece.begin(), piece.end());
        break;
      }
    }
    run(input);
  }
}

}  // namespace

int main(int argc, char** argv) {
  constexpr int mutations = 300;
  std::mt19937_64 random(20240607);
  int files = 0;
  run({});
  for (int i = 1; i < argc; ++i) {
    if (!std::filesystem::exists(argv[i])) {
      continue;
    }
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
      if (entry.is_regular_file()) {
        paths.push_back(entry.path());
      }
    }
    std::sort(paths.begin(), paths.end());
    for (const auto& path : paths) {
      std::ifstream file(path, std::ios::binary);
      const bytes seed{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
      run(seed);
      run_mutations(seed, random, mutations);
      ++files;
    }
  }
  std::printf("%d files, %d mutations of each\n", files, mutations);
  return 0;
}
