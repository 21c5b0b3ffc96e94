// The tables of the library `tokenizers` are those of Unicode 9: marks that came later are neither sorted nor composed.
// So a text is normalized in the parts between such marks.
#include "data/splitting/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <new>

#include "base/error.h"
#include "base/utf8.h"

namespace sluice {
namespace {

struct Range {
  char32_t first, last;
};
constexpr Range kLateMarks[] = {
#include "data/splitting/unicode_late_marks.inc"
};

// Characters of Unicode 10 to 16 that are made of others, which those tables do not know either.
constexpr Range kLateComposites[] = {{0x105C9, 0x105C9}, {0x105E4, 0x105E4}, {0x11383, 0x11383}, {0x11385, 0x11385},
                                     {0x1138E, 0x1138E}, {0x11391, 0x11391}, {0x113C5, 0x113C5}, {0x113C7, 0x113C8},
                                     {0x11938, 0x11938}, {0x16121, 0x16128}, {0x16D68, 0x16D6A}};

template <size_t count>
bool is_among(const Range (&ranges)[count], char32_t character) {
  if (character < ranges[0].first) return false;
  const auto* range = std::lower_bound(std::begin(ranges), std::end(ranges), character,
                                       [](const Range& one, char32_t c) { return one.last < c; });
  return range != std::end(ranges) && range->first <= character;
}
bool is_late_mark(char32_t character) { return is_among(kLateMarks, character); }
bool is_late(char32_t character) { return is_late_mark(character) || is_among(kLateComposites, character); }

// `form`: UTF8PROC_COMPOSE or UTF8PROC_DECOMPOSE.
void append_form(utf8proc_option_t form, std::string_view text, std::string& out) {
  if (text.empty()) return;
  utf8proc_uint8_t* composed = nullptr;
  const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                   utf8proc_ssize_t(text.size()), &composed, utf8proc_option_t(UTF8PROC_STABLE | form));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owned(composed, &std::free);
  if (length == UTF8PROC_ERROR_NOMEM) throw std::bad_alloc();
  if (length < 0)
    throw UserError("a text cannot be normalized to {}: {}", form == UTF8PROC_COMPOSE ? "NFC" : "NFD",
                    utf8proc_errmsg(length));
  out.append(reinterpret_cast<const char*>(composed), size_t(length));
}

// In parts between characters that stay as they are.
std::string_view in_parts(utf8proc_option_t form, bool (*stays)(char32_t), std::string_view text, std::string& copy) {
  copy.clear();
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text[at]);
    std::string_view rest = text.substr(at);
    if (length > 1 && stays(take_character(rest))) {
      append_form(form, text.substr(done, at - done), copy);
      copy += text.substr(at, length);
      done = at + length;
    }
    at += length;
  }
  append_form(form, text.substr(done), copy);
  return copy;
}

bool has_byte_from(unsigned char least, std::string_view text) {
  return std::any_of(text.begin(), text.end(), [=](char byte) { return static_cast<unsigned char>(byte) >= least; });
}

}  // namespace

std::string_view nfc(std::string_view text, std::string& copy) {
  // What is before U+0300 is in NFC already, and nothing there composes with what comes behind it.
  return has_byte_from(0xCC, text) ? in_parts(UTF8PROC_COMPOSE, is_late_mark, text, copy) : text;
}

std::string_view nfd(std::string_view text, std::string& copy) {
  // What is before U+00C0 is made of nothing else.
  return has_byte_from(0xC3, text) ? in_parts(UTF8PROC_DECOMPOSE, is_late, text, copy) : text;
}

}  // namespace sluice
