// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <runnel/stream/plan.hpp>

using namespace runnel;
using namespace runnel::stream;

namespace {

constexpr index_t source_rows = 9;
const std::array<index_t, 6> read_at{3, 3, 5, 5, 5, 7};  // c(p); one more source row group is read after the last

arrivals streamed() { return arrivals(read_at, source_rows); }
arrivals all_first() {
  const std::array<index_t, 6> all{9, 9, 9, 9, 9, 9};
  return arrivals(all, source_rows);
}

// c(p+1): after the last, what is read now.
index_t c_next(index_t p) { return p + 1 < 6 ? read_at[static_cast<std::size_t>(p + 1)] : source_rows; }
index_t c_own(index_t p) { return read_at[static_cast<std::size_t>(p)]; }
// u(r): targets with c(p) <= r, counted by hand.
index_t u(index_t r) {
  index_t count = 0;
  for (const index_t c : read_at) count += c <= r ? 1 : 0;
  return count;
}

struct expected_row {
  double value;
  double offset;
  index_t visible;
};

template <class Expect>
void check_target(const plan& how, const arrivals& when, Expect expect) {
  row_table rows;
  for (index_t p = 0; p < 6; ++p) rows.add_target(how.rules(), when, p, how.visible_source(when, p));
  for (index_t p = 0; p < 6; ++p) {
    CAPTURE(p);
    const expected_row wanted = expect(p);
    const auto i = static_cast<std::size_t>(p);
    CHECK(rows.values()[i] == wanted.value);
    CHECK(rows.storage()[i] == p);
    CHECK(rows.toward(group::source).offsets[i] == wanted.offset);
    CHECK(rows.toward(group::source).ranges[i] == key_range{0, static_cast<std::int32_t>(wanted.visible)});
    CHECK(rows.toward(group::target).ranges[i] == key_range{0, static_cast<std::int32_t>(p + 1)});
    CHECK(rows.toward(group::target).offsets[i] == 0);
  }
}

template <class Value, class Seen>
void check_source(const plan& how, const arrivals& when, Value value, Seen seen) {
  row_table rows;
  for (index_t r = 0; r < source_rows; ++r) rows.add_source(how.rules(), when, r);
  for (index_t r = 0; r < source_rows; ++r) {
    CAPTURE(r);
    const auto i = static_cast<std::size_t>(r);
    CHECK(rows.values()[i] == value(r));
    CHECK(rows.toward(group::source).ranges[i] == key_range{0, static_cast<std::int32_t>(r + 1)});
    CHECK(rows.toward(group::target).ranges[i] == key_range{0, static_cast<std::int32_t>(seen(r))});
  }
}

constexpr auto nothing = [](index_t) { return index_t{0}; };
constexpr auto index_itself = [](index_t r) { return static_cast<double>(r); };

}  // namespace

TEST_CASE("batch: r and p, the target after the whole source") {
  check_source(batch(), all_first(), index_itself, nothing);
  check_target(batch(), all_first(), [](index_t p) { return expected_row{double(p), 9, 9}; });
  CHECK(batch().order == event_order::read_all_first);
}

TEST_CASE("group positions, batch and streaming, any phi") {
  for (const double phi : {0.0, 0.5, 4.0, 1000.25}) {
    check_source(batch_grouped(phi), all_first(), index_itself, nothing);
    check_target(batch_grouped(phi), all_first(), [&](index_t p) { return expected_row{double(p), phi, 9}; });
    check_source(group_streaming(phi), streamed(), index_itself, nothing);
    check_target(group_streaming(phi), streamed(), [&](index_t p) { return expected_row{double(p), phi, c_next(p)}; });
  }
}

TEST_CASE("batch-streaming without re-encoding: positions of arrival, one frame") {
  const plan how = batch_streaming(reencode::none);
  check_source(
      how, streamed(), [](index_t r) { return double(r + u(r)); }, nothing);
  check_target(how, streamed(), [](index_t p) { return expected_row{double(c_own(p) + p), 0, c_next(p)}; });
}

TEST_CASE("batch-streaming, positions re-encoded: the offset is what the row sees") {
  const plan how = batch_streaming(reencode::positions);
  check_source(how, streamed(), index_itself, nothing);
  check_target(how, streamed(), [](index_t p) { return expected_row{double(p), double(c_next(p)), c_next(p)}; });
}

TEST_CASE("batch-streaming, all re-encoded: every row sees what is read now") {
  const plan how = batch_streaming(reencode::all);
  arrivals when = streamed();
  check_source(how, when, index_itself, nothing);
  check_target(how, when, [](index_t p) { return expected_row{double(p), 9, 9}; });
  when.read(4);
  check_target(how, when, [](index_t p) { return expected_row{double(p), 13, 13}; });
}

TEST_CASE("interleaved: a row sees what was read when it was written, source sees what was written") {
  const plan how = interleaved();
  check_source(
      how, streamed(), [](index_t r) { return double(r + u(r)); }, u);
  check_target(how, streamed(), [](index_t p) { return expected_row{double(c_own(p) + p), 0, c_own(p)}; });
}

TEST_CASE("removed positions: 0 on that side, the ranges of batch-streaming") {
  using side = removed_positions::side;
  for (const side which : {side::source, side::target, side::both}) {
    const plan how = removed(which);
    const bool keeps_source = which == side::target, keeps_target = which == side::source;
    check_source(
        how, streamed(), [&](index_t r) { return keeps_source ? double(r + u(r)) : 0.0; }, nothing);
    check_target(how, streamed(), [&](index_t p) {
      return expected_row{keeps_target ? double(c_own(p) + p) : 0.0, 0, c_next(p)};
    });
  }
}

TEST_CASE("the row that predicts a token") {
  const arrivals when = streamed();
  for (const plan& how : {batch(), group_streaming(), batch_streaming(reencode::all), removed()}) {
    CHECK(how.row_predicting(when, 0) == row_id{group::source, 2});
    for (index_t p = 1; p <= 6; ++p) CHECK(how.row_predicting(when, p) == row_id{group::target, p - 1});
  }
  const plan how = interleaved();
  CHECK(how.row_predicting(when, 0) == row_id{group::source, 2});
  CHECK(how.row_predicting(when, 1) == row_id{group::target, 0});
  CHECK(how.row_predicting(when, 2) == row_id{group::source, 4});
  CHECK(how.row_predicting(when, 3) == row_id{group::target, 2});
  CHECK(how.row_predicting(when, 5) == row_id{group::source, 6});
  CHECK(how.row_predicting(when, 6) == row_id{group::source, 8});
  CHECK_FALSE(how.row_predicting(arrivals(), 0).has_value());
}

TEST_CASE("choices that contradict each other are refused") {
  plan stale = interleaved();
  stale.refresh = refresh_rule::when_source_arrives;
  CHECK_THROWS_AS(stale.validate(100), config_error);
  plan moving = interleaved();
  moving.positions = contiguous_positions{};
  CHECK_THROWS_AS(moving.validate(100), config_error);
  plan refed = interleaved();
  refed.predicts = predicting_row::last_target;
  CHECK_THROWS_AS(refed.validate(100), config_error);
  plan blind = group_streaming();
  blind.predicts = predicting_row::latest_arrival;
  CHECK_THROWS_AS(blind.validate(100), config_error);
  for (const double phi : {-0.5, 100.0, 1e300}) CHECK_THROWS_AS(group_streaming(phi).validate(100), config_error);
  CHECK_THROWS_AS(group_streaming(std::numeric_limits<double>::quiet_NaN()).validate(100), config_error);
  CHECK_NOTHROW(group_streaming(99.5).validate(100));
  plan grouped_sight = interleaved();
  grouped_sight.positions = grouped_positions{2};
  CHECK_NOTHROW(grouped_sight.validate(100));
}

TEST_CASE("plans have names, and names give plans") {
  const auto same = [](const plan& a, const plan& b) {
    return a.visibility == b.visibility && a.refresh == b.refresh && a.order == b.order && a.predicts == b.predicts &&
           name_of(a.positions) == name_of(b.positions);
  };
  CHECK(same(parse_plan("batch"), batch()));
  CHECK(same(parse_plan("batch-grouped", {}, 2.5), batch_grouped(2.5)));
  CHECK(same(parse_plan("interleaved"), interleaved()));
  CHECK(same(parse_plan("batch-streaming"), batch_streaming()));
  CHECK(same(parse_plan("batch-streaming", "none"), batch_streaming(reencode::none)));
  CHECK(same(parse_plan("batch-streaming", "positions"), batch_streaming(reencode::positions)));
  CHECK(same(parse_plan("batch-streaming", "all"), batch_streaming(reencode::all)));
  CHECK(same(parse_plan("batch-streaming", "everything"), batch_streaming(reencode::everything)));
  CHECK(same(parse_plan("group-streaming"), group_streaming(0)));
  CHECK(same(parse_plan("group-streaming", {}, 0.5), group_streaming(0.5)));
  CHECK(same(parse_plan("removed-source"), removed(removed_positions::side::source)));
  CHECK(same(parse_plan("removed-target"), removed(removed_positions::side::target)));
  CHECK(same(parse_plan("removed-both"), removed()));

  CHECK_THROWS_AS(static_cast<void>(parse_plan("wait-k")), config_error);
  CHECK_THROWS_AS(static_cast<void>(parse_plan("")), config_error);
  CHECK_THROWS_AS(static_cast<void>(parse_plan("batch", "all")), config_error);
  CHECK_THROWS_AS(static_cast<void>(parse_plan("interleaved", {}, 1.0)), config_error);
  CHECK_THROWS_AS(static_cast<void>(parse_plan("batch-streaming", "some")), config_error);

  CHECK(name_of(batch()) == "batch");
  CHECK(name_of(group_streaming(0.5)) == "group-streaming(phi=0.5)");
  CHECK(name_of(batch_grouped(3)) == "batch-grouped(phi=3)");
  CHECK(name_of(interleaved()) == "interleaved");
  CHECK(name_of(batch_streaming(reencode::none)) == "batch-streaming(reencode=none)");
  CHECK(name_of(batch_streaming(reencode::positions)) == "batch-streaming(reencode=positions)");
  CHECK(name_of(batch_streaming(reencode::all)) == "batch-streaming(reencode=all)");
  CHECK(name_of(batch_streaming(reencode::everything)) == "batch-streaming(reencode=everything)");
  CHECK(name_of(removed(removed_positions::side::source)) == "removed-source");
  plan own = interleaved();
  own.positions = grouped_positions{2};
  CHECK(name_of(own) == "source sees target, no refresh, grouped(phi=2), by policy");
}
