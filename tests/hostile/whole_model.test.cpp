// SPDX-License-Identifier: Apache-2.0
// GGUF files as models: hyperparameters, tokenizer and tensors that lie.
#include "hostile.hpp"

#include <runnel/stream/load.hpp>

namespace {

using namespace runnel_test;

/// A folder in which one model file at a time lies.
class model_reader {
 public:
  [[nodiscard]] runnel::stream::language_model load(const std::string& bytes) const {
    replace(folder_ / "model.gguf", bytes);
    return runnel::stream::load_model(folder_ / "model.gguf");
  }
  [[nodiscard]] runnel::stream::language_model load(const model_file& file) const { return load(file.bytes()); }

  /// A case that loads what `change` makes of a valid file.
  [[nodiscard]] hostile_case with(std::string about, std::vector<std::string> parts,
                                  const std::function<void(model_file&)>& change) const {
    model_file file;
    change(file);
    parts.emplace_back("model.gguf");
    return {std::move(about), [this, bytes = file.bytes()] { static_cast<void>(load(bytes)); }, std::move(parts)};
  }

 private:
  scratch_folder folder_;
};

}  // namespace

TEST_CASE("the file that the others are made from is read") {
  const model_reader reader;
  const auto model = reader.load(model_file());
  CHECK(model.network->config().hidden_size == 4);
  CHECK(model.tokenizer->vocabulary_size() == 7);
  CHECK(model.tokenizer->encode("abc") == std::vector<std::int32_t>{6});
  CHECK(model.tokenizer->bos() == 4);
}

TEST_CASE("hyperparameters that are missing, of another type or out of range") {
  const model_reader reader;
  std::vector<hostile_case> cases;
  const std::vector<std::string> sizes{
      "llama.embedding_length",     "llama.feed_forward_length",     "llama.block_count",
      "llama.attention.head_count", "llama.attention.head_count_kv", "llama.context_length"};
  for (const auto& key : sizes) {
    // CVE-2025-0312 and -0317 (Ollama): a missing or mistyped key was taken for granted.
    if (key != "llama.attention.head_count_kv") {
      cases.push_back(reader.with(key + " is missing", {key, "missing"}, [&](auto& f) { f.without(key); }));
    }
    cases.push_back(reader.with(key + " as text", {key, "string '1'"}, [&](auto& f) { f.text(key, "1"); }));
    cases.push_back(reader.with(key + " as a fraction", {key, "float32 1.5"},
                                [&](auto& f) { f.entry(key, 6, byte_builder().number(1.5f)); }));
    cases.push_back(reader.with(key + " as a list", {key, "array"}, [&](auto& f) { f.texts(key, {"1"}); }));
    cases.push_back(reader.with(key + " beyond 2^63", {key, "18446744073709551615"},
                                [&](auto& f) { f.entry(key, 10, byte_builder().number(~std::uint64_t{0})); }));
    // L#24263: a division by zero. Optional keys are named as configs name them.
    const auto named = key == "llama.attention.head_count_kv" ? "num_key_value_heads" : key;
    cases.push_back(reader.with(key + " zero", {named, "found 0"}, [&](auto& f) { f.number(key, 0); }));
    cases.push_back(reader.with(key + " negative", {named, "found -1"},
                                [&](auto& f) { f.entry(key, 5, byte_builder().number(std::int32_t{-1})); }));
    // L#25821: a fixed table of layers; any other size takes memory that is only claimed.
    cases.push_back(reader.with(key + " 2^32 - 1", {}, [&](auto& f) { f.number(key, 0xFFFFFFFF); }));
    cases.push_back(reader.with(key + " 2^62", {},
                                [&](auto& f) { f.entry(key, 10, byte_builder().number(std::uint64_t{1} << 62)); }));
  }
  cases.push_back(reader.with("a thousand layers in a small file", {"blk.1.", "missing"},
                              [](auto& f) { f.number("llama.block_count", 1000); }));
  cases.push_back(
      reader.with("513 layers", {"blk.1.", "missing"}, [](auto& f) { f.number("llama.block_count", 513); }));
  // L#29128: experts that tensors do not have.
  cases.push_back(
      reader.with("experts", {"llama.expert_count", "8"}, [](auto& f) { f.number("llama.expert_count", 8); }));
  cases.push_back(reader.with("an unknown architecture", {"general.architecture", "parrot"},
                              [](auto& f) { f.text("general.architecture", "parrot"); }));
  cases.push_back(reader.with("no architecture", {"general.architecture", "missing"},
                              [](auto& f) { f.without("general.architecture"); }));
  cases.push_back(reader.with("heads that are no multiple of key heads", {"3"},
                              [](auto& f) { f.number("llama.attention.head_count_kv", 3); }));
  cases.push_back(
      reader.with("an odd head size", {"head"}, [](auto& f) { f.number("llama.attention.key_length", 3); }));
  cases.push_back(reader.with("a head size of 2^40", {}, [](auto& f) {
    f.entry("llama.attention.key_length", 10, byte_builder().number(std::uint64_t{1} << 40));
  }));
  cases.push_back(reader.with("no epsilon", {"layer_norm_rms_epsilon", "missing"},
                              [](auto& f) { f.without("llama.attention.layer_norm_rms_epsilon"); }));
  cases.push_back(reader.with("an epsilon that is no number", {"eps"}, [](auto& f) {
    f.entry("llama.attention.layer_norm_rms_epsilon", 6, byte_builder().number(0x7fc00000u));
  }));
  cases.push_back(reader.with("an endless rotary base", {"theta"},
                              [](auto& f) { f.entry("llama.rope.freq_base", 6, byte_builder().number(0x7f800000u)); }));
  cases.push_back(reader.with("a rotary dimension beyond the head", {"llama.rope.dimension_count"},
                              [](auto& f) { f.number("llama.rope.dimension_count", 1u << 31); }));
  check_refused(cases);
}

TEST_CASE("tensors that are missing, of another shape or type") {
  const model_reader reader;
  std::vector<hostile_case> cases;
  for (const char* name :
       {"token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight", "blk.0.attn_q.weight",
        "blk.0.attn_k.weight", "blk.0.attn_v.weight", "blk.0.attn_output.weight", "blk.0.ffn_norm.weight",
        "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", "blk.0.ffn_down.weight"}) {
    const std::string tensor = name;
    cases.push_back(reader.with(tensor + " is missing", {tensor}, [&](auto& f) { f.without(tensor); }));
    // L#24263: sizes of zero. CVE-2026-7482: a shape that the data does not hold. antirez/gguf-tools#25: too many
    // sizes.
    const auto no_rows = tensor == "token_embd.weight" ? "vocab_size" : tensor;
    cases.push_back(reader.with(tensor + " of no rows", {no_rows}, [&](auto& f) { f.describe(tensor, {4, 0}); }));
    cases.push_back(reader.with(tensor + " of no columns", {tensor}, [&](auto& f) { f.describe(tensor, {0, 4}); }));
    cases.push_back(reader.with(tensor + " of no dimensions", {tensor}, [&](auto& f) { f.describe(tensor, {}); }));
    cases.push_back(reader.with(tensor + " of other sizes", {tensor}, [&](auto& f) { f.describe(tensor, {1, 3}); }));
    cases.push_back(reader.with(tensor + " of another rank", {tensor}, [&](auto& f) {
      f.describe(tensor, {1, 1, 1, 1});
    }));
    cases.push_back(reader.with(tensor + " larger than the file", {tensor}, [&](auto& f) {
      f.describe(tensor, {4, 1u << 20});
    }));
    cases.push_back(
        reader.with(tensor + " beyond the file", {tensor}, [&](auto& f) { f.offset(tensor, std::uint64_t{1} << 30); }));
    // openvinotoolkit/openvino.genai#4170: a check that was only an assertion.
    cases.push_back(reader.with(tensor + " of nine dimensions", {tensor, "9 dimensions"}, [&](auto& f) {
      f.describe(tensor, {1, 1, 1, 1, 1, 1, 1, 1, 1});
    }));
    cases.push_back(reader.with(tensor + " as whole numbers", {tensor}, [&](auto& f) {
      f.describe(tensor,
                 tensor.ends_with("norm.weight") ? std::vector<std::uint64_t>{4} : std::vector<std::uint64_t>{4, 4},
                 26);
    }));
  }
  // CVE-2026-33298 (GHSA-96jg-mvhq-q7q7), L#27203, L#24759, CVE-2025-53630: products and sums that wrap around.
  const std::string tensor = "blk.0.attn_q.weight";
  const auto lying = [&](const char* about, std::vector<std::uint64_t> sizes, std::uint32_t type) {
    cases.push_back(reader.with(about, {tensor}, [&](auto& f) { f.describe(tensor, sizes, type); }));
  };
  lying("bytes wrap to few", {(std::uint64_t{1} << 42) + 1, std::uint64_t{1} << 22}, 0);
  lying("bytes wrap to 0", {std::uint64_t{1} << 62, 4}, 0);
  lying("elements are negative if they are signed", {0x7FFFFFFFFFFFFFFF, 2}, 24);
  lying("padding wraps to 0", {~std::uint64_t{3}}, 24);
  lying("blocks wrap", {std::uint64_t{1} << 63, 2}, 2);
  lying("more than 2^31 values to decode", {std::uint64_t{1} << 16, std::uint64_t{1} << 16}, 41);  // CVE-2026-53923
  cases.push_back(reader.with("the sum of all sizes wraps", {"blk.0.attn_q.weight"}, [&](auto& f) {
    f.describe(tensor, {std::uint64_t{1} << 63}, 24).describe("blk.0.attn_k.weight", {std::uint64_t{1} << 63}, 24);
  }));
  cases.push_back(
      reader.with("an offset whose padding wraps", {tensor}, [&](auto& f) { f.offset(tensor, ~std::uint64_t{0}); }));
  cases.push_back(
      reader.with("an offset whose sum wraps", {tensor}, [&](auto& f) { f.offset(tensor, ~std::uint64_t{31}); }));
  cases.push_back(reader.with("two tensors in one place", {"overlap"}, [&](auto& f) { f.offset(tensor, 0); }));
  check_refused(cases);
}

TEST_CASE("vocabularies whose lists and ids do not fit") {
  const model_reader reader;
  std::vector<hostile_case> cases;
  const std::string tokens = "tokenizer.ggml.tokens", types = "tokenizer.ggml.token_type",
                    merges = "tokenizer.ggml.merges";
  cases.push_back(reader.with("no tokens", {tokens, "missing"}, [&](auto& f) { f.without(tokens); }));
  cases.push_back(reader.with("no token in the list", {"model.gguf", "empty"}, [&](auto& f) {
    f.texts(tokens, {}).whole_numbers(types, {});
    f.without("tokenizer.ggml.bos_token_id").without("tokenizer.ggml.eos_token_id");
  }));
  cases.push_back(reader.with("tokens as one text", {tokens, "string"}, [&](auto& f) { f.text(tokens, "abc"); }));
  cases.push_back(reader.with("tokens as numbers", {tokens, "array of 2 int32"}, [&](auto& f) {
    f.whole_numbers(tokens, {1, 2});
  }));
  cases.push_back(reader.with("the same token twice", {"both \"a\""}, [&](auto& f) {
    f.texts(tokens, {"a", "b", "c", "ab", "<s>", "</s>", "a"}).texts(merges, {});
  }));
  cases.push_back(reader.with("more tokens than the network has", {"8 tokens", "7"}, [&](auto& f) {
    f.texts(tokens, {"a", "b", "c", "ab", "<s>", "</s>", "abc", "more"}).without(types);
  }));
  // L#26690 and L#20735: lists of another length or type than that of tokens.
  cases.push_back(reader.with("too few types", {types, "6"}, [&](auto& f) {
    f.whole_numbers(types, {1, 1, 1, 1, 1, 1});
  }));
  cases.push_back(reader.with("too many types", {types, "8"}, [&](auto& f) {
    f.whole_numbers(types, {1, 1, 1, 1, 1, 1, 1, 1});
  }));
  cases.push_back(reader.with("types as text", {types, "array of 7 string"}, [&](auto& f) {
    f.texts(types, {"1", "1", "1", "1", "1", "1", "1"});
  }));
  cases.push_back(reader.with("types as fractions", {types, "array of 7 float32"}, [&](auto& f) {
    byte_builder list;
    list.number(std::uint32_t{6}).number(std::uint64_t{7});
    for (int i = 0; i < 7; ++i) list.number(1.0f);
    f.entry(types, 9, list);
  }));
  cases.push_back(reader.with("types beyond 32 bits", {types}, [&](auto& f) {
    byte_builder list;
    list.number(std::uint32_t{10}).number(std::uint64_t{7});
    for (int i = 0; i < 7; ++i) list.number(~std::uint64_t{0});
    f.entry(types, 9, list);
  }));
  cases.push_back(reader.with("type 7", {"type 7"}, [&](auto& f) { f.whole_numbers(types, {1, 1, 1, 1, 3, 3, 7}); }));
  cases.push_back(reader.with("type -1", {"type -1"}, [&](auto& f) {
    f.whole_numbers(types, {-1, 1, 1, 1, 3, 3, 1});
  }));
  // GHSA-g4cc-763q-h9h6, L#25508: ids that no token has.
  for (const char* name : {"bos", "eos", "unknown", "padding", "eot", "eom"}) {
    const auto key = std::string("tokenizer.ggml.") + name + "_token_id";
    cases.push_back(reader.with(key + " is 7", {key, "7"}, [&](auto& f) { f.number(key, 7); }));
    cases.push_back(
        reader.with(key + " is 2^32 - 1", {key, "4294967295"}, [&](auto& f) { f.number(key, 0xFFFFFFFF); }));
    cases.push_back(reader.with(key + " is negative", {key, "-2"},
                                [&](auto& f) { f.entry(key, 5, byte_builder().number(std::int32_t{-2})); }));
    cases.push_back(reader.with(key + " is text", {key, "string"}, [&](auto& f) { f.text(key, "</s>"); }));
  }
  cases.push_back(reader.with("merges as numbers", {merges}, [&](auto& f) { f.whole_numbers(merges, {1, 2}); }));
  cases.push_back(
      reader.with("a merge of one token", {merges, "[0]", "abc"}, [&](auto& f) { f.texts(merges, {"abc"}); }));
  cases.push_back(reader.with("an empty merge", {merges, "[0]"}, [&](auto& f) { f.texts(merges, {""}); }));
  // HT#2094: merges that the vocabulary does not know.
  cases.push_back(reader.with("a merge to no token", {"ba"}, [&](auto& f) { f.texts(merges, {"b a"}); }));
  cases.push_back(reader.with("a merge of no token", {"\"x\""}, [&](auto& f) { f.texts(merges, {"a x"}); }));
  cases.push_back(reader.with("an unknown tokenizer", {"tokenizer.ggml.model", "parrot"},
                              [](auto& f) { f.text("tokenizer.ggml.model", "parrot"); }));
  cases.push_back(reader.with("an unknown pre-tokenizer", {"tokenizer.ggml.pre", "parrot"},
                              [](auto& f) { f.text("tokenizer.ggml.pre", "parrot"); }));
  cases.push_back(reader.with("a chat template that is a number", {"tokenizer.chat_template", "uint32"},
                              [](auto& f) { f.number("tokenizer.chat_template", 1); }));
  cases.push_back(reader.with("add_bos as a number", {"tokenizer.ggml.add_bos_token", "uint32"},
                              [](auto& f) { f.number("tokenizer.ggml.add_bos_token", 1); }));
  check_refused(cases);
}

TEST_CASE("chat templates are searched and never executed") {
  // CVE-2024-34359: a template ran as a program when the model was loaded.
  const model_reader reader;
  const std::string evil =
      "{% for i in range(10000000000) %}{{ ''.__class__.__mro__[1].__subclasses__() }}{% endfor %}"
      "{% include '/etc/passwd' %}{{ raise_exception('x') }}{% if";
  model_file file;
  file.text("tokenizer.chat_template", evil);
  std::optional<runnel::stream::language_model> model;
  check_cost(cost_of([&] { model = reader.load(file); }));
  CHECK(model->tokenizer->chat_template() == evil);
  CHECK(model->format.name == "plain");
  file.text("tokenizer.chat_template", std::string(1 << 20, '{'));
  check_cost(cost_of([&] { model = reader.load(file); }));
  CHECK(model->format.name == "plain");
}

TEST_CASE("a file cut anywhere is refused") {
  // CVE-2024-39720, CVE-2024-32878, CVE-2024-41130: failures half-way through.
  const model_reader reader;
  const auto whole = model_file().bytes();
  for (std::size_t size = 1; size < whole.size(); ++size) {
    CAPTURE(size);
    const auto text = failure<runnel::format_error>([&] { static_cast<void>(reader.load(whole.substr(0, size))); });
    REQUIRE(holds(text, "model.gguf"));
  }
}

TEST_CASE("no changed byte does more than make a file refused") {
  const model_reader reader;
  const auto whole = model_file().bytes();
  int num_read = 0, num_refused = 0;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    CAPTURE(at);
    for (const unsigned change : {0x01u, 0x80u, 0xFFu}) {
      auto changed = whole;
      changed[at] = static_cast<char>(static_cast<unsigned char>(changed[at]) ^ change);
      ++(reads_or_refuses([&] { static_cast<void>(reader.load(changed)); }) ? num_read : num_refused);
    }
  }
  CHECK(num_read > 1000);  // bytes of weights
  CHECK(num_refused > 1000);
}
