// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <runnel/autograd/key_store.hpp>
#include <runnel/autograd/tape.hpp>
#include <runnel/models/decoder.hpp>
#include <runnel/models/map_weights.hpp>
#include <runnel/ops/cross_entropy.hpp>
#include <runnel/train/audio_part.hpp>
#include <runnel/train/loss.hpp>

namespace runnel::train {

/// Low-rank adapters to train beside frozen weights (arXiv 2106.09685).
struct lora_options {
  index_t rank = 8;
  double alpha = 16;  ///< changes are scaled by alpha / rank
  std::vector<models::adapted_module> targets{models::all_modules.begin(), models::all_modules.end()};
  std::uint64_t seed = 0;
};

/// What a model that hears starts from.
struct audio_modules {
  const speech::encoder* encoder = nullptr;  ///< nullptr: it reads text
  const speech::projector* projector = nullptr;
};

/// A decoder in training: the very modules of inference over variables and a tape. `T` is float, or double where
/// gradients are checked against finite differences.
template <class T>
class model {
 public:
  using parameters_type = autograd::training_parameters<T>;

  /// Starts from the weights of `from`, decoded. With `lora` these are frozen and adapters are trained beside them;
  /// else everything is trained, and so are encoder and projector of `audio`, if there are any. Throws config_error for
  /// a rank below 1, format_error for parts that do not fit.
  explicit model(const models::decoder& from, const ops::eval_options& compute = {},
                 const std::optional<lora_options>& lora = std::nullopt, const audio_modules& audio = {})
      : network_(from.config(), variables_of(from, !lora)), tape_(compute) {
    if (lora) add_adapters(*lora);
    if (audio.encoder == nullptr) return;
    speech::validate(*audio.projector, audio.encoder->config().hidden_size, config().hidden_size, "train");
    audio_.emplace(*audio.encoder, *audio.projector, parameters_);
  }
  model(const model&) = delete;
  model& operator=(const model&) = delete;

  [[nodiscard]] const models::model_config& config() const noexcept { return network_.config(); }
  [[nodiscard]] autograd::parameter_list<T>& parameters() noexcept { return parameters_; }
  [[nodiscard]] const autograd::parameter_list<T>& parameters() const noexcept { return parameters_; }

  /// One forward and backward pass: adds scale times the gradient of the summed loss to the parameters' gradients.
  /// Throws shape_error or config_error for rows, tokens or labels that do not fit.
  batch_loss accumulate(std::span<const training_rows> batch, const step_options& options) {
    tape_.reset({options.checkpointing, options.dropout, options.adapter_dropout, options.seed});
    tape_.record(true);
    batch_loss loss;
    tape_.team.run([&] { loss = run(batch, {options.label_smoothing, options.scale}); });
    return loss;
  }

  /// The loss alone, nothing dropped.
  [[nodiscard]] batch_loss evaluate(std::span<const training_rows> batch) {
    tape_.reset();
    tape_.record(false);
    batch_loss loss;
    tape_.team.run([&] { loss = run(batch, {}); });
    return loss;
  }

  /// Logits of all rows that predict, [labels, vocab_size], in the order of the batch: law 8's left side.
  [[nodiscard]] std::vector<T> logits(std::span<const training_rows> batch) {
    tape_.reset();
    tape_.record(false);
    std::vector<T> out;
    tape_.team.run([&] {
      pass now(*this, batch);
      const auto last = now.last_rows();
      const auto y = network_.logits(tape_, last, now.adapters(last.size(0)));
      out.assign(y.data().data(), y.data().data() + y.data().size());
    });
    return out;
  }

  /// Names the first layer whose output is not finite for this batch; empty if none is.
  [[nodiscard]] std::string first_non_finite(std::span<const training_rows> batch) {
    tape_.reset({.watch = true});
    tape_.record(false);
    tape_.team.run([&] { pass(*this, batch).last_rows(); });
    auto found = tape_.first_non_finite_block();
    if (!found) return {};
    if (audio_) {
      const auto layers = static_cast<std::size_t>(audio_->encoder().config().num_hidden_layers);
      const auto heard =
          layers * static_cast<std::size_t>(std::count_if(batch.begin(), batch.end(), [&](const training_rows& one) {
            return one.audio != nullptr && audio_->encoder().frames_of(*one.audio) > 0;
          }));
      if (*found < heard) return "encoder.encoder.layers." + std::to_string(*found % layers);
      *found -= heard;
    }
    return "model.layers." + std::to_string(*found);
  }

  /// About how many bytes a pass over `rows` rows takes beside parameters.
  [[nodiscard]] std::size_t activation_bytes(index_t rows, bool checkpointing) const {
    const auto& config = network_.config();
    const index_t queries = config.num_attention_heads * config.head_dim;
    const index_t keys = config.num_key_value_heads * config.head_dim;
    const index_t layer = 8 * config.hidden_size + 2 * queries + 6 * keys + 3 * config.intermediate_size;
    const index_t layers = config.num_hidden_layers;
    const index_t kept = checkpointing ? layer + 2 * layers * config.hidden_size : layers * layer;
    const index_t head = 2 * std::min(rows, loss_rows) * config.vocab_size;
    return sizeof(T) * static_cast<std::size_t>(rows * (kept + layer) + head);
  }

  /// Bytes that the last pass took beside parameters.
  [[nodiscard]] std::size_t tape_bytes() const noexcept { return tape_.capacity(); }

  /// The decoder as it stands, for inference and the exporters; adapters are not part of it.
  [[nodiscard]] models::decoder to_decoder() const {
    using inference = nn::inference_parameters;
    const auto matrix = [](const models::weight_place& place, const autograd::matrix_parameter<T>& from) {
      return parameter_maker<T>::packed(from, place.planes);
    };
    const auto vector = [](const models::weight_place&, const autograd::vector_parameter<T>& from) {
      return parameter_maker<T>::copied(from);
    };
    return {network_.config(), models::map_weights<inference>(network_.config(), network_.weights(), matrix, vector)};
  }

  /// Encoder and projector in training; nullptr if the model reads text.
  [[nodiscard]] const trained_audio<T>* audio() const noexcept { return audio_ ? &*audio_ : nullptr; }

  /// The adapters as they stand; empty if none are trained.
  [[nodiscard]] nn::adapter<nn::inference_parameters> to_adapter() const {
    nn::adapter<nn::inference_parameters> out;
    for (const auto& layer : adapter_.layers) {
      auto& to = out.layers.emplace_back();
      for (std::size_t i = 0; i < layer.size(); ++i) {
        if (layer[i].empty()) continue;
        to[i].down = parameter_maker<T>::packed(layer[i].down);
        to[i].up = parameter_maker<T>::packed(layer[i].up);
        to[i].scale = layer[i].scale;
      }
    }
    return out;
  }

 private:
  using key_store = autograd::key_store<T>;
  using part = models::network_part<parameters_type, key_store>;
  using value = typename autograd::tape<T>::value;

  /// Rows whose logits are in memory at a time.
  static constexpr index_t loss_rows = 512;

  /// A forward pass over a batch: its parts and their stores.
  struct pass {
    pass(model& of, std::span<const training_rows> batch) : of_(of), audio_(batch.size()) {
      const auto& config = of.config();
      stores_.reserve(batch.size());
      const auto firsts = hear(batch);
      for (const training_rows& rows : batch) {
        std::array<index_t, num_groups> counts{};
        for (index_t row = 0; row < rows.rows.size(); ++row) {
          const auto at = static_cast<std::size_t>(row);
          index_t& count = counts[static_cast<std::size_t>(rows.rows.groups()[at])];
          count = std::max(count, rows.rows.storage()[at] + 1);
        }
        check(config, rows, counts);
        const index_t first_vector = firsts[parts_.size()], past = firsts[parts_.size() + 1];
        for (const std::int32_t token : rows.tokens) {
          expect(token >= 0 || -1 - index_t{token} < past - first_vector, "train: row ", -1 - index_t{token},
                 " of audio that has ", past - first_vector);
        }
        stores_.emplace_back(config.num_hidden_layers, config.num_key_value_heads, config.head_dim, counts,
                             of.tape_.memory);
        parts_.push_back({&rows.rows, rows.tokens, &stores_.back(), config.max_position_embeddings, rows.logit_rows,
                          of.active(), first_vector});
      }
    }

    value last_rows() {
      const auto x =
          of_.network_.hidden(of_.tape_, std::span<const part>(parts_), num_vectors_ == 0 ? nullptr : &vectors_);
      return of_.network_.last_rows(of_.tape_, x, std::span<const part>(parts_));
    }

    /// All rows have the same adapters.
    [[nodiscard]] std::span<const nn::adapted_rows<parameters_type>> adapters(index_t rows) {
      all_ = {0, rows, of_.active()};
      return {&all_, 1};
    }

   private:
    /// Encodes the audio of a batch: all rows one after another, and where those of each stream begin (and end).
    [[nodiscard]] std::vector<index_t> hear(std::span<const training_rows> batch) {
      std::vector<value> found;
      std::vector<index_t> firsts{0};
      for (const training_rows& rows : batch) {
        expect(rows.audio == nullptr || of_.audio_, "train: rows have audio, but the model has no encoder");
        // What is too short for a frame has no row, here as in a session.
        if (rows.audio != nullptr && of_.audio_->encoder().frames_of(*rows.audio) > 0) {
          found.push_back((*of_.audio_)(of_.tape_, *rows.audio, audio_));
          num_vectors_ += found.back().size(0);
        }
        firsts.push_back(num_vectors_);
      }
      if (num_vectors_ == 0) return firsts;
      vectors_ = of_.tape_.make(num_vectors_, of_.config().hidden_size);
      index_t first = 0;
      for (const value& rows : found) {
        const auto count = static_cast<std::size_t>(rows.size(0));
        const std::span<ops::row_move> moves(of_.tape_.memory.template take<ops::row_move>(count), count);
        for (std::size_t i = 0; i < count; ++i) moves[i] = {first++, static_cast<index_t>(i)};
        of_.tape_(ops::replace_rows{}, vectors_, rows, std::span<const ops::row_move>(moves));
      }
      return firsts;
    }

    static void check(const models::model_config& config, const training_rows& rows,
                      const std::array<index_t, num_groups>& counts) {
      expect(rows.tokens.size() == static_cast<std::size_t>(rows.rows.size()), "train: ", rows.rows.size(),
             " rows but ", rows.tokens.size(), " tokens");
      expect(rows.labels.size() == rows.logit_rows.size(), "train: ", rows.logit_rows.size(), " rows predict, but ",
             rows.labels.size(), " labels");
      expect(rows.rows.empty() || rows.rows.window() == config.sliding_window,
             "train: the model has a sliding window of ", config.sliding_window, " (0: none), the rows one of ",
             rows.rows.window());
      for (std::size_t s = 0; s < num_groups; ++s) {
        for (const key_range range : rows.rows.toward(s).ranges) {
          expect(range.begin >= 0 && range.end <= counts[s], "train: a row sees keys [", range.begin, ", ", range.end,
                 ") of ", counts[s]);
        }
      }
    }

    model& of_;
    typename trained_encoder<T>::memory audio_;
    value vectors_;
    index_t num_vectors_ = 0;
    std::vector<key_store> stores_;
    std::vector<part> parts_;
    nn::adapted_rows<parameters_type> all_;
  };

  batch_loss run(std::span<const training_rows> batch, const ops::cross_entropy& how) {
    pass now(*this, batch);
    std::vector<std::int32_t> labels;
    for (const training_rows& rows : batch) labels.insert(labels.end(), rows.labels.begin(), rows.labels.end());
    const value last = now.last_rows();
    std::vector<kernels::cross_entropy_row> found(labels.size());
    if (tape_.recording()) tape_.hold(last);
    const index_t count = last.size(0);
    for (index_t first = 0; first < count; first += loss_rows) {
      const index_t end = std::min(first + loss_rows, count);
      const auto start = tape_.mark();
      const auto size = static_cast<std::size_t>(end - first);
      const value y = network_.logits(tape_, last.slice(first, end), now.adapters(end - first));
      tape_(how, y, std::span<const std::int32_t>(labels).subspan(static_cast<std::size_t>(first), size),
            std::span(found).subspan(static_cast<std::size_t>(first), size));
      tape_.backward(start);
    }
    tape_.backward();
    batch_loss loss;
    for (const auto& row : found) {
      loss += {row.loss, row.nll, 1, row.likeliest_is_right ? 1 : 0};
    }
    return loss;
  }

  models::decoder_weights<parameters_type> variables_of(const models::decoder& from, bool trained) {
    const parameter_maker<T> make{parameters_, trained};
    const auto matrix = [&](const models::weight_place& place, const ops::prepared_matrix& weight) {
      return make.matrix(place.name, weight);
    };
    const auto vector = [&](const models::weight_place& place, const tensor<float, 1>& weight) {
      return make.vector(place.name, weight);
    };
    return models::map_weights<parameters_type>(from.config(), from.weights(), matrix, vector);
  }

  void add_adapters(const lora_options& options) {
    expect(options.rank >= 1, "lora: expected a rank of at least 1, found ", options.rank);
    random_stream random(options.seed);
    adapter_.layers.resize(network_.weights().layers.size());
    for (std::size_t i = 0; i < adapter_.layers.size(); ++i) {
      for (const models::adapted_module which : options.targets) {
        const auto& base = models::module_of(network_.weights().layers[i], which).weight;
        auto& to = adapter_.layers[i][static_cast<std::size_t>(which)];
        const auto name = models::layout_of(config(), {}, which).name.hugging_face;
        const std::string stem = models::with_layer(name, static_cast<index_t>(i));
        to.down = low_rank_matrix(stem + ".lora_A.weight", {options.rank, base.inputs()});
        to.up = low_rank_matrix(stem + ".lora_B.weight", {base.outputs(), options.rank});
        to.scale = static_cast<float>(options.alpha / static_cast<double>(options.rank));
        const double bound = 1 / std::sqrt(static_cast<double>(base.inputs()));
        for (T& number : parameters_[parameters_.size() - 2].values.values()) {
          number = static_cast<T>((2 * random.uniform() - 1) * bound);
        }
      }
    }
    active_ = {&adapter_, 1};
    has_adapter_ = true;
  }

  [[nodiscard]] autograd::matrix_parameter<T> low_rank_matrix(std::string name, shape<2> sizes) {
    return autograd::matrix_parameter<T>(parameter_maker<T>{parameters_}.add(std::move(name), sizes, false));
  }

  [[nodiscard]] std::span<const nn::active_adapter<parameters_type>> active() const noexcept {
    return {&active_, has_adapter_ ? std::size_t{1} : std::size_t{0}};
  }

  autograd::parameter_list<T> parameters_;
  models::network<parameters_type> network_;
  std::optional<trained_audio<T>> audio_;
  nn::adapter<parameters_type> adapter_;
  nn::active_adapter<parameters_type> active_;
  bool has_adapter_ = false;
  autograd::tape<T> tape_;
};

}  // namespace runnel::train
