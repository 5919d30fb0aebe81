// SPDX-License-Identifier: Apache-2.0

#include <runnel/transcribe/export.hpp>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <vector>

#include <unistd.h>

#include <doctest/doctest.h>

#include <runnel/speech/projected_stream.hpp>

#include "support/random_values.hpp"
#include "support/tiny_speech.hpp"

namespace {

using namespace runnel;

struct scratch {
  std::filesystem::path path = std::filesystem::temp_directory_path() / message("runnel-speech-", ::getpid());
  scratch() { std::filesystem::create_directories(path); }
  ~scratch() { std::filesystem::remove_all(path); }
};

std::vector<float> rows_of(const speech::encoder& encoder, const speech::projector& projector,
                           std::span<const float> audio) {
  speech::projected_stream stream(encoder, projector);
  std::vector<float> out;
  for (const auto& rows : {stream.push(audio)}) out.insert(out.end(), rows.data(), rows.data() + rows.size());
  const auto rest = stream.finish();
  out.insert(out.end(), rest.data(), rest.data() + rest.size());
  return out;
}

TEST_CASE("an encoder and a projector that are written are read as they were") {
  const scratch folder;
  random_stream random(1);
  const auto audio = tests::tiny_audio(random, 300);
  for (const bool norm_first : {true, false}) {
    const auto model = tests::tiny_speech(4, {.stack = 2, .norm_first = norm_first, .right_pad = 7});
    transcribe::write_encoder(*model.encoder, quant::weight_format::f32, folder.path / "encoder");
    transcribe::write_projector(*model.projector, quant::weight_format::f32, folder.path / "projector.safetensors");
    const auto encoder = speech::load_encoder(folder.path / "encoder");
    CHECK(encoder.config().sample_rate == 1000);
    CHECK(encoder.config().left_context == 7);
    CHECK(encoder.config().pad_tail);
    CHECK(encoder.config().right_pad == 7);
    const auto projector =
        transcribe::detail::load_projector(folder.path / "projector.safetensors", 2, kernels::activation::gelu);
    const auto before = rows_of(*model.encoder, *model.projector, audio);
    const auto after = rows_of(encoder, *projector, audio);
    REQUIRE(before.size() == after.size());
    // Lengths of weight norm are rounded to float.
    for (std::size_t i = 0; i < before.size(); ++i) CHECK(after[i] == doctest::Approx(before[i]).epsilon(1e-4));
    double away = 0;
    for (std::size_t i = 0; i < before.size(); ++i) {
      away = std::max(away, static_cast<double>(std::fabs(after[i] - before[i])));
    }
    CHECK(away < 1e-5);
  }
}

TEST_CASE("what has no place in a file is refused") {
  const scratch folder;
  const auto model = tests::tiny_speech(4);
  CHECK_THROWS_AS(transcribe::write_encoder(*model.encoder, quant::weight_format::q8_0, folder.path / "e"),
                  config_error);
  auto config = model.encoder->config();
  config.norm = speech::front_end_norm::group;
  CHECK_THROWS_AS(static_cast<void>(transcribe::encoder_config_text(config)), config_error);
}

TEST_CASE("a folder that is no speech model is refused with its file and key") {
  const scratch folder;
  CHECK_FALSE(transcribe::is_speech_model(folder.path));
  CHECK_THROWS_WITH_AS(static_cast<void>(transcribe::load_speech_model(folder.path)), doctest::Contains("speech.json"),
                       io_error);
  const auto write = [&](const char* text) { std::ofstream(folder.path / "speech.json") << text; };
  write("{}");
  CHECK_THROWS_WITH_AS(static_cast<void>(transcribe::load_speech_model(folder.path)), doctest::Contains("chunk_rows"),
                       format_error);
  write(R"({"chunk_rows": 3, "stack": 0})");
  CHECK_THROWS_WITH_AS(static_cast<void>(transcribe::load_speech_model(folder.path)), doctest::Contains("stack"),
                       format_error);
  write(R"({"chunk_rows": 3, "longest_seconds": "9"})");
  CHECK_THROWS_WITH_AS(static_cast<void>(transcribe::load_speech_model(folder.path)),
                       doctest::Contains("longest_seconds"), format_error);
  write(R"({"chunk_rows": 3, "stacks": 1})");
  CHECK_THROWS_WITH_AS(static_cast<void>(transcribe::load_speech_model(folder.path)), doctest::Contains("stacks"),
                       format_error);
}

}  // namespace
