// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include <runnel/core/aligned_buffer.hpp>
#include <runnel/core/dtype.hpp>
#include <runnel/core/error.hpp>
#include <runnel/kernels/key_value_page.hpp>
#include <runnel/ops/eval.hpp>

namespace runnel::cache {

/// Numbers that keys and values are kept as. Scores and sums are float with all of them; where a layer's products are
/// computed in bf16 or int8, attention multiplies what is kept as bf16 in bf16: the fastest.
enum class storage_type : std::uint8_t {
  f32,
  bf16,
  f16,
  q8_0,  ///< bytes, with a float scale for each 32 features of an entry: 9 bits a number
};

inline constexpr std::array storage_types{storage_type::f32, storage_type::bf16, storage_type::f16, storage_type::q8_0};

[[nodiscard]] constexpr std::string_view name_of(storage_type type) noexcept {
  switch (type) {
    case storage_type::f32: return "f32";
    case storage_type::bf16: return "bf16";
    case storage_type::f16: return "f16";
    case storage_type::q8_0: return "q8_0";
  }
  return "unknown";
}

/// The storage type of that name, if there is one.
[[nodiscard]] constexpr std::optional<storage_type> storage_from_name(std::string_view name) noexcept {
  for (const storage_type type : storage_types) {
    if (name_of(type) == name) return type;
  }
  return std::nullopt;
}

/// What keys and values are kept as unless someone says otherwise, where products are computed in `mode`: bf16 beside
/// bytes, which lose more; else floats. (bf16 takes half the memory and is attended to fastest; beside products in bf16
/// it would add four fifths to what they lose.)
[[nodiscard]] constexpr storage_type storage_for(ops::compute_mode mode) noexcept {
  return mode == ops::compute_mode::int8 ? storage_type::bf16 : storage_type::f32;
}

/// Sizes and storage of one key/value entry, and how many positions its stream was declared for: rotary tables that
/// depend on it are chosen once, when the cache is made.
struct entry_shape {
  index_t layers = 0;
  index_t kv_heads = 0;
  index_t head_dim = 0;
  storage_type storage = storage_type::f32;
  index_t context = 0;
  friend bool operator==(const entry_shape&, const entry_shape&) = default;
};

/// Keys and values of one stream: an append-only arena per group, paged, all layers together.
///
/// Source and target are addressed side by side and never copied into one another (the paper's "separate" and "merge"
/// are views here). A pass reserves, writes at and past `size`, and commits when it has succeeded; until then the arena
/// is as it was. Pages hold 64 entries; truncation keeps them for reuse. Keys are stored rotated by their own position.
class key_value_cache {
 public:
  using value_type = float;  ///< what entries are given as

  key_value_cache() = default;
  /// Throws config_error unless all sizes are positive.
  explicit key_value_cache(const entry_shape& entry) : entry_(entry) {
    expect(entry.layers > 0 && entry.kv_heads > 0 && entry.head_dim > 0, "cache: sizes must be positive");
    for (auto& arena : arenas_) arena.pages.resize(static_cast<std::size_t>(entry.layers));
  }

  [[nodiscard]] const entry_shape& entry() const noexcept { return entry_; }

  /// Entries of a group that are there to be seen.
  [[nodiscard]] index_t size(group which) const noexcept { return arena_of(which).size; }

  /// Makes room for `length` entries. Strong guarantee; what is stored stays.
  void reserve(group which, index_t length) {
    auto& arena = arena_of(which);
    const index_t wanted = (length + kernels::page_keys - 1) / kernels::page_keys;
    while (static_cast<index_t>(arena.blocks.size()) < wanted) add_page(arena);
  }

  /// Entries [size, length) were written in every layer. Throws config_error if length is below the size or not
  /// reserved.
  void commit(group which, index_t length) {
    auto& arena = arena_of(which);
    expect(length >= arena.size && length <= static_cast<index_t>(arena.blocks.size()) * kernels::page_keys,
           "cache: cannot commit ", length, " entries after ", arena.size);
    arena.size = length;
  }

  /// Forgets entries from `length` on. Throws config_error if there are fewer.
  void truncate(group which, index_t length) {
    auto& arena = arena_of(which);
    expect(length >= 0 && length <= arena.size, "cache: cannot truncate to ", length, " entries, there are ",
           arena.size);
    arena.size = length;
    if (length == 0) arena.dropped = 0;
  }

  /// Entries that were dropped before the first one there is.
  [[nodiscard]] index_t dropped(group which) const noexcept { return arena_of(which).dropped; }

  /// Forgets the first page of a group, `kernels::page_keys` entries, and keeps its memory for later ones: entry i is
  /// entry i - page_keys from then on, and attention over what stays gives the same bits. Throws config_error if there
  /// are fewer entries.
  void drop_page(group which) {
    auto& arena = arena_of(which);
    expect(arena.size >= kernels::page_keys, "cache: cannot drop a page of ", kernels::page_keys,
           " entries, there are ", arena.size);
    std::rotate(arena.blocks.begin(), arena.blocks.begin() + 1, arena.blocks.end());
    for (auto& pages : arena.pages) std::rotate(pages.begin(), pages.begin() + 1, pages.end());
    arena.size -= kernels::page_keys;
    arena.dropped += kernels::page_keys;
  }

  /// Pages of one layer and group, in order; each holds all key/value heads as `entry().storage`
  /// (kernels/key_value_page.hpp).
  [[nodiscard]] std::span<std::byte* const> pages(index_t layer, group which) const noexcept {
    return arena_of(which).pages[static_cast<std::size_t>(layer)];
  }

  /// Calls `f(S{})` with what pages keep (kernels/key_value_page.hpp): the one switch over storage types.
  template <class F>
  decltype(auto) with_storage(F&& f) const {
    switch (entry_.storage) {
      case storage_type::bf16: return f(bf16{});
      case storage_type::f16: return f(f16{});
      case storage_type::q8_0: return f(kernels::byte_entry{});
      case storage_type::f32: break;
    }
    return f(float{});
  }

  /// Writes entries of one layer; their places must be reserved and not committed.
  void write(index_t layer, group which, const kernels::key_value_rows<float>& rows) noexcept {
    const auto& pages = arena_of(which).pages[static_cast<std::size_t>(layer)];
    with_storage([&]<class Storage>(Storage) {
      rows.by_page([&](std::size_t page, const auto& part) {
        kernels::store_key_values<Storage>(pages[page], part, entry_.kv_heads, entry_.head_dim);
      });
    });
  }

  /// A copy with its own memory: continue two ways from here.
  [[nodiscard]] key_value_cache snapshot() const {
    key_value_cache copy(entry_);
    for (std::size_t g = 0; g < num_groups; ++g) {
      const auto which = static_cast<group>(g);
      copy.reserve(which, size(which));
      const auto& from = arenas_[g].blocks;
      for (std::size_t p = 0; p < copy.arenas_[g].blocks.size(); ++p) {
        std::copy(from[p].data(), from[p].data() + from[p].size(), copy.arenas_[g].blocks[p].data());
      }
      copy.commit(which, size(which));
      copy.arenas_[g].dropped = arenas_[g].dropped;
    }
    return copy;
  }

  /// Bytes held.
  [[nodiscard]] std::size_t capacity_bytes() const noexcept {
    std::size_t total = 0;
    for (const auto& arena : arenas_) {
      for (const auto& block : arena.blocks) total += block.size();
    }
    return total;
  }

 private:
  struct group_arena {
    index_t size = 0;
    index_t dropped = 0;
    std::vector<aligned_buffer<std::byte>> blocks;  // one a page, all layers
    std::vector<std::vector<std::byte*>> pages;     // [layer][page]
  };

  [[nodiscard]] group_arena& arena_of(group which) noexcept { return arenas_[static_cast<std::size_t>(which)]; }
  [[nodiscard]] const group_arena& arena_of(group which) const noexcept {
    return arenas_[static_cast<std::size_t>(which)];
  }

  void add_page(group_arena& to) {
    const index_t bytes = with_storage(
        [&]<class Storage>(Storage) { return entry_.kv_heads * kernels::page_head_bytes<Storage>(entry_.head_dim); });
    for (auto& pages : to.pages) {
      if (pages.size() == pages.capacity()) pages.reserve(2 * pages.size() + 8);  // all before anything changes
    }
    to.blocks.emplace_back(static_cast<std::size_t>(bytes * entry_.layers));
    std::byte* start = to.blocks.back().data();
    for (auto& pages : to.pages) {
      pages.push_back(start);
      start += bytes;
    }
  }

  entry_shape entry_;
  std::array<group_arena, num_groups> arenas_;
};

}  // namespace runnel::cache
