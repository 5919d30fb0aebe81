// SPDX-License-Identifier: Apache-2.0
// The modules that stream are those that are trained: over a tape they give the same frames, and gradients.
#include "support.hpp"

#include <runnel/autograd/key_store.hpp>
#include <runnel/autograd/tape.hpp>
#include <runnel/speech/map_weights.hpp>

namespace {

using namespace runnel;
using namespace runnel::tests;

using tape_type = autograd::tape<double>;
using variables = autograd::training_parameters<double>;

/// An encoder whose weights are variables in double.
struct trained {
  autograd::parameter_list<double> list;
  speech::network<variables> network;

  explicit trained(const speech::encoder& from)
      : network(from.config(), speech::map_weights<variables>(
                                   from.weights(),
                                   [&](const std::string& name, const ops::prepared_matrix& matrix) {
                                     auto& to = add(name, matrix.outputs(), matrix.inputs(), false);
                                     std::vector<float> row(static_cast<std::size_t>(matrix.inputs()));
                                     for (index_t n = 0; n < matrix.outputs(); ++n) {
                                       matrix.decode_row(n, row);
                                       std::copy(row.begin(), row.end(), to.values.view().row(n).begin());
                                     }
                                     return autograd::matrix_parameter<double>(to);
                                   },
                                   [&](const std::string& name, const tensor<float, 1>& vector) {
                                     auto& to = add(name, 1, vector.size(), true);
                                     std::copy_n(vector.data(), vector.size(), to.values.data());
                                     return autograd::vector_parameter<double>(to);
                                   })) {}

  /// The sum of (i % 7 - 3) times each number of the result.
  double run(tape_type& tape, std::span<const float> samples, bool backward, std::vector<float>* frames = nullptr) {
    const auto& config = network.config();
    const index_t count = config.frames_of(static_cast<index_t>(samples.size()));
    const auto rows = speech::frame_rows(config, 0, count, count);
    tape.reset();
    autograd::key_store<double> store(config.num_hidden_layers, config.num_attention_heads, config.head_dim(),
                                      {count, 0}, tape.memory);
    const auto x = tape.make(static_cast<index_t>(samples.size()), 1);
    std::copy(samples.begin(), samples.end(), x.data().data());
    const auto y = network(tape, x, rows, store);
    const auto numbers = y.data();
    double sum = 0;
    for (index_t i = 0; i < numbers.size(); ++i) sum += static_cast<double>(i % 7 - 3) * numbers.data()[i];
    if (frames != nullptr) {
      for (index_t i = 0; i < numbers.size(); ++i) frames->push_back(static_cast<float>(numbers.data()[i]));
    }
    if (backward) {
      const auto gradient = tape.gradient(y);
      for (index_t i = 0; i < gradient.size(); ++i) gradient.data()[i] = static_cast<double>(i % 7 - 3);
      tape.backward();
    }
    return sum;
  }

 private:
  autograd::parameter<double>& add(const std::string& name, index_t rows, index_t columns, bool is_vector) {
    auto& to = list.emplace_back();
    to.name = name;
    to.values = tensor<double, 2>({rows, columns});
    to.is_vector = is_vector;
    return to;
  }
};

TEST_CASE("over a tape: the frames of inference, and gradients as finite differences") {
  const auto samples = golden_samples(2000);
  for (const auto* name : {"stable", "base", "post"}) {
    CAPTURE(std::string(name));
    const auto original = speech::read_encoder_config(speech_golden(name));
    for (const auto& config : {original, causal_form(original, 2, 0)}) {
      const auto model = golden_encoder(name, config);
      trained subject(model);
      tape_type tape;
      std::vector<float> frames;
      for (auto& one : subject.list) one.train(true);
      (void)subject.run(tape, samples, true, &frames);
      const auto expected = run_stream(model, samples, 500);
      REQUIRE(frames.size() == expected.size());
      for (std::size_t i = 0; i < frames.size(); ++i) CHECK(std::fabs(frames[i] - expected[i]) < 2e-5f);
      for (auto& one : subject.list) {
        CAPTURE(one.name);
        const index_t at = one.values.size() / 2;
        double& value = one.values.data()[at];
        const double before = value, step = 1e-5;
        value = before + step;
        const double more = subject.run(tape, samples, false);
        value = before - step;
        const double less = subject.run(tape, samples, false);
        value = before;
        const double expected_slope = (more - less) / (2 * step);
        CHECK(one.gradient.data()[at] == doctest::Approx(expected_slope).epsilon(1e-4).scale(1));
      }
    }
  }
}

}  // namespace
