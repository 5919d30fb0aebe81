// SPDX-License-Identifier: Apache-2.0

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <runnel/ops/product.hpp>
#include <runnel/quant/codecs.hpp>

#include "../compute_modes.hpp"
#include "measure.hpp"

/// \file
/// Times this library's products: "q8_0/int8" are weights in q8_0 computed in int8. Activations and results are f32,
/// so what is timed contains the conversion of activations. "rows/int8" are weights in bytes with one scale a row,
/// "bytes/int8" the same with activations that are bytes already, as oneDNN takes them.

namespace {

using namespace runnel;

/// Some weights in a format; with `row_scales`, brought to bytes with one scale a row when they are packed.
ops::prepared_matrix packed(quant::weight_format format, const peers::shape& of, bool row_scales = false) {
  const auto values = peers::some_values(of.outputs * of.inputs);
  std::vector<std::byte> bytes(quant::bytes_for(format, values.size()));
  quant::encode(format, values.data(), values.size(), bytes.data());
  ops::matrix_source source;
  source.format = format;
  source.outputs = of.outputs;
  source.inputs = of.inputs;
  source.bytes = bytes;
  return row_scales ? ops::prepared_matrix::prepare_byte_rows(source) : ops::prepared_matrix::prepare(source);
}

void time(const peers::options& how, const peers::shape& of, const std::string& label,
          const ops::prepared_matrix& weight, ops::compute_mode mode) {
  ops::eval_options options;
  options.threads = how.threads;
  options.compute = mode;
  ops::eval context(options);
  auto values = peers::some_values(of.rows * of.inputs);
  const ops::eval::value x(values.data(), {of.rows, of.inputs});
  const double seconds = peers::median_seconds(how, [&] {
    context.memory.reset();
    context.team.run([&] { static_cast<void>(context(ops::product{}, x, weight)); });
  });
  peers::report("runnel", label, of, how.threads, seconds);
}

/// A product whose activations were converted before.
void time_converted(const peers::options& how, const peers::shape& of, const std::string& label,
                    const ops::prepared_matrix& weight) {
  ops::eval_options options;
  options.threads = how.threads;
  options.compute = ops::compute_mode::int8;
  ops::eval context(options);
  auto values = peers::some_values(of.rows * of.inputs);
  const ops::eval::value x(values.data(), {of.rows, of.inputs});
  const auto task = ops::detail::make_task(context, x, weight, {}, 1, {});
  const double seconds = peers::median_seconds(how, [&] {
    context.team.run([&] {
      ops::detail::for_each_panel(context, kernels::panel_count(of.outputs),
                                  ops::detail::panel_work(of.rows, of.inputs),
                                  [&]<class Arch>(index_t begin, index_t end, quant::word* scratch, Arch) {
                                    ops::detail::run_panels<Arch>(task, begin, end, scratch);
                                  });
    });
  });
  peers::report("runnel", label, of, how.threads, seconds);
}

}  // namespace

int main(int argc, char** argv) {
  const peers::options how = peers::parse(argc, argv);
  for (const peers::shape& of : how.shapes) {
    for (const auto& format : quant::all_formats) {
      if (static_cast<std::size_t>(of.inputs) % format.block_size != 0) continue;
      for (const ops::compute_mode mode : benchmarks::compute_modes_for(format.format)) {
        const std::string label = std::string(format.name) + "/" + std::string(ops::name_of(mode));
        if (how.wants(format.name) || how.wants(label)) time(how, of, label, packed(format.format, of), mode);
      }
    }
    if (of.inputs % 32 == 0 && how.wants("rows/int8")) {
      time(how, of, "rows/int8", packed(quant::weight_format::f32, of, true), ops::compute_mode::int8);
    }
    if (of.inputs % 32 == 0 && how.wants("bytes/int8")) {
      time_converted(how, of, "bytes/int8", packed(quant::weight_format::f32, of, true));
    }
  }
}
