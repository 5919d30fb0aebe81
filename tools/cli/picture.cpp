// SPDX-License-Identifier: Apache-2.0

#include "picture.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <runnel/unicode/utf8.hpp>

#include "console.hpp"

namespace runnel::cli {

namespace {

constexpr const char* program = "gnuplot";
constexpr double patience_seconds = 30;
constexpr std::size_t most_output = std::size_t{256} << 20U;

/// A file descriptor that is closed in the end.
class descriptor {
 public:
  descriptor() = default;
  explicit descriptor(int number) : number_(number) {}
  descriptor(descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~descriptor() { close(); }

  [[nodiscard]] int get() const noexcept { return number_; }
  [[nodiscard]] bool open() const noexcept { return number_ >= 0; }
  void close() noexcept {
    if (open()) ::close(std::exchange(number_, -1));
  }

 private:
  int number_ = -1;
};

struct tube {
  descriptor out, in;
};

tube make_tube() {
  std::array<int, 2> ends{};
  expect<picture_error>(::pipe(ends.data()) == 0, program, ": ", std::strerror(errno));
  for (const int end : ends) ::fcntl(end, F_SETFD, FD_CLOEXEC);
  return {descriptor(ends[0]), descriptor(ends[1])};
}

/// The program while it runs; killed if it still does in the end.
class child {
 public:
  child() {
    tube input = make_tube(), output = make_tube(), errors = make_tube();
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    ::posix_spawn_file_actions_adddup2(&actions, input.out.get(), STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, output.in.get(), STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, errors.in.get(), STDERR_FILENO);
    // A group of its own: Ctrl-C is ours to answer. SIGPIPE is ignored here and should not be there.
    sigset_t none, broken_pipe;
    sigemptyset(&none);
    sigemptyset(&broken_pipe);
    sigaddset(&broken_pipe, SIGPIPE);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &broken_pipe);
    ::posix_spawnattr_setpgroup(&attributes, 0);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    std::string name = program, defaults = "-d";
    std::array<char*, 3> arguments{name.data(), defaults.data(), nullptr};
    const int problem = ::posix_spawnp(&id_, program, &actions, &attributes, arguments.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
    if (problem != 0) {
      id_ = -1;
      fail<picture_error>("the program ", program,
                          ", which draws the pictures, cannot be run: ", std::strerror(problem),
                          "; Debian's package gnuplot-nox has it (tools/setup installs it)");
    }
    input_ = std::move(input.in);
    output_ = std::move(output.out);
    errors_ = std::move(errors.out);
    ::fcntl(input_.get(), F_SETFL, O_NONBLOCK);
  }
  child(const child&) = delete;
  child& operator=(const child&) = delete;
  ~child() {
    if (id_ < 0) return;
    ::kill(-id_, SIGKILL);
    ::waitpid(id_, nullptr, 0);
  }

  /// Hands over the script and takes what comes, until both of its outputs are closed.
  void talk(std::string_view script, const std::stop_token& stop) {
    while (output_.open() || errors_.open()) {
      be_patient(stop);
      std::array<pollfd, 3> ready{pollfd{input_.get(), POLLOUT, 0}, pollfd{output_.get(), POLLIN, 0},
                                  pollfd{errors_.get(), POLLIN, 0}};
      constexpr int moment_ms = 100;
      if (::poll(ready.data(), ready.size(), moment_ms) <= 0) continue;
      if (ready[0].revents != 0) give(script);
      if (ready[1].revents != 0) take(output_, text_, most_output);
      if (ready[2].revents != 0) take(errors_, complaints_, std::size_t{1} << 16U);
    }
  }

  /// What it wrote, once it has ended well.
  [[nodiscard]] std::string result(const std::stop_token& stop) {
    int status = 0;
    while (::waitpid(id_, &status, WNOHANG) == 0) {
      be_patient(stop);
      (void)::poll(nullptr, 0, 2);
    }
    id_ = -1;
    const bool well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    expect<picture_error>(well, program, " failed", complaints_.empty() ? "" : ": ",
                          shortened(printable(complaints_), 300));
    return std::move(text_);
  }

 private:
  void be_patient(const std::stop_token& stop) const {
    expect<cancelled_error>(!stop.stop_requested(), "stopped by the caller");
    expect<picture_error>(seconds_now() < give_up_, program, " did not end in ", patience_seconds,
                          " seconds and was killed");
  }

  void give(std::string_view& script) {
    const auto count = script.empty() ? 0 : ::write(input_.get(), script.data(), script.size());
    if (count > 0) script.remove_prefix(static_cast<std::size_t>(count));
    const bool later = count < 0 && (errno == EAGAIN || errno == EINTR);
    if (script.empty() || (count < 0 && !later)) input_.close();
  }

  static void take(descriptor& from, std::string& to, std::size_t most) {
    std::array<char, 65536> bytes;
    const auto count = ::read(from.get(), bytes.data(), bytes.size());
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (count <= 0) {
      from.close();
    } else {
      to.append(bytes.data(), std::min(static_cast<std::size_t>(count), most - std::min(most, to.size())));
    }
  }

  pid_t id_ = -1;
  double give_up_ = seconds_now() + patience_seconds;
  descriptor input_, output_, errors_;
  std::string text_, complaints_;
};

std::string in_hex(std::uint32_t color) {
  constexpr const char* digits = "0123456789abcdef";
  std::string out = "#";
  for (int shift = 20; shift >= 0; shift -= 4) out += digits[(color >> static_cast<unsigned>(shift)) & 15U];
  return out;
}

/// Replaces the first `from ... to` by `by`, if there is one.
void replace_between(std::string& text, std::string_view from, std::string_view to, std::string_view by) {
  const auto begin = text.find(from);
  if (begin == std::string::npos) return;
  const auto end = text.find(to, begin);
  if (end != std::string::npos) text.replace(begin, end + to.size() - begin, by);
}

/// Escapes what gnuplot leaves as it is in texts: XML forbids "]]>" there.
void escape_ends(std::string& svg) {
  constexpr std::string_view begin = "<text>", end = "</text>";
  for (auto at = svg.find(begin); at != std::string::npos; at = svg.find(begin, at)) {
    at += begin.size();
    for (auto stop = svg.find(end, at); stop != std::string::npos; stop = svg.find(end, at)) {
      at = svg.find('>', at);
      if (at > stop) break;
      svg.replace(at, 1, "&gt;");
    }
  }
}

/// A block of data with a name, as scripts have it.
std::string block(const char* name, const std::string& rows) { return message('$', name, " << END\n", rows, "END\n"); }

std::string corners(const canvas::rectangle& r) {
  return message((r.left + r.right) / 2, ' ', (r.top + r.bottom) / 2, ' ', r.left, ' ', r.right, ' ', r.top, ' ',
                 r.bottom);
}

}  // namespace

std::string run_gnuplot(std::string_view script, const std::stop_token& stop) {
  child running;
  running.talk(script, stop);
  return running.result(stop);
}

std::string quoted_for_gnuplot(std::string_view text) {
  // Single quotes quote all but themselves; pieces are put together by ".".
  std::string out;
  bool open = false;
  const auto piece = [&](bool inside, std::string_view bytes) {
    if (open != inside && open) out += '\'';
    if (!out.empty() && !(open && inside)) out += '.';
    if (!open && inside) out += '\'';
    open = inside;
    out += bytes;
  };
  unicode::for_each_code_point(printable(text), [&](const unicode::code_point_step& step, std::string_view bytes) {
    const bool is_character = step.code_point >= 0x10000 || (step.code_point & 0xFFFEU) != 0xFFFEU;
    if (step.code_point == U'\'') {
      piece(false, "\"'\"");
    } else {
      piece(true, is_character ? bytes : "\xEF\xBF\xBD");
    }
  });
  if (open) out += '\'';
  return out.empty() ? "''" : out;
}

std::string escaped_for_xml(std::string_view text) {
  std::string out;
  for (const char c : printable(text)) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c; break;
    }
  }
  return out;
}

std::string draw_svg(double width, double height, std::string_view title, std::string_view commands,
                     const std::stop_token& stop) {
  std::string svg = run_gnuplot(
      message("set encoding utf8\nset terminal svg size ", width, ',', height,
              " noenhanced fixed font 'sans-serif,12' background '#ffffff'\n", commands, "\nunset output\n"),
      stop);
  svg.erase(0, std::min(svg.find("<svg"), svg.size()));
  while (svg.ends_with('\n')) svg.pop_back();
  expect<picture_error>(svg.starts_with("<svg") && svg.ends_with("</svg>"), program, " wrote no SVG");
  svg += '\n';
  replace_between(svg, "<title>", "</title>", message("<title>", escaped_for_xml(title), "</title>"));
  replace_between(svg, "<desc>", "</desc>\n", "");
  replace_between(svg, "<g id=\"gnuplot_canvas", ">", "<g>");
  replace_between(svg, "<svg", "width", "<svg width");
  escape_ends(svg);
  // The terminal has no word for it.
  constexpr std::string_view bold = "font-family=\"sans-serif:Bold\"";
  for (auto at = svg.find(bold); at != std::string::npos; at = svg.find(bold, at)) {
    svg.replace(at, bold.size(), "font-family=\"sans-serif\" font-weight=\"bold\"");
  }
  return svg;
}

std::string described(std::string svg, std::string_view text) {
  constexpr std::string_view before = "</title>";
  const auto at = svg.find(before);
  if (at != std::string::npos) svg.insert(at + before.size(), message("\n<desc>", escaped_for_xml(text), "</desc>"));
  return svg;
}

double width_of(std::string_view text, double size) {
  double ems = 0;
  unicode::for_each_code_point(text, [&](const unicode::code_point_step& step, std::string_view) {
    const char32_t c = step.code_point;
    const bool wide = (c >= 0x1100 && c < 0x1200) || (c >= 0x2E80 && c < 0xFB00) || c >= 0x1F000;
    const bool thin = std::u32string_view(U"il.,' |").find(c) != std::u32string_view::npos;
    const bool heavy = std::u32string_view(U"mwMW@<>=+%").find(c) != std::u32string_view::npos;
    const bool capital = c >= U'A' && c <= U'Z';
    ems += wide ? 1.1 : thin ? 0.34 : heavy ? 0.88 : capital ? 0.7 : 0.61;
  });
  return ems * size;
}

std::string shortened(std::string_view text, std::size_t most) {
  std::size_t count = 0, kept = 0;
  for (std::size_t at = 0; at < text.size(); ++count) {
    if (count + 1 == most) kept = at;
    at += std::max<std::size_t>(1, unicode::decode(text, at).length);
  }
  return count <= most ? std::string(text) : std::string(text.substr(0, kept)) + "\xE2\x80\xA6";
}

void canvas::box(const rectangle& where, std::uint32_t color) { boxes_ += message(corners(where), ' ', color, '\n'); }

void canvas::cell(const rectangle& where, double value) { cells_ += message(corners(where), ' ', value, '\n'); }

void canvas::line(place from, place to, std::uint32_t color, double width) {
  lines_ += message("set arrow from ", from.x, ',', from.y, " to ", to.x, ',', to.y, " nohead front lw ", width,
                    " lc rgb '", in_hex(color), "'\n");
}

void canvas::disc(place where, std::uint32_t color) { discs_ += message(where.x, ' ', where.y, ' ', color, '\n'); }

void canvas::text(place where, std::string_view what, const ink& how) {
  if (what.empty()) return;
  constexpr std::array<const char*, 3> sides{"left", "center", "right"};
  texts_ += message("set label ", quoted_for_gnuplot(what), " at ", where.x, ',', where.y, ' ',
                    sides[static_cast<std::size_t>(how.where)], how.upward ? " rotate by 90" : "", " front font '",
                    how.bold ? "sans-serif:Bold," : ",", how.size, "' tc rgb '", in_hex(how.color), "'\n");
}

std::string canvas::svg(double width, double height, std::string_view title, const std::stop_token& stop) const {
  std::string script = message(
      "unset key\nunset border\nunset tics\nset lmargin at screen 0\nset rmargin at screen 1\n"
      "set tmargin at screen 1\nset bmargin at screen 0\nset xrange [0:",
      width, "]\nset yrange [", height, ":0]\nset style fill solid noborder\n");
  std::string plots = "NaN notitle";
  if (!boxes_.empty()) {
    script += block("boxes", boxes_);
    plots += ", $boxes using 1:2:3:4:5:6:7 with boxxyerror notitle lc rgb variable";
  }
  if (!cells_.empty()) {
    const auto& bar = scale_.bar;
    script += block("cells", cells_);
    script += message("set palette ", scale_.palette, "\nset cbrange [", scale_.low, ':', scale_.high,
                      "]\nset cbtics font ',10' textcolor rgb '#333333' scale 0\nset colorbox user horizontal origin ",
                      bar.left / width, ',', 1 - bar.bottom / height, " size ", (bar.right - bar.left) / width, ',',
                      (bar.bottom - bar.top) / height, " noborder\n");
    plots += ", $cells using 1:2:3:4:5:6:7 with boxxyerror notitle lc palette";
  } else {
    script += "unset colorbox\n";
  }
  if (!discs_.empty()) {
    script += block("discs", discs_);
    plots += ", $discs using 1:2:3 with points notitle pt 7 ps 0.6 lc rgb variable";
  }
  return draw_svg(width, height, title, script + lines_ + texts_ + "plot " + plots + '\n', stop);
}

}  // namespace runnel::cli
