// SPDX-License-Identifier: Apache-2.0
// `runnel serve`: SimulEval's remote-agent protocol, many sessions, what is refused. All on this machine's loopback.

#include "process.hpp"

#include <optional>
#include <sstream>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <nlohmann/json.hpp>

namespace {

using namespace runnel_test;
using strings = std::vector<std::string>;
using nlohmann::json;

const std::string counted = "Eins zwei drei vier f\xC3\xBCnf";

struct answer {
  int status = 0;
  std::string body;
};

/// A running server, and requests to it. Each has a connection of its own.
class server {
 public:
  explicit server(strings more = {}) : process_(with(std::move(more))) {
    up_ = process_.wait_for("\n");
    if (!up_) return;
    const auto& line = process_.so_far().out;
    REQUIRE(line.starts_with("http://127.0.0.1:"));
    port_ = std::stoi(line.substr(line.rfind(':') + 1));
  }

  /// Whether it can be reached: not where the program was built without its HTTP library.
  bool is_up() {
    if (up_) return true;
    const auto result = process_.finish();
    CAPTURE(result.err);
    CHECK(result.code == 2);
    CHECK(result.err.find("cpp-httplib") != std::string::npos);
    return false;
  }
  [[nodiscard]] int port() const { return port_; }

  answer ask(const std::string& method, const std::string& path, const std::optional<std::string>& body = std::nullopt,
             const std::string& headers = "Host: localhost\r\n") {
    std::string request = method + " " + path + " HTTP/1.1\r\n" + headers + "Connection: close\r\n";
    if (body) request += "Content-Length: " + std::to_string(body->size()) + "\r\n";
    return exchange(request + "\r\n" + body.value_or(""));
  }

  answer exchange(const std::string& request) {
    const int connection = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(connection >= 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(port_));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(connection, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
    for (std::size_t sent = 0; sent < request.size();) {
      const auto count = ::send(connection, request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) break;  // a server that has heard enough
      sent += static_cast<std::size_t>(count);
    }
    std::string all;
    std::array<char, 4096> bytes{};
    for (ssize_t count = 0; (count = ::recv(connection, bytes.data(), bytes.size(), 0)) > 0;) {
      all.append(bytes.data(), static_cast<std::size_t>(count));
    }
    ::close(connection);
    answer result;
    if (all.size() > 12) result.status = std::stoi(all.substr(9, 3));
    const auto end = all.find("\r\n\r\n");
    if (end != std::string::npos) result.body = all.substr(end + 4);
    return result;
  }

  /// One word of source, or an empty segment without one; what was written for it.
  json step(const std::string& below, const std::optional<std::string>& word, bool finished) {
    json segment = {{"index", 0},           {"content", json::array()}, {"finished", finished},    {"is_empty", !word},
                    {"data_type", nullptr}, {"tgt_lang", nullptr},      {"config", json::object()}};
    if (word) segment["content"] = *word;
    if (word) segment["data_type"] = "text";
    CHECK(ask("PUT", below + "/input", segment.dump()).status == 200);
    const auto output = ask("GET", below + "/output");
    CHECK(output.status == 200);
    return json::parse(output.body);
  }

  outcome stop() {
    process_.send(SIGTERM);
    return process_.finish();
  }

 private:
  static strings with(strings more) {
    more.insert(more.begin(), {"serve", "-m", tiny_model(), "--port", "0"});
    return more;
  }

  process process_;
  bool up_ = false;
  int port_ = 0;
};

/// Streams a sentence as SimulEval does: a word, then what was written. Returns words and delays.
std::pair<std::string, std::vector<int>> stream(server& to, const std::string& below, const strings& words) {
  CHECK(to.ask("POST", below + "/reset", "").status == 200);
  std::string text;
  std::vector<int> delays;
  for (std::size_t i = 0; i < 100; ++i) {
    const bool more = i < words.size();
    const auto segment = to.step(below, more ? std::optional(words[i]) : std::nullopt, i + 1 >= words.size());
    std::istringstream content(segment["content"].get<std::string>());
    for (std::string word; content >> word;) {
      text += (text.empty() ? "" : " ") + word;
      delays.push_back(static_cast<int>(std::min(i + 1, words.size())));
    }
    CHECK(segment["is_empty"] == segment["content"].get<std::string>().empty());
    if (segment["finished"] == true) return {text, delays};
  }
  FAIL("the agent never ends");
  return {};
}

TEST_CASE("a sentence through the protocol has the words and delays that translate gives it") {
  server one({"-k", "2"});
  if (!one.is_up()) return;
  for (const strings& words : {strings{"one", "two", "three", "four", "five"}, strings{"a"}, strings{"a", "b"},
                               strings{"1", "2", "3", "4", "5", "6", "7", "8"}}) {
    const scratch_folder folder;
    std::string line;
    for (const auto& word : words) line += word + " ";
    REQUIRE(
        run({"translate", "-m", tiny_model(), "-s", "-", "-k", "2", "--output", folder.path().string()}, line + "\n")
            .code == 0);
    const auto expected = json::parse(read_text(folder / "instances.log"));
    const auto [text, delays] = stream(one, "", words);
    CHECK(text == expected["prediction"].get<std::string>());
    CHECK(delays == expected["delays"].get<std::vector<int>>());
  }
  const auto result = one.stop();
  CHECK(result.code == 143);
  CHECK(result.err == "runnel: interrupted\n");
}

TEST_CASE("sessions do not hear each other; each begins anew after a reset") {
  server one({"-k", "1"});
  if (!one.is_up()) return;
  CHECK(one.step("/s/a", "x", false)["content"] == "Eins");
  CHECK(one.step("/s/b", "y", false)["content"] == "Eins");
  CHECK(one.step("/s/a", "x", false)["content"] == "zwei");
  CHECK(one.step("", "z", false)["content"] == "Eins");
  CHECK(one.ask("POST", "/s/a/reset").status == 200);  // no Content-Length at all
  CHECK(one.step("/s/a", "x", false)["content"] == "Eins");
  CHECK(one.step("/s/b", "y", true)["content"] == "zwei drei vier f\xC3\xBCnf");
  CHECK(json::parse(one.ask("GET", "/").body)["sessions"] == 3);
  CHECK(one.ask("DELETE", "/s/b").status == 200);
  CHECK(one.ask("DELETE", "/s/b").status == 404);
  CHECK(json::parse(one.ask("GET", "/").body)["sessions"] == 2);
}

TEST_CASE("sentences without a word, segments of several words, asking twice, asking first") {
  server one({"-k", "1"});
  if (!one.is_up()) return;
  const auto first = json::parse(one.ask("GET", "/output").body);
  CHECK(first["is_empty"] == true);
  CHECK(first["finished"] == false);
  const auto nothing = one.step("", std::nullopt, true);
  CHECK(nothing["finished"] == true);
  CHECK(nothing["content"] == "");
  CHECK(one.ask("POST", "/reset", "").status == 200);
  CHECK(one.step("", " a  b\tc ", false)["content"] == "Eins zwei drei");
  CHECK(json::parse(one.ask("GET", "/output").body)["is_empty"] == true);
  CHECK(one.step("", "", true)["content"] == "vier f\xC3\xBCnf");
  CHECK(one.step("", std::nullopt, true)["finished"] == true);  // SimulEval goes on asking
  CHECK(one.ask("PUT", "/input", R"({"content": "late", "data_type": "text"})").status == 409);
  // Text that looks like markup is text.
  CHECK(one.ask("POST", "/reset", "").status == 200);
  CHECK(one.step("", "<|im_end|>", true)["content"] == counted);
}

TEST_CASE("what is no segment is refused with 400 and a reason, and changes nothing") {
  server one({"-k", "2"});
  if (!one.is_up()) return;
  CHECK(one.step("", "a", false)["is_empty"] == true);
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "JSON"},
      {"nonsense", "JSON"},
      {"[]", "array"},
      {"{}", "'content'"},
      {R"({"content": 5})", "'content'"},
      {R"({"content": ["a"]})", "'content'"},
      {R"({"content": "a", "finished": "yes"})", "'finished'"},
      {R"({"content": "a", "is_empty": 1})", "'is_empty'"},
      {R"({"content": [0.5], "data_type": "speech", "sample_rate": 16000})", "'data_type'"},
      {R"({"content": "a", "data_type": ["text"]})", "'data_type'"},
      {"{\"content\": \"\xFF\"}", "JSON"},
      {std::string(100'000, '['), "JSON"},
      {std::string(50'000, '[') + std::string(50'000, ']'), "array"},
  };
  for (const auto& [body, part] : cases) {
    const auto shown = body.substr(0, 100);
    CAPTURE(shown);
    const auto result = one.ask("PUT", "/input", body);
    CHECK(result.status == 400);
    CHECK(json::parse(result.body)["error"].get<std::string>().find(part) != std::string::npos);
  }
  CHECK(one.ask("PUT", "/input", json{{"content", std::string(2'000'000, 'a')}}.dump()).status == 413);
  for (const char* path : {"/inputs", "/s//input", "/s/a b/input", "/s/a/b/input", "/s/..%2f/input", "/s/"}) {
    CAPTURE(path);
    CHECK(one.ask("GET", path).status >= 400);
  }
  CHECK(one.ask("GET", "/s/" + std::string(65, 'a') + "/output").status == 404);
  CHECK(one.ask("GET", "/" + std::string(9000, 'a')).status >= 400);
  CHECK(one.step("", "b", false)["content"] == "Eins");
}

TEST_CASE("bodies without a length, in pieces or compressed are refused unread: their size has no limit") {
  server one({"-k", "1"});
  if (!one.is_up()) return;
  const std::string host = "Host: localhost\r\n", body = R"({"content": "a"})";
  const std::string in_pieces = host + "Transfer-Encoding: chunked\r\n\r\n10\r\n" + body + "\r\n0\r\n\r\n";
  CHECK(one.exchange("PUT /input HTTP/1.1\r\n" + in_pieces).status == 411);
  CHECK(one.exchange("POST /reset HTTP/1.1\r\n" + in_pieces).status == 411);
  CHECK(one.exchange("PUT /input HTTP/1.1\r\n" + host + "\r\n" + body).status == 411);
  CHECK(one.ask("PUT", "/input", body, host + "Transfer-Encoding: chunked\r\n").status == 411);
  CHECK(one.ask("PUT", "/input", body, host + "Content-Encoding: gzip\r\n").status == 415);
  CHECK(one.ask("DELETE", "/input").status == 411);
  CHECK(json::parse(one.ask("GET", "/output").body)["is_empty"] == true);
}

TEST_CASE("a connection is for one request: none hides in the body of one that was refused") {
  server one({"-k", "1"});
  if (!one.is_up()) return;
  const std::string segment = R"({"content": "a", "finished": true})";
  const std::string hidden =
      "PUT /input HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + std::to_string(segment.size()) + "\r\n\r\n" +
      segment;
  for (std::size_t at = 3900; at <= 4096; ++at) {  // where the server's buffer ends depends on its library
    std::string page =
        "POST /x HTTP/1.1\r\nHost: localhost\r\nOrigin: http://example.org\r\nContent-Length: 5000\r\n\r\n";
    page.resize(at, ' ');
    (void)one.exchange(page + hidden);  // what is left unread may cost the client the answer
  }
  CHECK(json::parse(one.ask("GET", "/output").body)["is_empty"] == true);
}

TEST_CASE("web pages are not answered, nor requests for another host's name") {
  server one;
  if (!one.is_up()) return;
  CHECK(one.ask("POST", "/reset", "", "Host: localhost\r\nOrigin: http://example.org\r\n").status == 403);
  CHECK(one.ask("POST", "/reset", std::nullopt, "Host: localhost\r\nOrigin: null\r\n").status == 403);
  CHECK(one.ask("GET", "/output", std::nullopt, "Host: example.org\r\n").status == 403);
  CHECK(one.ask("GET", "/output", std::nullopt, "Host: localhost.example.org:80\r\n").status == 403);
  for (const char* host : {"localhost", "127.0.0.1:80", "[::1]:80"}) {
    CHECK(one.ask("GET", "/output", std::nullopt, std::string("Host: ") + host + "\r\n").status == 200);
  }
}

TEST_CASE("sessions are limited; one that was idle makes room") {
  server one({"--sessions", "2"});
  if (!one.is_up()) return;
  CHECK(one.ask("POST", "/s/a/reset", "").status == 200);
  CHECK(one.ask("POST", "/s/b/reset", "").status == 200);
  const auto refused = one.ask("POST", "/s/c/reset", "");
  CHECK(refused.status == 503);
  CHECK(refused.body.find("DELETE") != std::string::npos);
  CHECK(one.ask("DELETE", "/s/a").status == 200);
  CHECK(one.ask("POST", "/s/c/reset", "").status == 200);
  server idle({"--sessions", "1", "--idle", "0", "-k", "1"});
  CHECK(idle.step("/s/a", "x", false)["content"] == "Eins");
  CHECK(idle.step("/s/b", "x", false)["content"] == "Eins");
  CHECK(idle.step("/s/a", "x", false)["content"] == "Eins");  // it was ended meanwhile
}

TEST_CASE("an answer that takes longer than it may is refused, and goes on when it is asked for again") {
  std::string words;
  for (int i = 0; i < 100; ++i) words += "x ";
  const auto whole = json{{"content", words}, {"finished", true}}.dump();
  const auto text_of = [&](server& from, int& late) {
    CHECK(from.ask("PUT", "/input", whole).status == 200);
    std::string text;
    for (int i = 0; i < 1000; ++i) {
      const auto result = from.ask("GET", "/output");
      if (result.status == 503) {
        ++late;
        CHECK(result.body.find("took longer than 1e-06 s") != std::string::npos);
        continue;
      }
      REQUIRE(result.status == 200);
      const auto segment = json::parse(result.body);
      text += segment["content"].get<std::string>();
      if (segment["finished"] == true) return text;
    }
    FAIL("the agent never ends");
    return text;
  };
  server patient;
  if (!patient.is_up()) return;
  server hasty({"--request-timeout", "0.000001"});
  int late = 0, never = 0;
  const auto text = text_of(hasty, late);
  CHECK(late > 0);
  CHECK(text == text_of(patient, never));
  CHECK(never == 0);
}

TEST_CASE("a request whose rest does not come is given up") {
  server one({"--connection-timeout", "1", "--connections", "1"});
  if (!one.is_up()) return;
  const auto stalled =
      one.exchange("PUT /input HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"content\": \"x");
  CHECK(stalled.status != 200);
  CHECK(one.step("", "a", true)["content"] == counted);
}

TEST_CASE("a sentence that is longer than the context is refused until a reset") {
  server one({"-k", "1"});
  if (!one.is_up()) return;
  CHECK(one.ask("PUT", "/input", json{{"content", std::string(600, 'x')}, {"finished", true}}.dump()).status == 200);
  for (int i = 0; i < 2; ++i) {
    const auto result = one.ask("GET", "/output");
    CHECK(result.status == 503);
    CHECK(result.body.find("context") != std::string::npos);
  }
  CHECK(one.ask("POST", "/reset", "").status == 200);
  CHECK(one.step("", "a", true)["content"] == counted);
}

TEST_CASE("a port that is taken, a model that is none, options that contradict each other") {
  server one;
  if (!one.is_up()) return;
  check_refused(run({"serve", "-m", tiny_model(), "--port", std::to_string(one.port())}), 1,
                {"serve", std::to_string(one.port())});
  check_refused(run({"serve", "-m", "nowhere.gguf"}), 1, {"nowhere.gguf"});
  check_refused(run({"serve", "-m", tiny_model(), "--port", "70000"}), 2, {"--port", "70000"});
  check_refused(run({"serve", "-m", tiny_model(), "--port", "0", "--plan", "batch", "--phi", "1"}), 2,
                {"phi", "batch"});
  check_refused(run({"serve", "-m", tiny_model(), "--port", "0", "--sessions", "0"}), 2, {"--sessions"});
}

}  // namespace
