// SPDX-License-Identifier: Apache-2.0

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "agent.hpp"
#include "command.hpp"
#include "console.hpp"
#include "http_service.hpp"
#include "options.hpp"
#include "streaming_options.hpp"

namespace runnel::cli {

namespace {

class serve_command final : public command {
 public:
  [[nodiscard]] const char* name() const override { return "serve"; }
  [[nodiscard]] const char* summary() const override { return "Be a remote agent for SimulEval, over HTTP"; }

  void declare(arguments& options) override {
    model_.declare(options);
    streaming_.declare(options);
    options.text("--address,--host", where_.address, "ADDRESS",
                 "Where to listen. Other addresses than this machine's own let anyone who reaches them use the model");
    options.whole("--port,--remote-port", where_.port, "PORT", "0: any that is free", 0, 65535);
    options.whole("--sessions", sessions_, "N", "Sessions at a time", 1, 100'000);
    options.whole("--idle", idle_s_, "S", "Seconds without a request after which a session may make room for another");
    options.real("--request-timeout", request_s_, "S", "Seconds that one answer may take; 0: any", 0, 86400);
    options.whole("--connections", where_.threads, "N", "Connections at a time", 1, 1024);
    options.whole("--connection-timeout", where_.timeout_s, "S", "Seconds to wait for each part of a request", 1, 3600);
    options.footer(
        "PUT /input takes a segment of source, GET /output gives what was written since, POST /reset begins the next\n"
        "sentence: SimulEval's protocol, one sentence at a time. The same below /s/<id>/ for as many as there are "
        "sessions;\n"
        "DELETE /s/<id> ends one. Errors are JSON: 400 what is no segment, 409 text after the source's end, 503 a "
        "limit.\n"
        "A body says its length and has at most 1 MiB; a sentence's source has as much. A connection is for one "
        "request. "
        "Headers\n"
        "have no limit: for clients that are not trusted, put a server before this one that has.\n"
        "The address goes to standard output when the server can be reached; a signal stops it.\n"
        "Examples:\n"
        "  runnel serve -m model.gguf --plan group-streaming --wait-k 3\n"
        "  simuleval --remote-eval --remote-port 12321 --source test.en --target test.fr --source-type text "
        "--target-type text");
  }

  void run() override {
    auto options = streaming_.get(model_);
    auto model = model_.load();
    streaming_.apply(model, options);
    options.adapters = model_.adapters(model);
    agents::limits most;
    most.sessions = sessions_;
    most.idle = std::chrono::seconds(idle_s_);
    most.request = agent::seconds(request_s_);
    agents served(std::move(model), std::move(options), most, interrupts::instance().token());
    if (!is_loopback(where_.address)) {
      note(message("serve: anyone who reaches ", where_.address, " can use the model; no password is asked for"));
    }
    serve_http(served, where_);
  }

 private:
  model_options model_;
  streaming_options streaming_;
  http_options where_;
  std::int64_t sessions_ = 16;
  std::int64_t idle_s_ = 600;
  double request_s_ = 60;
};

}  // namespace

std::unique_ptr<command> make_serve_command() { return std::make_unique<serve_command>(); }

}  // namespace runnel::cli
