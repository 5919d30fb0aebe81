// SPDX-License-Identifier: Apache-2.0
// The program as a whole: exit codes, help, and the commands around translate.

#include "process.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>

#include <nlohmann/json.hpp>

#include <runnel/io/gguf_writer.hpp>
#include <runnel/io/npy.hpp>
#include <runnel/io/safetensors_writer.hpp>

namespace {

using namespace runnel_test;
using runnel::io::gguf_file;
using strings = std::vector<std::string>;

constexpr const char* counted = "Eins zwei drei vier f\xC3\xBCnf";

outcome with_model(strings arguments, std::string_view input = {}) {
  arguments.insert(arguments.begin() + 1, {"-m", tiny_model()});
  return run(arguments, input);
}

/// The tiny model, changed while it is copied.
void copy_model(const std::filesystem::path& to, const std::function<void(runnel::io::gguf_writer&)>& change) {
  const gguf_file from(tiny_model());
  runnel::io::gguf_writer out;
  out.set_all(from);
  for (const auto& tensor : from.tensors()) out.add_tensor(tensor.name, *tensor.format, tensor.shape, tensor.bytes);
  change(out);
  out.write(to);
}

TEST_CASE("help and version go to standard output and succeed") {
  const auto version = run({"--version"});
  CHECK(version.code == 0);
  CHECK(version.out.starts_with("runnel "));
  CHECK(version.err.empty());
  for (const char* name : {"generate", "translate", "transcribe", "tokenize", "logits", "inspect", "bench", "quantize",
                           "score", "serve"}) {
    CAPTURE(name);
    const auto help = run({name, "--help"});
    CHECK(help.code == 0);
    CHECK(help.err.empty());
    CHECK(help.out.find("Examples:\n  ") != std::string::npos);
    CHECK(run({"--help"}).out.find(name) != std::string::npos);
  }
}

TEST_CASE("wrong usage ends with 2 and says what is wrong") {
  const std::string model = tiny_model();
  const std::vector<std::pair<strings, strings>> cases{
      {{}, {"a command is missing", "generate, translate"}},
      {{"sing"}, {"no command 'sing'", "generate, translate, transcribe, tokenize, logits, inspect, bench, quantize"}},
      {{"generate"}, {"--model is required"}},
      {{"generate", "-m", model}, {"--prompt or --file"}},
      {{"generate", "-m", model, "-p", "x", "-f", "y"}, {"--file"}},
      {{"generate", "-m", model, "-p", "x", "--frobnicate"}, {"--frobnicate"}},
      {{"generate", "-m", model, "-p", "x", "-n", "0"}, {"--predict", "'0'"}},
      {{"generate", "-m", model, "-p", "x", "-n", "3x"}, {"--predict", "'3x'"}},
      {{"generate", "-m", model, "-p", "x", "-n", "99999999999999999999"}, {"--predict"}},
      {{"generate", "-m", model, "-p", "x", "--temp", "-1"}, {"--temp", "'-1'"}},
      {{"generate", "-m", model, "-p", "x", "--temp", "inf"}, {"--temp", "'inf'"}},
      {{"generate", "-m", model, "-p", "x", "--top-p", "0"}, {"top_p", "0"}},
      {{"generate", "-m", model, "-p", "x", "--top-p", "1.5"}, {"--top-p", "'1.5'"}},
      {{"generate", "-m", model, "-p", "x", "--top-k", "-3"}, {"--top-k"}},
      {{"generate", "-m", model, "-p", "x", "--seed", "-3"}, {"--seed"}},
      {{"generate", "-m", model, "-p", "x", "-t", "-1"}, {"--threads"}},
      {{"generate", "-m", model, "-p", "x", "--compute", "f64"}, {"--compute", "f32", "int8", "f64"}},
      {{"generate", "-m", model, "-p", "x", "--cache-type", "int8"}, {"--cache-type", "bf16", "int8"}},
      {{"generate", "-m", model, "-p", "x", "--context", "513"}, {"--context", "512", "513"}},
      {{"generate", "-m", model, "-p", "x", "--chat", "--parse-special"}, {"--parse-special", "--chat"}},
      {{"generate", "-m", model, "-p", "x", "--format", "chatml"}, {"--format", "--chat"}},
      {{"generate", "-m", model, "-p", "x", "--chat", "--format", "klingon"}, {"--format", "chatml", "klingon"}},
      {{"generate", "-m", model, "-p", ""}, {"prompt is empty"}},
      {{"generate", "-m", "", "-p", "x"}, {"--model"}},
      {{"tokenize", "-m", model, "-p", "x", "-f", "y"}, {"--file"}},
      {{"logits", "-m", model, "-p", "x"}, {"--out"}},
      {{"logits", "-m", model, "-o", "x.npy"}, {"--prompt or --tokens"}},
      {{"logits", "-m", model, "-o", "x.npy", "-p", ""}, {"no tokens"}},
      {{"logits", "-m", model, "-o", "x.npy", "--tokens", "1,x"}, {"--tokens", "'1,x'"}},
      {{"logits", "-m", model, "-o", "x.npy", "--tokens", "1,,2"}, {"--tokens"}},
      {{"logits", "-m", model, "-o", "x.npy", "--tokens", "1,-2"}, {"--tokens"}},
      {{"logits", "-m", model, "-o", "x.npy", "--tokens", "1,264"}, {"--tokens", "264"}},
      {{"quantize", "-m", model, "--type", "q8_0"}, {"--out"}},
      {{"quantize", "-m", model, "-o", "x.gguf"}, {"--type"}},
      {{"quantize", "-o", "x.gguf", "--type", "q8_0"}, {"--model is required"}},
      {{"quantize", "-m", model, "-o", "x.gguf", "--type", "q9"}, {"--type", "q4_k_m", "'q9'"}},
      {{"quantize", "-m", model, "-o", "x.gguf", "--type", "q8_0", "-t", "2000"}, {"--threads"}},
      {{"quantize", "-m", model, "-o", model, "--type", "q8_0"}, {"the file to write is the one that is read"}},
      {{"bench", "-m", model, "-o", "xml"}, {"--output", "md, csv, json"}},
      {{"bench", "-m", model, "-p", "600"}, {"600", "512"}},
      {{"bench", "-m", model, "-d", "512"}, {"--depth"}},
      {{"bench", "-m", model, "-t", "1,two"}, {"--threads"}},
  };
  for (const auto& [arguments, parts] : cases) {
    std::string line;
    for (const auto& one : arguments) line += one + " ";
    CAPTURE(line);
    check_refused(run(arguments), 2, parts);
  }
}

TEST_CASE("a model that cannot be loaded ends with 1, names the file and says why") {
  const scratch_folder folder;
  const std::string bytes = read_text(tiny_model());
  const auto refused = [&](const std::filesystem::path& path, const strings& parts) {
    CAPTURE(path);
    for (const strings& arguments :
         {strings{"generate", "-m", path.string(), "-p", "x"}, strings{"translate", "-m", path.string(), "-s", "-"},
          strings{"bench", "-m", path.string()},
          strings{"logits", "-m", path.string(), "-p", "x", "-o", (folder / "x.npy").string()}}) {
      check_refused(run(arguments), 1, parts);
    }
  };
  refused(folder / "missing.gguf", {"missing.gguf", "does not exist", "GGUF"});
  write_text(folder / "empty.gguf", "");
  refused(folder / "empty.gguf", {"empty.gguf", "empty"});
  write_text(folder / "picture.png", "\x89PNG\r\n and so on");
  refused(folder / "picture.png", {"picture.png", "GGUF"});
  for (const std::size_t size :
       {std::size_t{4}, std::size_t{30}, bytes.size() / 20, bytes.size() / 2, bytes.size() - 1}) {
    write_text(folder / "cut.gguf", std::string_view(bytes).substr(0, size));
    refused(folder / "cut.gguf", {"cut.gguf"});
  }
  copy_model(folder / "foreign.gguf", [](auto& out) { out.set("general.architecture", "mamba"); });
  refused(folder / "foreign.gguf", {"foreign.gguf", "general.architecture", "mamba"});
  copy_model(folder / "vocabulary.gguf", [](auto& out) { out.set("tokenizer.ggml.model", "bert"); });
  refused(folder / "vocabulary.gguf", {"vocabulary.gguf", "tokenizer.ggml.model", "bert"});
  copy_model(folder / "layers.gguf", [](auto& out) { out.set("llama.block_count", std::uint32_t{3}); });
  refused(folder / "layers.gguf", {"layers.gguf", "blk.2."});
  std::filesystem::create_directory(folder / "nothing");
  refused(folder / "nothing", {"nothing", "tokenizer.json"});
  write_text(folder / "model.safetensors", "x");
  refused(folder / "model.safetensors", {"model.safetensors", "folder"});
}

/// Copies the tiny model with values of its first tensor called I32, which has as many bytes and no codec.
void write_with_foreign_format(const std::filesystem::path& path) {
  std::string bytes = read_text(tiny_model());
  const std::string name = "token_embd.weight";
  const auto found = bytes.find(name);
  REQUIRE(found != std::string::npos);
  const std::size_t type = found + name.size() + 4 + 2 * 8;  // behind the number of dimensions and two sizes
  REQUIRE(bytes[type] == 0);
  bytes[type] = 26;
  write_text(path, bytes);
}

TEST_CASE("a tensor format without a codec is refused by name, and still listed") {
  const scratch_folder folder;
  write_with_foreign_format(folder / "ints.gguf");
  check_refused(run({"generate", "-m", (folder / "ints.gguf").string(), "-p", "x"}), 1,
                {"ints.gguf", "token_embd.weight", "I32"});
  const auto listed = run({"inspect", "-m", (folder / "ints.gguf").string()});
  CHECK(listed.code == 0);
  CHECK(listed.out.find("I32") != std::string::npos);
  CHECK(listed.out.find("cannot run") != std::string::npos);
}

TEST_CASE("generate writes the text and nothing else to standard output") {
  const auto text = with_model({"generate", "-p", "count:\n"});
  CHECK(text.code == 0);
  CHECK(text.out == std::string(counted) + "\n");
  CHECK(text.err.find("the model ended") != std::string::npos);
  CHECK(text.err.find("written: 5 tokens") != std::string::npos);
  CHECK(with_model({"generate", "-p", "count:\n", "-n", "2"}).out == "Eins zwei\n");
  CHECK(with_model({"generate", "-p", "hm", "-n", "3"}).out == " ja ja ja\n");
  CHECK(with_model({"generate", "--chat", "-p", "hm"}).out == std::string(counted) + "\n");
  CHECK(with_model({"generate", "--chat", "--format", "chatml", "-p", "hm"}).out == std::string(counted) + "\n");
}

TEST_CASE("generate: prompts from files and standard input lose one line break") {
  const scratch_folder folder;
  write_text(folder / "prompt", "hm\n");
  CHECK(with_model({"generate", "-n", "1", "-f", (folder / "prompt").string()}).out == " ja\n");
  CHECK(with_model({"generate", "-n", "1", "-f", "-"}, "hm\n\n").out == "Eins\n");
  check_refused(with_model({"generate", "-f", (folder / "none").string()}), 1, {"none"});
}

TEST_CASE("generate: special tokens are text unless asked for") {
  const auto plain = with_model({"generate", "-n", "1", "-p", "<|im_end|>"});
  CHECK(plain.err.find("prompt: 10 tokens") != std::string::npos);
  const auto parsed = with_model({"generate", "-n", "1", "-p", "<|im_end|>", "--parse-special"});
  CHECK(parsed.err.find("prompt: 1 tokens") != std::string::npos);
}

TEST_CASE("generate stops where the context ends, and refuses a prompt that is longer") {
  const auto full = with_model({"generate", "-p", "hm", "--context", "10", "-n", "100"});
  CHECK(full.code == 0);
  CHECK(full.out == " ja ja ja ja ja ja ja ja ja\n");
  CHECK(full.err.find("context is full") != std::string::npos);
  check_refused(with_model({"generate", "-p", std::string(11, 'x'), "--context", "10"}), 1,
                {"11 tokens", "10", "--context"});
  check_refused(with_model({"generate", "-p", std::string(600, 'x')}), 1, {"600 tokens", "512"});
}

TEST_CASE("generate: seeds make runs repeatable") {
  const strings arguments{"generate", "-p", "hm", "-n", "40", "--temp", "30", "--seed", "5"};
  const auto once = with_model(arguments);
  CHECK(once.code == 0);
  CHECK(once.out == with_model(arguments).out);
  strings other = arguments;
  other.back() = "6";
  CHECK(once.out != with_model(other).out);
  CHECK(with_model({"generate", "-p", "hm", "-n", "3", "--temp", "30", "--top-k", "1"}).out == " ja ja ja\n");
}

TEST_CASE("the environment names a model where no option does") {
  const std::string set = "RUNNEL_ARG_MODEL='" + tiny_model() + "' '" + program() + "' tokenize -p ab";
  CHECK(WEXITSTATUS(std::system((set + " > /dev/null 2>&1").c_str())) == 0);
  CHECK(WEXITSTATUS(std::system((set + " -m /nonexistent > /dev/null 2>&1").c_str())) == 1);
}

TEST_CASE("tokenize: one line of ids a line, split at line feeds only") {
  CHECK(with_model({"tokenize", "-p", "ab"}).out == "99 100\n");
  CHECK(with_model({"tokenize"}, "a\n\nb").out == "99\n\n100\n");
  CHECK(with_model({"tokenize"}, "a\n\nb\n").out == "99\n\n100\n");
  CHECK(with_model({"tokenize"}, "a\r\n").out == "99 15\n");
  CHECK(with_model({"tokenize"}, "").out.empty());
  CHECK(with_model({"tokenize"}, std::string("a\0b\n", 4)).out == "99 2 100\n");
  CHECK(with_model({"tokenize"}, "\xFF\xC3\n").out == "257 197\n");
  CHECK(with_model({"tokenize", "-p", ""}).out == "\n");
  CHECK(with_model({"tokenize", "-p", "\xE2\x80\xA8"}).out == "228 130 170\n");  // U+2028 separates no lines
}

TEST_CASE("tokenize: special tokens, bos and pieces") {
  CHECK(with_model({"tokenize", "-p", "<|im_end|>"}).out == "62 126 107 111 97 103 112 102 126 64\n");
  CHECK(with_model({"tokenize", "-p", "a<|im_end|>", "--parse-special"}).out == "99 1\n");
  CHECK(with_model({"tokenize", "-p", "a", "--bos"}).out == "0 99\n");
  CHECK(with_model({"tokenize", "-p", "a\"\xC3", "--pieces"}).out == "99:\"a\" 36:\"\\\"\" 197:\"\xEF\xBF\xBD\"\n");
}

TEST_CASE("tokenize answers each line as it comes") {
  process one({"tokenize", "-m", tiny_model()});
  one.write("a\n");
  CHECK(one.wait_for("99\n"));
  one.write("b");
  one.close_input();
  CHECK(one.finish().out == "99\n100\n");
}

TEST_CASE("tokenize: many lines at once") {
  std::string input, expected;
  for (int i = 0; i < 20000; ++i) {
    input += "ab\n";
    expected += "99 100\n";
  }
  const auto result = with_model({"tokenize"}, input);
  CHECK(result.code == 0);
  CHECK((result.out == expected));
}

TEST_CASE("logits of a text are those of its tokens, row by row") {
  const scratch_folder folder;
  const auto file = [&](const char* name) { return (folder / name).string(); };
  const std::string text = "ab" + std::string(100, 'x');  // more than one piece
  std::string ids = "99,100";
  for (int i = 0; i < 100; ++i) ids += ",122";
  const auto result = with_model({"logits", "-p", text, "-o", file("a.npy")});
  CHECK(result.code == 0);
  CHECK(result.out.empty());
  CHECK(with_model({"logits", "--tokens", ids, "-o", file("b.npy")}).code == 0);
  CHECK((read_text(folder / "a.npy") == read_text(folder / "b.npy")));
  const auto all = runnel::io::read_npy<float>(folder / "a.npy");
  REQUIRE(all.shape == std::vector<std::uint64_t>{102, 264});
  CHECK(with_model({"logits", "--tokens", "99,100", "-o", file("c.npy")}).code == 0);
  const auto first = runnel::io::read_npy<float>(folder / "c.npy");
  CHECK(std::equal(first.values.begin(), first.values.end(), all.values.begin()));
  // After anything but the words it counts with, " ja" (id 263) is the likeliest.
  CHECK(std::max_element(first.values.begin(), first.values.begin() + 264) - first.values.begin() == 263);
}

TEST_CASE("logits: what goes wrong") {
  const scratch_folder folder;
  const std::string to = (folder / "x.npy").string();
  check_refused(with_model({"logits", "-p", std::string(600, 'x'), "-o", to}), 1, {"600", "512"});
  check_refused(with_model({"logits", "-p", std::string(20, 'x'), "-c", "10", "-o", to}), 1, {"20", "10"});
  check_refused(with_model({"logits", "-p", "x", "-o", (folder / "no" / "x.npy").string()}), 1, {"x.npy"});
  CHECK_FALSE(std::filesystem::exists(to));
}

TEST_CASE("inspect prints what a file holds, as text and as JSON") {
  const auto text = with_model({"inspect"});
  CHECK(text.code == 0);
  CHECK(text.err.empty());
  for (const char* part :
       {"general.architecture", "\"llama\"", "token_embd.weight", "[264,16] F32 16896 bytes", "chatml", "smollm"}) {
    CAPTURE(part);
    CHECK(text.out.find(part) != std::string::npos);
  }
  const auto result = with_model({"inspect", "--json"});
  CHECK(result.code == 0);
  const auto report = nlohmann::json::parse(result.out);
  CHECK(report["container"]["kind"] == "gguf");
  CHECK(report["config"]["hidden_size"] == 16);
  CHECK(report["tokenizer"]["tokens"] == 264);
  CHECK(report["tokenizer"]["eos"][0]["token"] == "<|im_end|>");
  CHECK(report["chat_format"]["name"] == "chatml");
  CHECK(report["supported"] == true);
  CHECK(report["tensors"].size() == report["totals"]["tensors"]);
  CHECK(report["tensors"][0]["shape"] == nlohmann::json{264, 16});
  for (const auto& entry : report["metadata"]) {
    if (entry["key"] != "tokenizer.ggml.tokens") continue;
    CHECK(entry["length"] == 264);
    CHECK(entry["value"].size() < 20);
  }
  const auto full = nlohmann::json::parse(with_model({"inspect", "--json", "--full"}).out);
  for (const auto& entry : full["metadata"]) {
    if (entry["key"] == "tokenizer.ggml.tokens") CHECK(entry["value"].size() == 264);
  }
}

TEST_CASE("inspect also lists what cannot be run, and says why") {
  const scratch_folder folder;
  copy_model(folder / "foreign.gguf", [](auto& out) {
    out.set("general.architecture", "mamba\x1b[31m");
    out.set("odd", std::vector<bool>{true, false});
  });
  const auto foreign = run({"inspect", "-m", (folder / "foreign.gguf").string()});
  CHECK(foreign.code == 0);
  CHECK(foreign.out.find("token_embd.weight") != std::string::npos);
  CHECK(foreign.out.find("cannot run") != std::string::npos);
  CHECK(foreign.out.find('\x1b') == std::string::npos);  // a file must not steer the terminal
  const std::vector<float> values(6);
  const runnel::io::safetensors_output weights[] = {
      {"some.weight", runnel::quant::weight_format::f32, {2, 3}, std::as_bytes(std::span(values))}};
  runnel::io::write_safetensors(folder / "alone.safetensors", weights);
  const auto alone = run({"inspect", "-m", (folder / "alone.safetensors").string()});
  CHECK(alone.code == 0);
  CHECK(alone.out.find("[2,3] F32 24 bytes") != std::string::npos);
  CHECK(alone.out.find("weights alone") != std::string::npos);
  std::filesystem::create_directory(folder / "nothing");
  check_refused(run({"inspect", "-m", (folder / "nothing").string()}), 1, {"nothing", "config.json"});
  write_text(folder / "cut.gguf", read_text(tiny_model()).substr(0, 900));
  check_refused(run({"inspect", "-m", (folder / "cut.gguf").string()}), 1, {"cut.gguf"});
}

/// The tiny model as a Hugging Face folder. (Its attention ends in zeros, so the order of query rows makes no
/// difference.)
void write_hugging_face_folder(const std::filesystem::path& folder) {
  std::filesystem::create_directory(folder);
  const gguf_file from(tiny_model());
  const std::vector<std::pair<std::string, std::string>> names{{"blk.", "model.layers."},
                                                               {"attn_norm", "input_layernorm"},
                                                               {"ffn_norm", "post_attention_layernorm"},
                                                               {"attn_q", "self_attn.q_proj"},
                                                               {"attn_k", "self_attn.k_proj"},
                                                               {"attn_v", "self_attn.v_proj"},
                                                               {"attn_output", "self_attn.o_proj"},
                                                               {"ffn_gate", "mlp.gate_proj"},
                                                               {"ffn_up", "mlp.up_proj"},
                                                               {"ffn_down", "mlp.down_proj"},
                                                               {"token_embd", "model.embed_tokens"},
                                                               {"output_norm", "model.norm"},
                                                               {"output.weight", "lm_head.weight"}};
  std::vector<runnel::io::safetensors_output> weights;
  for (const auto& tensor : from.tensors()) {
    std::string name = tensor.name;
    for (const auto& [theirs, ours] : names) {
      const auto at = name.find(theirs);
      if (at != std::string::npos) name.replace(at, theirs.size(), ours);
    }
    weights.push_back({name, *tensor.format, tensor.shape, tensor.bytes});
  }
  runnel::io::write_safetensors(folder / "model.safetensors", weights);
  const nlohmann::json config{{"model_type", "llama"},    {"vocab_size", 264},
                              {"hidden_size", 16},        {"intermediate_size", 32},
                              {"num_hidden_layers", 2},   {"num_attention_heads", 2},
                              {"num_key_value_heads", 1}, {"max_position_embeddings", 512},
                              {"rms_norm_eps", 1e-5}};
  write_text(folder / "config.json", config.dump());
  nlohmann::json vocabulary = nlohmann::json::object();
  const auto tokens = from.strings("tokenizer.ggml.tokens");
  for (std::size_t i = 0; i < tokens.size(); ++i) vocabulary[std::string(tokens[i])] = i;
  nlohmann::json added = nlohmann::json::array();
  for (int id = 0; id < 2; ++id) {
    added.push_back({{"id", id},
                     {"content", std::string(tokens[static_cast<std::size_t>(id)])},
                     {"special", true},
                     {"normalized", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"single_word", false}});
  }
  const nlohmann::json tokenizer{
      {"added_tokens", added},
      {"normalizer", nullptr},
      {"pre_tokenizer",
       {{"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Digits"}, {"individual_digits", true}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}}}}}},
      {"decoder", {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
      {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", nlohmann::json::array()}}}};
  write_text(folder / "tokenizer.json", tokenizer.dump());
  const nlohmann::json companion{{"eos_token", "<|im_end|>"}, {"chat_template", "{{ '<|im_start|>' }}"}};
  write_text(folder / "tokenizer_config.json", companion.dump());
}

TEST_CASE("a Hugging Face folder does what the GGUF file does") {
  const scratch_folder scratch;
  const auto folder = scratch / "model";
  write_hugging_face_folder(folder);
  const auto text = run({"generate", "-m", folder.string(), "-p", "count:\n"});
  CAPTURE(text.err);
  CHECK(text.code == 0);
  CHECK(text.out == std::string(counted) + "\n");
  CHECK(run({"tokenize", "-m", (folder / "tokenizer.json").string(), "-p", "ab"}).out == "99 100\n");
  const auto report = nlohmann::json::parse(run({"inspect", "-m", folder.string(), "--json"}).out);
  CHECK(report["supported"] == true);
  CHECK(report["container"]["kind"] == "hugging face folder");
  CHECK(report["totals"]["tensors"] == report["tensors"].size());
  write_text(folder / "config.json", "{\"model_type\": \"llama\"}");
  check_refused(run({"generate", "-m", folder.string(), "-p", "x"}), 1, {"config.json", "vocab_size"});
}

TEST_CASE("numbers that are computed in and kept are chosen, and said") {
  for (const char* mode : {"f32", "bf16", "int8"}) {
    const auto result =
        with_model({"bench", "-p", "2", "-n", "0", "-d", "0", "-r", "1", "-o", "json", "--compute", mode});
    CHECK(result.code == 0);
    // The model's weights are f32, which int8 leaves as they are.
    const bool rounded = std::string_view(mode) == "bf16";
    CHECK(nlohmann::json::parse(result.out)["context"]["compute"] == (rounded ? "bf16" : "f32"));
    CHECK(with_model({"generate", "-p", "ab", "-n", "3", "--compute", mode, "--cache-type", "bf16"}).code == 0);
  }
}

TEST_CASE("bench reports every test it was asked for, in every form") {
  const strings some{"bench", "-p", "4,8", "-n", "4", "-d", "16", "-r", "2", "-t", "1,2"};
  const auto form = [&](const char* name) {
    auto arguments = some;
    arguments.insert(arguments.end(), {"-o", name});
    auto result = with_model(arguments);
    CAPTURE(result.err);
    CHECK(result.code == 0);
    return result.out;
  };
  const auto report = nlohmann::json::parse(form("json"));
  CHECK(report["benchmarks"].size() == 8);
  CHECK(report["context"]["compute"] == "f32");
  std::map<std::string, int> seen;
  for (const auto& one : report["benchmarks"]) {
    const auto name = one["name"].get<std::string>();
    ++seen[name];
    CHECK(one["samples_ns"].size() == (name.starts_with("stream") ? 16 : 2));  // eight steps a round
    CHECK(one["median_tokens_per_s"].get<double>() > 0);
  }
  CHECK(seen == std::map<std::string, int>{{"pp4", 2}, {"pp8", 2}, {"tg4", 2}, {"stream 3+2 @ 16", 2}});
  const auto deep = with_model({"bench", "-p", "0", "-n", "3", "-d", "0", "--decode-depth", "0,20", "--n-parallel",
                                "1,3", "--cache-type", "q8_0", "-r", "1", "-t", "1", "-o", "json"});
  CAPTURE(deep.err);
  REQUIRE(deep.code == 0);
  const auto depths = nlohmann::json::parse(deep.out);
  CHECK(depths["context"]["cache_type"] == "q8_0");
  REQUIRE(depths["benchmarks"].size() == 4);
  CHECK(depths["benchmarks"][0]["name"] == "tg3");
  CHECK(depths["benchmarks"][1]["name"] == "tg3 x 3");
  CHECK(depths["benchmarks"][1]["tokens"] == 9);
  CHECK(depths["benchmarks"][1]["streams"] == 3);
  CHECK(depths["benchmarks"][3]["name"] == "tg3 x 3 @ 20");
  const auto too_many = with_model({"bench", "-n", "3", "--n-parallel", "1025"});
  CHECK(too_many.code == 2);
  CHECK(too_many.err.find("--n-parallel: expected at most 1024, found 1025") != std::string::npos);
  const auto too_deep = with_model({"bench", "-n", "3", "--decode-depth", "100000"});
  CHECK(too_deep.code == 2);
  CHECK(too_deep.err.find("--decode-depth: expected at most") != std::string::npos);
  const std::string csv = form("csv");
  CHECK(std::count(csv.begin(), csv.end(), '\n') == 9);
  const std::string table = form("md");
  CHECK(table.find("| pp8 |") != std::string::npos);
  CHECK(table.find("instruction set") != std::string::npos);
}

TEST_CASE("quantize writes a smaller model that runs, and refuses to do so twice") {
  const scratch_folder folder;
  const auto once = (folder / "once.gguf").string(), twice = (folder / "twice.gguf").string();
  const auto done = with_model({"quantize", "-o", once, "--type", "Q8_0", "-t", "2"});
  CAPTURE(done.err);
  CHECK(done.code == 0);
  CHECK(done.out.empty());
  CHECK(done.err.find("once.gguf: q8_0") != std::string::npos);
  const gguf_file from(tiny_model()), to(once);
  CHECK(to.get<std::uint32_t>("general.file_type") == 7);
  CHECK(to.tensors().size() == from.tensors().size());
  // Rows of 32 fit blocks; those of 16, the model's width, do not.
  CHECK(to.tensor("blk.0.ffn_down.weight").format == runnel::quant::weight_format::q8_0);
  CHECK(to.tensor("blk.0.ffn_up.weight").format == runnel::quant::weight_format::f16);
  CHECK(to.tensor("blk.0.ffn_norm.weight").format == runnel::quant::weight_format::f32);
  CHECK(run({"generate", "-m", once, "-p", "count:\n"}).out == std::string(counted) + "\n");
  check_refused(run({"quantize", "-m", once, "-o", twice, "--type", "q4_0"}), 2, {"ffn_down", "allow-requantize"});
  CHECK_FALSE(std::filesystem::exists(twice));
  CHECK(run({"quantize", "-m", once, "-o", twice, "--type", "q4_0", "--allow-requantize"}).code == 0);
  CHECK(gguf_file(twice).tensor("blk.0.ffn_down.weight").format == runnel::quant::weight_format::q4_0);
  check_refused(run({"quantize", "-m", (folder / "none.gguf").string(), "-o", twice, "--type", "q4_0"}), 1,
                {"none.gguf"});
  check_refused(with_model({"quantize", "-o", (folder / "none" / "x.gguf").string(), "--type", "q8_0"}), 1, {"x.gguf"});
}

TEST_CASE("a full disk is an error, a closed pipe is not") {
  if (!std::filesystem::exists("/dev/full")) return;
  const std::string quoted = "'" + program() + "' tokenize -m '" + tiny_model() + "' -p ab";
  const int full = std::system((quoted + " > /dev/full 2> /dev/null").c_str());
  CHECK(WEXITSTATUS(full) == 1);
  std::signal(SIGPIPE, SIG_IGN);
  process one({"tokenize", "-m", tiny_model()});
  one.write("a\n");
  CHECK(one.wait_for("99\n"));
  one.close_output();
  one.write("a\n");
  const auto result = one.finish();
  CHECK(result.code == 0);
  CHECK(result.err.empty());
}

TEST_CASE("a closed standard output is an error") {
  const std::string quoted = "'" + program() + "' tokenize -m '" + tiny_model() + "' -p ab";
  CHECK(WEXITSTATUS(std::system((quoted + " >&- 2> /dev/null").c_str())) == 1);
}

}  // namespace
