// UTF-8 as the Unicode standard defines it: no overlong forms, no surrogates, nothing beyond U+10FFFF.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sluice {

// How far a text is valid. `valid` bytes are; where they are not all, `bad` bytes behind them are at fault (what one
// U+FFFD replaces), or, if `incomplete`, begin a character whose end lies beyond the text.
struct Utf8Scan {
  size_t valid = 0, bad = 0;
  bool incomplete = false;
};
Utf8Scan scan_utf8(std::string_view text);

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// U+FEFF before a text says how it is encoded and is no part of it.
inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
inline std::string_view without_byte_order_mark(std::string_view text) {
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  return text;
}

// Bytes of the character that starts with `lead`; 1 for a byte that starts none.
inline size_t utf8_length(char lead) {
  const unsigned char byte = static_cast<unsigned char>(lead);
  return byte < 0xC0 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}
inline bool is_utf8_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// Takes the first character off a valid text, which is not empty.
char32_t take_character(std::string_view& text);
void append_utf8(std::string& text, char32_t character);

// The largest cut <= `at` that splits no character of a valid text.
size_t character_boundary(std::string_view text, size_t at);

}  // namespace sluice
