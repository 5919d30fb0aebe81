// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include <runnel/ops/product.hpp>

#include "compute_modes.hpp"
#include "support.hpp"

/// \file
/// Products of rows with a weight matrix, by format, compute mode, shape and rows.

namespace {

using namespace runnel;
using benchmarks::parameters;
using benchmarks::vary;

/// Weights held as bytes with one scale a row, rather than as a file has them.
constexpr const char* byte_rows = "rows";

struct setup {
  std::string format;
  std::string compute;
  std::string shape;  ///< outputs x inputs
  index_t rows = 1;
  std::string copies;
  int threads = 1;

  [[nodiscard]] std::string name() const {
    return "product/" + format + "/compute:" + compute + "/shape:" + shape + "/rows:" + std::to_string(rows) +
           "/copies:" + copies + "/threads:" + std::to_string(threads);
  }
  [[nodiscard]] quant::weight_format source_format() const {
    const auto found = quant::from_name(format == byte_rows ? "f32" : format);
    if (!found) parameters::fail("unknown format " + format);
    return *found;
  }
  [[nodiscard]] ops::compute_mode mode() const {
    const auto found = benchmarks::compute_mode_named(compute);
    if (!found) parameters::fail("unknown compute mode " + compute);
    return *found;
  }
  [[nodiscard]] index_t size(bool of_inputs) const {
    const auto cross = shape.find('x');
    const std::string text = of_inputs ? shape.substr(std::min(cross, shape.size() - 1) + 1) : shape.substr(0, cross);
    const index_t value = std::atoll(text.c_str());
    if (cross == std::string::npos || value < 1) parameters::fail("--shape: expected OUTPUTSxINPUTS, found " + shape);
    return value;
  }
  [[nodiscard]] index_t outputs() const { return size(false); }
  [[nodiscard]] index_t inputs() const { return size(true); }

  /// Whether there is such a product, other than one that has another name as well.
  [[nodiscard]] bool exists() const {
    if (format == byte_rows) return mode() == ops::compute_mode::int8 && inputs() % 32 == 0;
    const auto from = source_format();
    return ops::effective_compute(mode(), from) == mode() &&
           inputs() % static_cast<index_t>(quant::info(from).block_size) == 0;
  }
};

class product_run {
 public:
  explicit product_run(const setup& with)
      : context_(ops::eval_options{.threads = with.threads, .compute = with.mode()}),
        inputs_(benchmarks::normals(with.rows * with.inputs())),
        x_(inputs_.data(), {with.rows, with.inputs()}) {
    const auto format = with.source_format();
    const auto values = benchmarks::normals(with.outputs() * with.inputs(), 2);
    std::vector<std::byte> bytes(quant::bytes_for(format, values.size()));
    quant::encode(format, values.data(), values.size(), bytes.data());
    const ops::matrix_source source{format, with.outputs(), with.inputs(), bytes, {}};
    const auto pack = [&] {
      return with.format == byte_rows ? ops::prepared_matrix::prepare_byte_rows(source)
                                      : ops::prepared_matrix::prepare(source);
    };
    weights_.push_back(pack());
    // A model's weights do not fit a cache: as many copies as 256 MB hold, one after another.
    constexpr std::size_t cold = std::size_t{1} << 28;
    if (with.copies == "many") {
      while (weights_.size() * weights_.front().bytes() < cold) weights_.push_back(pack());
    }
  }

  void operator()() {
    context_.memory.reset();
    context_.team.run([&] {
      const auto y = context_(ops::product{}, x_, weights_[next_]);
      benchmarks::keep(y.data());
    });
    next_ = (next_ + 1) % weights_.size();
  }

  [[nodiscard]] benchmarks::work work(const setup& with) const {
    const auto rows = static_cast<double>(with.rows);
    const auto outputs = static_cast<double>(with.outputs()), inputs = static_cast<double>(with.inputs());
    benchmarks::work out{benchmarks::arithmetic_of(with.mode()), 2 * rows * outputs * inputs, 0, with.threads};
    out.bytes = static_cast<double>(weights_.front().bytes()) + rows * inputs * sizeof(float);
    out.working_set = static_cast<double>(weights_.front().bytes()) * static_cast<double>(weights_.size());
    return out;
  }

 private:
  ops::eval context_;
  std::vector<float> inputs_;
  ops::eval::value x_;
  std::vector<ops::prepared_matrix> weights_;
  std::size_t next_ = 0;
};

void measure(benchmark::State& state, const setup& with) {
  product_run run(with);
  benchmarks::measure(state, run.work(with), run);
}

}  // namespace

int main(int argc, char** argv) {
  std::string formats;
  for (const auto& format : quant::all_formats) formats += std::string(format.name) + ",";
  parameters given("Products of rows with a weight matrix; activations and results are f32.", argc, argv);
  std::vector<setup> all{setup{}};
  vary(all, given.words("format", formats + byte_rows, "how weights are held; rows: bytes with one scale a row"),
       &setup::format);
  vary(all, given.words("compute", benchmarks::compute_mode_names(), "the numbers in which products are taken"),
       &setup::compute);
  vary(all, given.words("shape", "2048x2048,576x1536,1536x576", "outputs x inputs"), &setup::shape);
  vary(all, given.numbers("rows", "1,2,4,8,16,32,64,512", "rows of activations"), &setup::rows);
  vary(all,
       given.words("copies", "one", "one: weights stay in a cache they fit; many: 256 MB of weights, used in turn"),
       &setup::copies);
  vary(all, given.numbers("threads", "1", "threads"), &setup::threads);
  given.done();
  std::erase_if(all, [](const setup& one) { return !one.exists(); });
  benchmarks::run(all, measure);
}
