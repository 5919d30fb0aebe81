// SPDX-License-Identifier: Apache-2.0

#include "http_service.hpp"

#ifdef RUNNEL_CLI_HTTPLIB

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <httplib.h>
#include <nlohmann/json.hpp>

#include <runnel/core/error.hpp>

#include "console.hpp"

namespace runnel::cli {

namespace {

using httplib::Request;
using httplib::Response;

constexpr const char* json_type = "application/json";

enum status_code : int {
  bad_request = 400,
  forbidden = 403,
  not_found = 404,
  conflict = 409,
  length_required = 411,
  too_large = 413,
  unsupported = 415,
  failed = 500,
  unavailable = 503,
};

void refuse(Response& to, int status, const std::string& why) {
  const nlohmann::json body = {{"error", why}};
  to.status = status;
  to.set_content(body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n", json_type);
}

/// Wraps what answers a request, so that every error becomes an answer.
httplib::Server::Handler answering(std::function<void(const Request&, Response&)> handle) {
  return [handle = std::move(handle)](const Request& request, Response& response) {
    try {
      handle(request, response);
    } catch (const conflict_error& problem) {
      refuse(response, conflict, problem.what());
    } catch (const format_error& problem) {
      refuse(response, bad_request, problem.what());
    } catch (const limit_error& problem) {
      refuse(response, unavailable, problem.what());
    } catch (const cancelled_error&) {
      refuse(response, unavailable, "the server is stopping");
    } catch (const std::exception& problem) {
      refuse(response, failed, problem.what());
    }
  };
}

/// The host's name in a Host header, without the port.
std::string host_of(const std::string& header) {
  if (header.starts_with('[')) return header.substr(0, header.find(']') + 1);
  return header.substr(0, header.find(':'));
}

constexpr std::string_view session_path = "/s/([A-Za-z0-9_-]{1,64})";

/// The session of a path /s/<id> with `after` behind it, which alone means the server's own: empty.
std::optional<std::string> session_name(std::string_view path, std::string_view after) {
  if (!after.empty() && path == after) return std::string();
  constexpr std::string_view before = "/s/";
  if (!path.starts_with(before) || !path.ends_with(after) || path.size() <= before.size() + after.size()) {
    return std::nullopt;
  }
  const auto name = path.substr(before.size(), path.size() - before.size() - after.size());
  const auto fits = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c == '-';
  };
  if (name.size() > 64 || !std::all_of(name.begin(), name.end(), fits)) return std::nullopt;
  return std::string(name);
}

void answer_reset(agents& served, const std::string& name, Response& response) {
  served.reset(name);
  response.set_content("{}\n", json_type);
}

void answer_end(agents& served, const std::string& name, Response& response) {
  if (served.end(name)) {
    response.set_content("{}\n", json_type);
  } else {
    refuse(response, not_found, "there is no such session");
  }
}

/// Answers what needs no body and has none, but does not say so: cpp-httplib would wait for it. Whether it was such.
bool answer_bare(const Request& request, Response& response, agents& served) {
  const bool ends = request.method == "DELETE";
  if (!ends && request.method != "POST") return false;
  const auto name = session_name(request.path, ends ? "" : "/reset");
  if (!name) return false;
  const auto answer = ends ? answer_end : answer_reset;
  answering([&](const Request&, Response& to) { answer(served, *name, to); })(request, response);
  return true;
}

/// Refuses what a web page in a browser could send on its own: nobody is asked for a password here. Refuses bodies that
/// do not say how long they are, or are compressed: cpp-httplib has no limit for those.
httplib::Server::HandlerResponse guard(const Request& request, Response& response, agents& served, bool only_loopback) {
  using httplib::Server;
  if (request.has_header("Origin")) {
    refuse(response, forbidden, "requests of web pages are not answered");
    return Server::HandlerResponse::Handled;
  }
  const std::string host = host_of(request.get_header_value("Host"));
  if (only_loopback && !host.empty() && !is_loopback(host)) {
    refuse(response, forbidden, "this server is for requests to localhost");
    return Server::HandlerResponse::Handled;
  }
  if (request.has_header("Content-Encoding")) {
    refuse(response, unsupported, "compressed requests are not answered");
    return Server::HandlerResponse::Handled;
  }
  const bool in_pieces = request.has_header("Transfer-Encoding");
  if (!in_pieces && request.has_header("Content-Length")) return Server::HandlerResponse::Unhandled;
  if (!in_pieces && answer_bare(request, response, served)) return Server::HandlerResponse::Handled;
  if (!in_pieces && (request.method == "GET" || request.method == "HEAD")) return Server::HandlerResponse::Unhandled;
  refuse(response, length_required, "expected a Content-Length");
  return Server::HandlerResponse::Handled;
}

void add_routes(httplib::Server& server, agents& served) {
  // One session a server, as SimulEval has it, and others by name.
  const auto name_of = [](const Request& request) {
    return request.matches.size() > 1 ? request.matches[1].str() : std::string();
  };
  for (const std::string& prefix : {std::string(), std::string(session_path)}) {
    server.Put(prefix + "/input", answering([&served, name_of](const Request& request, Response& response) {
                 served.push(name_of(request), request.body);
                 response.set_content("{}\n", json_type);
               }));
    server.Get(prefix + "/output", answering([&served, name_of](const Request& request, Response& response) {
                 response.set_content(served.pop(name_of(request)) + "\n", json_type);
               }));
    server.Post(prefix + "/reset", answering([&served, name_of](const Request& request, Response& response) {
                  answer_reset(served, name_of(request), response);
                }));
  }
  server.Delete(std::string(session_path), answering([&served, name_of](const Request& request, Response& response) {
                  answer_end(served, name_of(request), response);
                }));
  server.Get("/", answering([&served](const Request&, Response& response) {
               response.set_content(served.describe() + "\n", json_type);
             }));
  server.set_error_handler([](const Request&, Response& response) {
    if (!response.body.empty()) return;
    refuse(response, response.status,
           response.status == not_found   ? "expected PUT /input, GET /output or POST /reset, below / or /s/<id>/"
           : response.status == too_large ? "the request is too large"
                                          : "the request cannot be answered");
  });
}

/// Stops a server when a signal comes, or with its own end.
class stopper {
 public:
  explicit stopper(httplib::Server& server) {
    expect<io_error>(::pipe(ended_.data()) == 0, "pipe: ", std::generic_category().message(errno));
    watch_ = std::jthread([this, &server] {
      std::array<pollfd, 2> ready{pollfd{interrupts::instance().wake_descriptor(), POLLIN, 0},
                                  pollfd{ended_[0], POLLIN, 0}};
      while (::poll(ready.data(), ready.size(), -1) < 0 && errno == EINTR) {
      }
      server.stop();
    });
  }
  stopper(const stopper&) = delete;
  stopper& operator=(const stopper&) = delete;
  ~stopper() {
    ::close(ended_[1]);
    watch_.join();
    ::close(ended_[0]);
  }

 private:
  std::array<int, 2> ended_{};
  std::jthread watch_;
};

}  // namespace

bool is_loopback(const std::string& address) {
  return address == "localhost" || address == "127.0.0.1" || address == "::1" || address == "[::1]";
}

void serve_http(agents& served, const http_options& how) {
  httplib::Server server;
  constexpr std::size_t most_bytes = std::size_t{1} << 20U;
  server.set_payload_max_length(most_bytes);
  server.set_read_timeout(static_cast<time_t>(how.timeout_s));
  server.set_write_timeout(static_cast<time_t>(how.timeout_s));
  // One request a connection: after a refusal a second one could hide in the body of the first, which was not read.
  server.set_keep_alive_max_count(1);
  server.new_task_queue = [threads = how.threads] {
    return new httplib::ThreadPool(static_cast<std::size_t>(threads));
  };
  // The library's own choice lets a second server share the port, and take half of the requests.
  server.set_socket_options([](socket_t descriptor) {
    const int yes = 1;
    (void)::setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  const bool only_loopback = is_loopback(how.address);
  server.set_pre_routing_handler([&served, only_loopback](const Request& request, Response& response) {
    return guard(request, response, served, only_loopback);
  });
  add_routes(server, served);
  const int port = how.port == 0                                                  ? server.bind_to_any_port(how.address)
                   : server.bind_to_port(how.address, static_cast<int>(how.port)) ? static_cast<int>(how.port)
                                                                                  : -1;
  expect<io_error>(port > 0, "serve: cannot listen at ", how.address, ", port ", how.port,
                   "; another program may have it");
  const bool literal = how.address.find(':') != std::string::npos;
  output out;
  out.write(message("http://", literal ? "[" : "", how.address, literal ? "]" : "", ":", port, "\n"));
  out.flush();
  {
    const stopper on_signal(server);
    server.listen_after_bind();
  }
  interrupts::instance().check();
}

}  // namespace runnel::cli

#else

namespace runnel::cli {

bool is_loopback(const std::string& address) { return address == "127.0.0.1"; }

void serve_http(agents&, const http_options&) {
  throw config_error("serve: this program was built without cpp-httplib (Debian: libcpp-httplib-dev)");
}

}  // namespace runnel::cli

#endif
