// SPDX-License-Identifier: Apache-2.0

#include <cstdint>
#include <cstring>
#include <string>
#include <unordered_map>
#include <vector>

#include <omp.h>

#include <oneapi/dnnl/dnnl.hpp>

#include "measure.hpp"

/// \file
/// Times oneDNN's products with weights in the layout that it asks for, packed beforehand: as an inner product and as
/// a matrix multiplication, whose kernels differ. Activations are given in the type that the product takes, so the
/// int8 figures do not contain the quantisation of activations.

namespace {

using dnnl::memory;
using type = memory::data_type;

struct kind {
  const char* name;
  type activations;
  type weights;
  bool scales;  ///< a scale an output
};

constexpr kind all_kinds[] = {{"f32", type::f32, type::f32, false},
                              {"bf16", type::bf16, type::bf16, false},
                              {"u8s8", type::u8, type::s8, true},
                              {"s8s8", type::s8, type::s8, true}};

class bench {
 public:
  explicit bench(const peers::options& how) : how_(how), engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {}

  void inner_product(const kind& what, const peers::shape& of) {
    const memory::desc source({of.rows, of.inputs}, what.activations, memory::format_tag::ab);
    const memory::desc weights({of.outputs, of.inputs}, what.weights, memory::format_tag::any);
    const memory::desc target({of.rows, of.outputs}, type::f32, memory::format_tag::ab);
    const dnnl::inner_product_forward::desc description(dnnl::prop_kind::forward_inference, source, weights, target);
    const dnnl::inner_product_forward::primitive_desc chosen(description, attributes(what, of), engine_);
    time("onednn-inner-product", what, of, dnnl::inner_product_forward(chosen), chosen,
         {{of.outputs, of.inputs}, what.weights, memory::format_tag::ab});
  }

  void matrix_product(const kind& what, const peers::shape& of) {
    const memory::desc source({of.rows, of.inputs}, what.activations, memory::format_tag::ab);
    const memory::desc weights({of.inputs, of.outputs}, what.weights, memory::format_tag::any);
    const memory::desc target({of.rows, of.outputs}, type::f32, memory::format_tag::ab);
    const dnnl::matmul::desc description(source, weights, target);
    const dnnl::matmul::primitive_desc chosen(description, attributes(what, of), engine_);
    time("onednn-matmul", what, of, dnnl::matmul(chosen), chosen,
         {{of.inputs, of.outputs}, what.weights, memory::format_tag::ba});
  }

 private:
  static dnnl::primitive_attr attributes(const kind& what, const peers::shape& of) {
    dnnl::primitive_attr out;
    if (what.scales) out.set_output_scales(1 << 1, std::vector<float>(static_cast<std::size_t>(of.outputs), 0.01f));
    return out;
  }

  /// Values of [rows, columns] in the wanted type.
  memory filled(const memory::desc& as) {
    const auto dims = as.dims();
    const auto values = peers::some_values(dims[0] * dims[1]);
    memory out(as, engine_);
    if (as.data_type() == type::u8 || as.data_type() == type::s8) {
      auto* bytes = static_cast<std::int8_t*>(out.get_data_handle());
      for (std::size_t i = 0; i < values.size(); ++i) {
        const float shifted = as.data_type() == type::u8 ? (values[i] + 1) * 127 : values[i] * 127;
        bytes[i] = static_cast<std::int8_t>(static_cast<int>(shifted));
      }
      return out;
    }
    const memory::desc wide(
        dims, type::f32,
        as.data.format_desc.blocking.strides[1] == 1 ? memory::format_tag::ab : memory::format_tag::ba);
    memory from(wide, engine_);
    std::memcpy(from.get_data_handle(), values.data(), values.size() * sizeof(float));
    dnnl::reorder(from, out).execute(stream_, from, out);
    stream_.wait();
    return out;
  }

  template <class Description>
  void time(const char* who, const kind& what, const peers::shape& of, const dnnl::primitive& product,
            const Description& chosen, const memory::desc& plain_weights) {
    memory source = filled(chosen.src_desc());
    memory plain = filled(plain_weights);
    memory packed(chosen.weights_desc(), engine_);
    dnnl::reorder(plain, packed).execute(stream_, plain, packed);
    stream_.wait();
    memory target(chosen.dst_desc(), engine_);
    const std::unordered_map<int, memory> arguments{
        {DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, packed}, {DNNL_ARG_DST, target}};
    const double seconds = peers::median_seconds(how_, [&] {
      product.execute(stream_, arguments);
      stream_.wait();
    });
    peers::report(who, what.name, of, how_.threads, seconds);
  }

  const peers::options& how_;
  dnnl::engine engine_;
  dnnl::stream stream_;
};

}  // namespace

int main(int argc, char** argv) {
  const peers::options how = peers::parse(argc, argv);
  omp_set_num_threads(how.threads);
  bench all(how);
  for (const peers::shape& of : how.shapes) {
    for (const kind& what : all_kinds) {
      if (!how.wants(what.name)) continue;
      all.inner_product(what, of);
      all.matrix_product(what, of);
    }
  }
}
