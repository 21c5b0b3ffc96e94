#include "data/tokenizers/token_text.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/utf8.h"

namespace sluice {

namespace {

bool is_control(char byte) { return static_cast<unsigned char>(byte) < 0x20 || byte == 0x7f; }

void append_visible(std::string& text, char byte) {
  if (byte == '\n') text += "\u21b5";
  else if (byte == ' ') text += "\u2423";
  else if (byte == '\t') text += "\u21e5";
  else text += fmt::format("x{:02x}", static_cast<unsigned char>(byte));
}

}  // namespace

std::string visible_text(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const Utf8Scan scan = scan_utf8(bytes);
    for (const char byte : bytes.substr(0, scan.valid)) {
      if (byte == ' ' || is_control(byte)) append_visible(text, byte);
      else text += byte;
    }
    const size_t bad = scan.incomplete ? bytes.size() - scan.valid : scan.bad;
    for (const char byte : bytes.substr(scan.valid, bad)) append_visible(text, byte);
    bytes.remove_prefix(scan.valid + bad);
  }
  return text.empty() ? "\u2205" : text;
}

}  // namespace sluice
