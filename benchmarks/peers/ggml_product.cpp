// SPDX-License-Identifier: Apache-2.0

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml.h>
#if __has_include(<ggml-cpu.h>)
#include <ggml-cpu.h>
#else
#define RUNNEL_IK_LLAMA 1
extern "C" void iqk_repack_tensor(ggml_tensor* tensor);
#endif

#include "measure.hpp"

/// \file
/// Times the products of llama.cpp or of ik_llama.cpp (their libraries ggml): weights in a format of GGUF files,
/// activations and results in f32.
///
/// Weights are kept as they are and, where ggml offers it, repacked for this processor as it does when it loads a model
/// ("q4_0 repacked"; of ik_llama.cpp with -rtr). The faster of the two is what a fair comparison takes.

namespace {

struct release_context {
  void operator()(ggml_context* one) const { ggml_free(one); }
};
struct release_buffer {
  void operator()(ggml_backend_buffer* one) const { ggml_backend_buffer_free(one); }
};

struct kind {
  const char* name;
  ggml_type type;
};

constexpr kind all_kinds[] = {{"f32", GGML_TYPE_F32},   {"f16", GGML_TYPE_F16},   {"bf16", GGML_TYPE_BF16},
                              {"q8_0", GGML_TYPE_Q8_0}, {"q4_0", GGML_TYPE_Q4_0}, {"q4_1", GGML_TYPE_Q4_1}};

#if defined(RUNNEL_IK_LLAMA)
constexpr const char* program = "ik_llama.cpp";
#else
constexpr const char* program = "llama.cpp";

/// The buffer types of the CPU that change the layout of weights.
std::vector<ggml_backend_buffer_type_t> repacking_types(ggml_backend_dev_t device) {
  std::vector<ggml_backend_buffer_type_t> all;
  auto* const get = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(
      ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts"));
  if (get == nullptr) return all;
  for (auto* type = get(device); type != nullptr && *type != nullptr; ++type) all.push_back(*type);
  return all;
}

#endif

class bench {
 public:
  explicit bench(const peers::options& how) : how_(how), backend_(ggml_backend_cpu_init()) {
    ggml_backend_cpu_set_n_threads(backend_, how.threads);
  }
  bench(const bench&) = delete;
  bench& operator=(const bench&) = delete;
  ~bench() { ggml_backend_free(backend_); }

  /// Times one product with weights in a buffer of this type; skips what the type cannot hold.
  void run(const kind& what, const peers::shape& of, ggml_backend_buffer_type_t held_in, const std::string& label) {
    const ggml_init_params sizes{std::size_t{1} << 20, nullptr, true};
    const std::unique_ptr<ggml_context, release_context> weights(ggml_init(sizes)), values(ggml_init(sizes));
    ggml_tensor* w = ggml_new_tensor_2d(weights.get(), what.type, of.inputs, of.outputs);
    ggml_tensor* x = ggml_new_tensor_2d(values.get(), GGML_TYPE_F32, of.inputs, of.rows);
    ggml_tensor* y = ggml_mul_mat(values.get(), w, x);
    const std::unique_ptr<ggml_backend_buffer, release_buffer> held(
        ggml_backend_alloc_ctx_tensors_from_buft(weights.get(), held_in));
#if !defined(RUNNEL_IK_LLAMA)
    const bool plain = held_in == ggml_backend_cpu_buffer_type();
    // A repacking type marks the tensors that it has a layout for.
    if (!plain && (w->extra == nullptr || !ggml_backend_supports_op(backend_, y))) return;
#endif
    const std::unique_ptr<ggml_backend_buffer, release_buffer> rest(
        ggml_backend_alloc_ctx_tensors_from_buft(values.get(), ggml_backend_cpu_buffer_type()));

    const auto weight_values = peers::some_values(of.outputs * of.inputs);
    const auto inputs = peers::some_values(of.rows * of.inputs);
    std::vector<std::uint8_t> stored(ggml_row_size(what.type, of.inputs) * static_cast<std::size_t>(of.outputs));
    quantize(what.type, of, weight_values, stored);
    ggml_backend_tensor_set(w, stored.data(), 0, stored.size());
    ggml_backend_tensor_set(x, inputs.data(), 0, inputs.size() * sizeof(float));

    ggml_cgraph* graph = ggml_new_graph(values.get());
    ggml_build_forward_expand(graph, y);
    measure(of, weight_values, inputs, graph, y, label);
#if defined(RUNNEL_IK_LLAMA)
    iqk_repack_tensor(w);  // in place, to another type
    if (w->type != what.type) measure(of, weight_values, inputs, graph, y, label + " repacked");
#endif
  }

 private:
  static void quantize(ggml_type type, const peers::shape& of, const std::vector<float>& from,
                       std::vector<std::uint8_t>& to) {
#if defined(RUNNEL_IK_LLAMA)
    ggml_quantize_chunk(type, from.data(), to.data(), 0, of.outputs, of.inputs, nullptr, nullptr);
#else
    ggml_quantize_chunk(type, from.data(), to.data(), 0, of.outputs, of.inputs, nullptr);
#endif
  }

  void measure(const peers::shape& of, const std::vector<float>& weights, const std::vector<float>& inputs,
               ggml_cgraph* graph, const ggml_tensor* y, const std::string& label) {
    const double seconds = peers::median_seconds(how_, [&] { ggml_backend_graph_compute(backend_, graph); });
    check(of, weights, inputs, y, label);
    peers::report(program, label, of, how_.threads, seconds);
  }

  /// A layout that is read wrongly would be fast for nothing.
  static void check(const peers::shape& of, const std::vector<float>& w, const std::vector<float>& x,
                    const ggml_tensor* y, const std::string& label) {
    std::vector<float> found(static_cast<std::size_t>(of.outputs));
    ggml_backend_tensor_get(y, found.data(), 0, found.size() * sizeof(float));
    double error = 0, size = 0;
    for (std::int64_t n = 0; n < of.outputs; ++n) {
      double sum = 0;
      for (std::int64_t k = 0; k < of.inputs; ++k) {
        sum += static_cast<double>(w[static_cast<std::size_t>(n * of.inputs + k)]) *
               static_cast<double>(x[static_cast<std::size_t>(k)]);
      }
      error += std::pow(sum - static_cast<double>(found[static_cast<std::size_t>(n)]), 2);
      size += sum * sum;
    }
    if (error > 0.05 * size) std::fprintf(stderr, "%s: wrong results\n", label.c_str());
  }

  const peers::options& how_;
  ggml_backend_t backend_;
};

}  // namespace

int main(int argc, char** argv) {
  const peers::options how = peers::parse(argc, argv);
  bench all(how);
#if defined(RUNNEL_IK_LLAMA)
  const std::vector<ggml_backend_buffer_type_t> repacking;
#else
  ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  const auto repacking = repacking_types(device);
#endif
  for (const peers::shape& of : how.shapes) {
    for (const kind& what : all_kinds) {
      if (!how.wants(what.name)) continue;
      all.run(what, of, ggml_backend_cpu_buffer_type(), what.name);
      for (auto* type : repacking) all.run(what, of, type, std::string(what.name) + " repacked");
    }
  }
}
