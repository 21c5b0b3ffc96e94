// See utf8.h. Valid sequences are those of table 3-7 of the Unicode standard: the lead byte limits the second.
#include "base/utf8.h"

#include <cstdint>
#include <cstring>

namespace sluice {
namespace {

struct Lead {
  size_t length;            // 0: no character starts with this byte
  unsigned char low, high;  // of the second byte
};

Lead lead_of(unsigned char byte) {
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte < 0xF0)
    return {3, byte == 0xE0 ? uint8_t(0xA0) : uint8_t(0x80), byte == 0xED ? uint8_t(0x9F) : uint8_t(0xBF)};
  if (byte < 0xF5)
    return {4, byte == 0xF0 ? uint8_t(0x90) : uint8_t(0x80), byte == 0xF4 ? uint8_t(0x8F) : uint8_t(0xBF)};
  return {0, 0, 0};
}

}  // namespace

Utf8Scan scan_utf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    uint64_t eight = 0;
    if (at + 8 <= text.size() && (std::memcpy(&eight, text.data() + at, 8), (eight & 0x8080808080808080u) == 0)) {
      at += 8;
      continue;
    }
    const unsigned char first = static_cast<unsigned char>(text[at]);
    if (first < 0x80) {
      ++at;
      continue;
    }
    const Lead lead = lead_of(first);
    if (lead.length == 0) return {at, 1, false};
    for (size_t i = 1; i < lead.length; ++i) {
      if (at + i == text.size()) return {at, i, true};
      const unsigned char byte = static_cast<unsigned char>(text[at + i]);
      if (byte < (i == 1 ? lead.low : 0x80) || byte > (i == 1 ? lead.high : 0xBF)) return {at, i, false};
    }
    at += lead.length;
  }
  return {at, 0, false};
}

char32_t take_character(std::string_view& text) {
  const size_t length = utf8_length(text[0]);
  const auto byte = [&](size_t i) { return char32_t(static_cast<unsigned char>(text[i])); };
  char32_t character = byte(0);
  if (length > 1) character &= 0xFFu >> (length + 1);
  for (size_t i = 1; i < length; ++i) character = character << 6 | (byte(i) & 0x3F);
  text.remove_prefix(length);
  return character;
}

void append_utf8(std::string& text, char32_t character) {
  const auto rest = [&](int shift) { text += char(0x80 | (character >> shift & 0x3F)); };
  if (character < 0x80) {
    text += char(character);
  } else if (character < 0x800) {
    text += char(0xC0 | character >> 6);
    rest(0);
  } else if (character < 0x10000) {
    text += char(0xE0 | character >> 12);
    rest(6), rest(0);
  } else {
    text += char(0xF0 | character >> 18);
    rest(12), rest(6), rest(0);
  }
}

size_t character_boundary(std::string_view text, size_t at) {
  if (at >= text.size()) return text.size();
  while (at > 0 && is_utf8_continuation(text[at])) --at;
  return at;
}

}  // namespace sluice
