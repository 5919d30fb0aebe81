// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "agent.hpp"

namespace runnel::cli {

/// Where agents are reached.
struct http_options {
  std::string address = "127.0.0.1";
  std::int64_t port = 12321;   ///< SimulEval's; 0: any that is free
  std::int64_t threads = 4;    ///< connections at a time
  std::int64_t timeout_s = 5;  ///< for each read and write of a connection
};

/// Whether an address is this machine's own loopback.
[[nodiscard]] bool is_loopback(const std::string& address);

/// Answers SimulEval's remote-agent protocol until a signal comes, then throws cancelled_error; writes its address on
/// standard output when it can be reached. Requests of web pages (with an Origin) are refused, and on loopback those
/// for another host's name. Throws io_error if the address cannot be had, config_error where the program was built
/// without cpp-httplib.
void serve_http(agents& served, const http_options& how);

}  // namespace runnel::cli
