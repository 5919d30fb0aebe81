// SPDX-License-Identifier: Apache-2.0
// Every plan of the paper in one pass, against dense masks and explicit positions (golden/models/make_plans.py).
#include <doctest/doctest.h>

#include <fstream>

#include <nlohmann/json.hpp>

#include "golden.hpp"
#include "support/instruction_sets.hpp"

namespace {

using namespace runnel;

/// What a case of the golden means in the terms of the library.
struct plan_rows {
  row_rules rules;
  bool everything_read = false;           // batch: all source before all target
  std::optional<index_t> recompute_step;  // full re-encoding: what had been read at this step, for every row
};

plan_rows plan_of(const std::string& name) {
  using side = removed_positions::side;
  const auto ends_with_number = [&](const std::string& start) { return std::stod(name.substr(start.size())); };
  if (name == "batch") return {{contiguous_positions{}, false, true}, true, {}};
  if (name == "batch_grouped_7.25") return {{grouped_positions{7.25}, false, true}, true, {}};
  if (name.starts_with("group_")) return {{grouped_positions{ends_with_number("group_")}, false, true}, false, {}};
  if (name == "no_reencoding") return {{interleaved_positions{}, false, true}, false, {}};
  if (name == "reencode_positions") return {{contiguous_positions{}, false, true}, false, {}};
  if (name.starts_with("reencode_all_")) {
    return {{contiguous_positions{}, false, true}, false, static_cast<index_t>(ends_with_number("reencode_all_"))};
  }
  if (name == "interleaved") return {{interleaved_positions{}, true, false}, false, {}};
  if (name == "removed_source") return {{removed_positions{side::source}, false, true}, false, {}};
  if (name == "removed_target") return {{removed_positions{side::target}, false, true}, false, {}};
  REQUIRE(name == "removed_both");
  return {{removed_positions{side::both}, false, true}, false, {}};
}

TEST_CASE("all plans are what their masks and positions say") {
  const auto folder = tests::golden_models();
  const auto model = models::load_hugging_face_decoder(folder / "gqa");
  const auto described = nlohmann::json::parse(std::ifstream(folder / "plans" / "plans.json"));
  for (const auto& item : described.items()) {
    const std::string sentence = item.key();
    const auto& data = item.value();
    CAPTURE(sentence);
    const auto tokens = data.at("tokens").get<std::vector<std::int32_t>>();
    const auto read = data.at("read").get<std::vector<index_t>>();
    const auto wanted = data.at("rows").get<std::vector<index_t>>();
    const auto source_rows = data.at("source_rows").get<index_t>();
    const auto names = data.at("cases").get<std::vector<std::string>>();
    const auto expected = io::read_npy<float>(folder / "plans" / (sentence + ".npy"));
    REQUIRE(expected.shape[0] == names.size());
    const std::size_t size = expected.values.size() / names.size();
    for (std::size_t i = 0; i < names.size(); ++i) {
      CAPTURE(names[i]);
      const auto plan = plan_of(names[i]);
      const arrivals when(plan.everything_read ? std::vector<index_t>(read.size(), source_rows) : read, source_rows);
      row_table rows;
      for (index_t r = 0; r < source_rows; ++r) rows.add_source(plan.rules, when, r);
      for (index_t p = 0; p < static_cast<index_t>(read.size()); ++p) {
        rows.add_target(plan.rules, when, p,
                        plan.recompute_step ? std::optional(when.c(*plan.recompute_step)) : std::nullopt);
      }
      for (const instruction_set which : tests::runnable_instruction_sets()) {
        CAPTURE(name_of(which));
        ops::eval context({1, ops::compute_mode::f32, which});
        auto cache = model.make_cache();
        const models::stream_rows stream{&cache, &rows, tokens, wanted};
        const auto found = tests::copy_rows(model.forward(context, std::span(&stream, 1)));
        CHECK(tests::largest_difference(found, std::span(expected.values).subspan(i * size, size)) <= 1e-4);
      }
    }
  }
}

}  // namespace
