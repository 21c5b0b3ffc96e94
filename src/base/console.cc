// What a terminal must not be given, how wide text is there, and writing that may fail (console.h).
#include "base/console.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/utf8.h"

namespace sluice {
namespace {

constexpr int kPatience = 1000;  // milliseconds for a descriptor that does not block to take more
constexpr std::string_view kEllipsis = "…";

struct Range {
  char32_t first, last;
};

template <size_t N>
bool in_one_of(const Range (&ranges)[N], char32_t character) {
  for (const Range& range : ranges) {
    if (character >= range.first && character <= range.last) return true;
  }
  return false;
}

// Unicode's control characters, line and paragraph separators, and what changes the direction of writing.
bool is_harmful(char32_t c) {
  constexpr Range kRanges[] = {{0x00, 0x1F},     {0x7F, 0x9F},     {0x061C, 0x061C}, {0x200E, 0x200F},
                               {0x2028, 0x202E}, {0x2066, 0x2069}, {0xFFF9, 0xFFFB}, {0xE0000, 0xE007F}};
  return in_one_of(kRanges, c);
}

size_t width_of(char32_t c) {
  constexpr Range kNone[] = {{0x0300, 0x036F}, {0x0483, 0x0489}, {0x0591, 0x05BD}, {0x064B, 0x065F},
                             {0x0E34, 0x0E3A}, {0x1AB0, 0x1AFF}, {0x1DC0, 0x1DFF}, {0x200B, 0x200D},
                             {0x20D0, 0x20FF}, {0xFE00, 0xFE0F}, {0xFE20, 0xFE2F}, {0xFEFF, 0xFEFF}};
  constexpr Range kTwo[] = {{0x1100, 0x115F},  {0x2E80, 0x303E},   {0x3041, 0xA4CF},   {0xA960, 0xA97C},
                            {0xAC00, 0xD7A3},  {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},   {0xFF00, 0xFF60},
                            {0xFFE0, 0xFFE6},  {0x1F300, 0x1F64F}, {0x1F680, 0x1F6FF}, {0x1F900, 0x1FAFF},
                            {0x20000, 0x3FFFD}};
  return in_one_of(kNone, c) ? 0 : in_one_of(kTwo, c) ? 2 : 1;
}

std::string spelled_out(char32_t c) {
  switch (c) {
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    default: return c < 0x80 ? fmt::format("\\x{:02x}", uint32_t(c)) : fmt::format("\\u{:04x}", uint32_t(c));
  }
}

// Calls use(character, its bytes) for each character; a byte that is no UTF-8 comes with the replacement character.
template <class Use>
void for_each_character(std::string_view text, const Use& use) {
  while (!text.empty()) {
    const Utf8Scan scan = scan_utf8(text);
    std::string_view valid = text.substr(0, scan.valid);
    while (!valid.empty()) {
      const std::string_view rest = valid;
      const char32_t character = take_character(valid);
      use(character, rest.substr(0, rest.size() - valid.size()));
    }
    text.remove_prefix(scan.valid);
    if (text.empty()) return;
    use(char32_t(0xFFFD), text.substr(0, 1));
    text.remove_prefix(1);
  }
}

}  // namespace

void open_closed_streams() {
  for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; ++descriptor) {
    if (fcntl(descriptor, F_GETFD) >= 0 || errno != EBADF) continue;
    // The lowest free number is this one. The wrong way round, so that using it fails as it should.
    const int opened = open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    if (opened >= 0 && opened != descriptor) close(opened);
  }
}

std::string harmless(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for_each_character(text, [&](char32_t character, std::string_view bytes) {
    const bool whole = character != 0xFFFD || bytes == kReplacementCharacter;
    if (!whole) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(bytes[0]));
    else if (is_harmful(character)) out += spelled_out(character);
    else out += bytes;
  });
  return out;
}

std::string harmless_lines(std::string_view text) {
  std::string out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    out += harmless(text.substr(begin, end - begin));
    if (end < text.size()) out += '\n';
    begin = end + 1;
  }
  return out;
}

size_t display_width(std::string_view text) {
  size_t width = 0;
  for_each_character(text, [&](char32_t character, std::string_view) { width += width_of(character); });
  return width;
}

std::string fitted(std::string_view text, size_t columns) {
  if (display_width(text) <= columns) return std::string(text);
  if (columns == 0) return "";
  std::string out;
  size_t width = 0;
  bool full = false;
  for_each_character(text, [&](char32_t character, std::string_view bytes) {
    full = full || width + width_of(character) > columns - 1;
    if (full) return;
    width += width_of(character);
    out += bytes;
  });
  return out.append(kEllipsis);
}

size_t terminal_width(int descriptor) {
  if (!isatty(descriptor)) return 0;
  winsize size{};
  size_t width = ioctl(descriptor, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
  if (const char* text = std::getenv("COLUMNS")) {
    size_t columns = 0;
    const auto [end, error] = std::from_chars(text, text + std::strlen(text), columns);
    if (error == std::errc() && *end == '\0' && columns > 0 && (width == 0 || columns < width)) width = columns;
  }
  return width == 0 ? 80 : width;
}

void put_on_console(int descriptor, std::string_view text) noexcept {
  std::fflush(stdout);
  while (!text.empty()) {
    const ssize_t written = write(descriptor, text.data(), text.size());
    if (written > 0) {
      text.remove_prefix(size_t(written));
      continue;
    }
    if (written < 0 && errno == EINTR) continue;
    pollfd waits{descriptor, POLLOUT, 0};
    if (written == 0 || errno != EAGAIN || poll(&waits, 1, kPatience) <= 0) return;
  }
}

void tell_line(const std::string& line) noexcept {
  try {
    put_on_console(STDERR_FILENO, harmless(line) + "\n");
  } catch (const std::exception&) {  // no memory for a copy
    put_on_console(STDERR_FILENO, "out of memory\n");
  }
}

std::vector<std::string>& command_words() {
  static std::vector<std::string> words;
  return words;
}

std::string shell_word(const std::string& word) {
  const auto is_plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || std::strchr("_@%+=:,./-", c);
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), is_plain)) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

void show_live_line(int descriptor, std::string_view line) noexcept {
  try {
    const size_t width = terminal_width(descriptor);
    // The last column stays free: some terminals go to the next line once it is written to.
    if (width > 0) put_on_console(descriptor, "\r" + fitted(harmless(line), width - 1) + "\x1b[K");
  } catch (const std::exception&) {  // a line less
  }
}

void clear_live_line(int descriptor) noexcept {
  if (isatty(descriptor)) put_on_console(descriptor, "\r\x1b[K");
}

}  // namespace sluice
