// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

/// \file
/// What a study trains, measures and shows.

namespace runnel::cli {

/// A language pair to translate, or recordings to write down.
struct study_pair {
  std::string name;      ///< "en-de"
  std::string language;  ///< as --target-language has it; of translations
  std::string source;    ///< files
  std::string target;
  bool is_speech = false;

  /// The score that tells how good a model is: BLEU, or WER, which is better when it is lower.
  [[nodiscard]] const char* score() const noexcept { return is_speech ? "WER" : "BLEU"; }
};

/// A model that is trained once for each seed, and translates each pair at each wait.
struct study_model {
  std::string name;              ///< of its files
  std::string title;             ///< in tables
  std::string config;            ///< a file of settings for `runnel train`
  std::vector<std::string> set;  ///< "key=value" settings in place of the file's
  std::vector<std::int64_t> seeds{1};
  std::vector<std::string> translate;  ///< options of `runnel translate`
  std::vector<std::int64_t> waits;     ///< k of wait-k; none: the plan reads all first
};

/// Translations, or passes over so many rows, whose time is measured: one after another, with all threads.
struct study_measure {
  std::string name;
  std::string title;
  std::vector<std::string> translate;  ///< options of `runnel translate`, model and source among them
  std::vector<std::string> bench;      ///< instead: options of `runnel bench`, the model among them
  std::vector<std::int64_t> waits;
  std::vector<std::int64_t> prefill;  ///< rows that bench sends through at once, one number for each wait
};

/// Rows of models, columns of waits; of each pair one.
struct study_table {
  std::string title;
  std::string caption;
  std::vector<std::string> models;
  std::string against;  ///< of which model the differences are shown; may be empty
};

/// What is said of two models.
enum class claim_kind : std::uint8_t {
  better,   ///< the first is the better one
  no_gain,  ///< the first is better by at most so many points
  no_loss,  ///< the first is worse by at most so many points
  equal,    ///< they differ by at most so many points
};

/// What the paper says of two models, to be held against what came out.
struct study_claim {
  std::string text;
  std::string paper;  ///< its figures
  std::string model;
  std::string against;
  claim_kind kind = claim_kind::better;
  double within = 0;  ///< points; of every kind but `better`
};

/// Curves of models, of each pair one picture.
struct study_figure {
  std::string name;  ///< of its files
  std::string title;
  std::string caption;
  std::vector<std::string> models;
  std::string x = "LAAL";  ///< a score's name
  std::string y = "BLEU";
};

/// Rows of measures.
struct study_efficiency {
  std::string title;
  std::string caption;
  std::vector<std::string> measures;
  std::string against;  ///< what the others are compared with
  std::string prefill;  ///< a measure of bench whose rows a second are the most that others could reach; may be empty
};

/// A study, as its JSON file says it.
struct study_config {
  std::string title;
  std::vector<std::string> text;  ///< paragraphs before all tables
  std::filesystem::path results;  ///< folder: a JSON file for each trained model and measure, and the report
  std::filesystem::path work;     ///< folder: what training makes, and logs of translations
  std::vector<study_pair> pairs;
  std::vector<study_model> models;
  std::vector<study_measure> measures;
  std::int64_t rounds = 1;  ///< how often all measures are taken, by turns; medians are shown
  std::vector<study_claim> claims;
  std::vector<study_table> tables;
  std::vector<study_figure> figures;
  std::vector<study_efficiency> efficiency;
  std::string path;  ///< of the file

  /// By its name. Throws config_error for a name that is none's.
  [[nodiscard]] const study_model& model(const std::string& name) const;
  [[nodiscard]] const study_measure& measure(const std::string& name) const;
};

/// Reads a study. In settings and options, "{work}" and "{seed}" stand for what they say. Throws io_error, format_error
/// naming file and key; config_error for names that differ too little or are nobody's.
[[nodiscard]] study_config read_study(const std::string& path);

}  // namespace runnel::cli
