// SPDX-License-Identifier: Apache-2.0
#include <runnel/train/config_io.hpp>

#include <doctest/doctest.h>

#include <initializer_list>
#include <set>

#include <nlohmann/json.hpp>

#include "io/support.hpp"

namespace {

using namespace runnel;
using namespace runnel::train;
using runnel_test::failure;
using runnel_test::holds;

const std::string least = R"({"output": "out", "model": {"init": "m.gguf"},
  "data": {"train": [{"file": "a.jsonl"}], "validation": [{"file": "v.tsv", "name": "held out"}]}})";

training_config read(const std::string& text, std::initializer_list<const char*> overrides = {}) {
  settings from;
  from.add_text(text, "run.json");
  for (const char* one : overrides) from.add_override(one);
  return read_config(from);
}

std::string refused(const std::string& text, std::initializer_list<const char*> overrides = {}) {
  return failure<config_error>([&] { (void)read(text, overrides); });
}

std::string refused(std::initializer_list<const char*> overrides) { return refused(least, overrides); }

TEST_CASE("what is not given has its default, what is given counts, overrides last") {
  const auto plain = read(least);
  CHECK(plain.output == "out");
  CHECK(plain.batch.rows == 4096);
  CHECK(plain.plan.k.waits == std::vector<index_t>{3});
  CHECK(plain.data.train[0].text.name == "a.jsonl");
  CHECK(plain.data.validation[0].text.name == "held out");
  CHECK_FALSE(plain.plan.phi);
  const auto other =
      read(least, {"batch.rows=128", "batch={\"accumulation\": 4}", "plan.name=interleaved", "seed=12",
                   "loss.label_smoothing=0.1", "optimizer.decay_vectors=true", "batch.rows=64",
                   "freeze=[\"*.norm\", \"model.embed*\"]", "plan.phi=null", "schedule.rate=3e-4", "output=a \"b\""});
  CHECK(other.batch.rows == 64);
  CHECK(other.batch.accumulation == 4);
  CHECK(other.plan.name == "interleaved");
  CHECK(other.seed == 12);
  CHECK(other.loss.label_smoothing == 0.1);
  CHECK(other.optimizer.decay_vectors);
  CHECK(other.freeze == std::vector<std::string>{"*.norm", "model.embed*"});
  CHECK(other.schedule.rate == 3e-4);
  CHECK(other.output == "a \"b\"");
  CHECK(read(least, {"plan={\"name\": \"batch-grouped\", \"phi\": 2.5}", "plan.phi=7"}).plan.phi == 7.0);
  CHECK_FALSE(read(least, {"plan.phi=2", "plan.phi=null"}).plan.phi);
}

TEST_CASE("k is a number, a list or a range") {
  CHECK(read(least, {"plan.k=5"}).plan.k.waits == std::vector<index_t>{5});
  CHECK(read(least, {"plan.k=[5, 1, 1]"}).plan.k.waits == std::vector<index_t>{5, 1, 1});
  CHECK(read(least, {"plan.k=2-4"}).plan.k.waits == std::vector<index_t>{2, 3, 4});
  for (const char* bad : {"plan.k=0", "plan.k=[]", "plan.k=[1,0]", "plan.k=4-2", "plan.k=0-2", "plan.k=2-", "plan.k=-2",
                          "plan.k=2-4x", "plan.k=1.5", "plan.k=[[1]]", "plan.k=9999", "plan.k=1-9999", "plan.k=true"}) {
    CAPTURE(std::string(bad));
    CHECK(holds(refused({bad}), "--set: plan.k: expected a number from 1 to 4096, a list of such, or a range"));
  }
}

TEST_CASE("a model from scratch is told by members, of which overrides may change some") {
  const std::string scratch = R"({"output": "o", "model": {"config": {"model_type": "llama", "hidden_size": 8,
    "rope_scaling": {"type": "linear", "factor": 2.5}, "tie": true, "none": null, "list": [1, -2, "x"]}},
    "tokenizer": "t.json", "data": {"train": [{"file": "a.jsonl"}]}, "validation": {"every": 0}})";
  const auto config = read(scratch, {"model.config.hidden_size=16", "model.config={\"vocab_size\": 99}"});
  const auto json = nlohmann::json::parse(config.model.config.text);
  CHECK(json["hidden_size"] == 16);
  CHECK(json["vocab_size"] == 99);
  CHECK(json["model_type"] == "llama");
  CHECK(json["rope_scaling"]["factor"] == 2.5);
  CHECK(json["tie"] == true);
  CHECK(json["none"].is_null());
  CHECK(json["list"][1] == -2);
  CHECK(holds(refused(scratch, {"tokenizer=null"}), "tokenizer"));
  CHECK(holds(refused(scratch, {"model.init=x"}), "found both"));
  CHECK(holds(refused(scratch, {"lora.rank=4"}), "lora.rank"));
  CHECK(holds(refused(scratch, {"model.config=null"}), "found neither"));
  CHECK(holds(refused(scratch, {"model.config.rope_scaling.factor=5"}),
              "model.config.rope_scaling.factor: members of members"));
  CHECK(holds(refused({"model.config.hidden_size=5"}), "found both"));
  CHECK(holds(refused(scratch, {"model.configs.x=5"}), "'model.configs.x' is no setting"));
  CHECK(holds(refused(scratch, {"model.config=5"}), "expected an object, found 5"));
}

TEST_CASE("complaints name file, key, what was expected and what was found") {
  CHECK(refused({"batch.rows=many"}) == "--set: batch.rows: expected a whole number from 1 to 1e+09, found \"many\"");
  CHECK(holds(refused({"batch.rows=0"}), "found 0"));
  CHECK(holds(refused({"batch.rows=1.5"}), "found 1.5"));
  CHECK(holds(refused({"batch.rows=-1"}), "found -1"));
  CHECK(holds(refused({"batch.rows=18446744073709551615"}), "found 18446744073709551615"));
  CHECK(holds(refused({"dropout=1"}), "expected a number from 0 to 0.999, found 1"));
  CHECK(holds(refused({"optimizer.weight_decay=-1e-9"}), "expected a number of at least 0"));
  CHECK(holds(refused({"compute=int8"}), "expected one of f32, bf16, found \"int8\""));
  CHECK(holds(refused({"optimizer.decay_vectors=1"}), "expected true or false, found 1"));
  CHECK(holds(refused({"freeze=abc"}), "expected a list of texts, found \"abc\""));
  CHECK(holds(refused({"freeze=[1]"}), "expected a list of texts, found 1"));
  CHECK(holds(refused({"batch=5"}), "--set: batch: expected an object, found 5"));
  CHECK(holds(refused({"batch.rows"}), "expected key=value, found 'batch.rows'"));
  CHECK(holds(refused({"=5"}), "expected key=value"));
  CHECK(holds(refused("[]"), "run.json: the file: expected an object, found array"));
  CHECK(holds(failure<format_error>([] { (void)read("{"); }), "run.json"));
  CHECK(holds(refused(R"({"output": 5})"), "run.json: output: expected a text, found 5"));
}

TEST_CASE("unknown keys are refused with what was meant") {
  CHECK(holds(refused({"batch.row=5"}), "'batch.row' is no setting; did you mean 'batch.rows'?"));
  CHECK(holds(refused({"sed=5"}), "did you mean 'seed'?"));
  CHECK(refused({"nothing.like.it=5"}) == "--set: 'nothing.like.it' is no setting");
  CHECK(holds(refused({"seed.x=5"}), "'seed.x' is no setting"));
  CHECK(holds(refused({"=x"}), "key=value"));
  CHECK(holds(refused({"batch.=5"}), "is no setting"));
  CHECK(holds(refused({".batch=5"}), "is no setting"));
  CHECK(holds(refused(R"({"batch": {"rows": 5, "rows": 6}})"), "run.json: 'batch.rows' is given more than once"));
  CHECK(holds(refused(R"({"batch": {"x": {"y": 1}}})"), "run.json: 'batch.x' is no setting"));
  CHECK(holds(refused({"data.train=[{\"file\": \"a\", \"fil\": 1}]"}), "'data.train[0].fil' is no setting"));
  CHECK(holds(refused({"data.train=[{\"file\": \"a\", \"file\": \"b\"}]"}), "more than once"));
}

TEST_CASE("data sets are read strictly") {
  const auto sets = read(least, {R"(data.train=[{"file": "a.tsv.gz", "format": "tsv", "source_column": 3, "share": 2,
    "unusable": "refuse", "instruction": "Say it"}, {"file": "b.en", "target_file": "b.de"}])"})
                        .data.train;
  REQUIRE(sets.size() == 2);
  CHECK(sets[0].text.format == pair_format::tsv);
  CHECK(sets[0].text.source_column == 3);
  CHECK(sets[0].text.target_column == 2);
  CHECK(sets[0].text.unusable == unusable_pair::refuse);
  CHECK(sets[0].share == 2);
  CHECK(sets[1].text.target_file == "b.de");
  CHECK(holds(refused({"data.train=[]"}), "data.train: expected at least one object"));
  CHECK(holds(refused({"data.train=[5]"}), "data.train[0]: expected an object, found 5"));
  CHECK(holds(refused({"data.train={}"}), "data.train: expected a list of objects, found object"));
  CHECK(holds(refused({"data.train=[{}]"}), "data.train[0].file: expected a file"));
  CHECK(holds(refused({"data.train=[{\"file\": \"a\"}, {\"file\": 1}]"}),
              "data.train[1].file: expected a text, found 1"));
  CHECK(holds(refused({"data.train=[{\"file\": \"a\", \"format\": \"csv\"}]"}),
              "expected one of auto, json, jsonl, tsv, lines"));
  CHECK(holds(refused({"data.validation=[]"}), "data.validation"));
}

TEST_CASE("settings that make no sense together are refused") {
  CHECK(holds(refused({"output="}), "output"));
  CHECK(holds(refused({"steps=0", "epochs=0"}), "steps, epochs"));
  CHECK(holds(refused({"plan.reencode=all"}), "batch-streaming only"));
  CHECK(holds(refused({"plan.name=batch", "plan.phi=1"}), "phi"));
  CHECK(holds(refused({"lora.rank=2", "lora.targets=[]"}), "lora.targets"));
  CHECK(holds(refused({"tokenizer=x"}), "tokenizer"));
}

TEST_CASE("an override gives texts as they stand, and keys of other programs are known") {
  CHECK(read(least, {"output=2024"}).output == "2024");
  CHECK(read(least, {"output=1e3"}).output == "1e3");
  CHECK(read(least, {"output=true"}).output == "true");
  CHECK(read(least, {"output=\"a b\""}).output == "a b");
  CHECK(read(least, {"output=1", "output=x"}).output == "x");
  CHECK(holds(refused({"schedule.kind=1"}), "schedule.kind: expected one of"));
  CHECK(holds(refused({"schedule={\"kind\": 1}"}), "schedule.kind"));
  CHECK(holds(refused({"lr=1"}), "did you mean 'schedule.rate'?"));
  CHECK(holds(refused({"optimizer.learning_rate=1"}), "did you mean 'schedule.rate'?"));
  CHECK(holds(refused({"weight_decay=1"}), "did you mean 'optimizer.weight_decay'?"));
  CHECK(holds(refused({"optimzer.beta1=1"}), "did you mean 'optimizer.beta1'?"));
  CHECK_FALSE(holds(refused({"something.else.altogether=1"}), "did you mean"));
  CHECK(holds(refused({"batch.accumulation=1000000"}), "batch.accumulation"));
}

TEST_CASE("what is printed reads back as the same, and the table explains every key") {
  const auto config = read(
      least, {"plan.k=2-4", "freeze=[\"a\\\"b\"]", "plan.phi=0.5", "output=\\u00e9 \xC3\xA9", "schedule.rate=1e-05"});
  const auto text = to_json(config);
  CHECK(nlohmann::json::accept(text));
  CHECK(to_json(read(text)) == text);
  const auto again = read(text);
  CHECK(again.plan.k.waits == config.plan.k.waits);
  CHECK(again.output == config.output);
  const auto help = describe_settings();
  std::set<std::string_view> keys;
  for (const auto key : setting_keys()) {
    CHECK(holds(help, message("\n  ", key, " = ")) != (key == "output"));
    CHECK(keys.insert(key).second);
  }
  CHECK(holds(help, "  batch.rows = 4096\n"));
}

TEST_CASE("the identity has what changes the result, and nothing else") {
  const auto identity = [](std::initializer_list<const char*> overrides) {
    return identity_of(read(least, overrides), 100);
  };
  const auto plain = identity({});
  for (const char* same :
       {"threads=7", "output=other", "validation.every=5", "checkpoint.every=3", "result.gguf=q8_0"}) {
    CHECK(identity({same}) == plain);
  }
  for (const char* other :
       {"seed=1", "batch.rows=5", "plan.k=1-4", "freeze=[\"a\"]", "data.train=[{\"file\": \"b.jsonl\"}]", "dropout=0.1",
        "model.init=n.gguf", "schedule.rate=1"}) {
    CAPTURE(std::string(other));
    CHECK(identity({other}) != plain);
  }
  CHECK(identity_of(read(least), 101) != plain);
  CHECK(identity_of(read(least, {"schedule.kind=constant"}), 101) ==
        identity_of(read(least, {"schedule.kind=constant"}), 100));
  CHECK(plain.find("schedule.steps = 100\n") != std::string::npos);
  CHECK(std::count(plain.begin(), plain.end(), '\n') < static_cast<std::ptrdiff_t>(setting_keys().size()));
}

}  // namespace
