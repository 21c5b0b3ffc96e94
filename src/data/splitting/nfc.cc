// The tables of the library `tokenizers` are those of Unicode 9: marks that came later are neither sorted nor composed.
// So a text is normalized in the parts between such marks.
#include "data/splitting/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <vector>

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

int class_of_mark(utf8proc_int32_t character) { return utf8proc_get_property(character)->combining_class; }

// Marks that stand beside each other by their classes. utf8proc does this as well, in a time that grows with the square
// of their number.
void order_marks(std::vector<utf8proc_int32_t>& characters) {
  const auto is_mark = [](utf8proc_int32_t character) { return class_of_mark(character) > 0; };
  for (auto begin = characters.begin(); begin != characters.end();) {
    begin = std::find_if(begin, characters.end(), is_mark);
    const auto end = std::find_if_not(begin, characters.end(), is_mark);
    std::stable_sort(begin, end, [](auto left, auto right) { return class_of_mark(left) < class_of_mark(right); });
    begin = end;
  }
}

// `form`: UTF8PROC_COMPOSE or UTF8PROC_DECOMPOSE.
void append_form(utf8proc_option_t form, std::string_view text, std::string& out) {
  const auto options = utf8proc_option_t(UTF8PROC_STABLE | form);
  const auto checked = [&](utf8proc_ssize_t length) {
    if (length >= 0) return size_t(length);
    throw UserError("a text cannot be normalized to {}: {}", form == UTF8PROC_COMPOSE ? "NFC" : "NFD",
                    utf8proc_errmsg(length));
  };
  std::vector<utf8proc_int32_t> characters;
  characters.reserve(text.size());
  while (!text.empty()) {
    std::array<utf8proc_int32_t, 32> parts;  // no character is made of more than 4
    int ignored = 0;
    const size_t count = checked(utf8proc_decompose_char(utf8proc_int32_t(take_character(text)), parts.data(),
                                                         utf8proc_ssize_t(parts.size()), options, &ignored));
    check(count <= parts.size(), "a character of so many parts");
    characters.insert(characters.end(), parts.begin(), parts.begin() + std::ptrdiff_t(count));
  }
  order_marks(characters);
  if (form == UTF8PROC_COMPOSE)
    characters.resize(
        checked(utf8proc_normalize_utf32(characters.data(), utf8proc_ssize_t(characters.size()), options)));
  for (const utf8proc_int32_t character : characters) append_utf8(out, char32_t(character));
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
