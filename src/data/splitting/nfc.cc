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

bool is_late_mark(char32_t character) {
  if (character < kLateMarks[0].first) return false;
  const auto* range = std::lower_bound(std::begin(kLateMarks), std::end(kLateMarks), character,
                                       [](const Range& one, char32_t c) { return one.last < c; });
  return range != std::end(kLateMarks) && range->first <= character;
}

void append_nfc(std::string_view text, std::string& out) {
  if (text.empty()) return;
  utf8proc_uint8_t* composed = nullptr;
  const auto length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), utf8proc_ssize_t(text.size()), &composed,
                   utf8proc_option_t(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owned(composed, &std::free);
  if (length == UTF8PROC_ERROR_NOMEM) throw std::bad_alloc();
  if (length < 0) throw UserError("a text cannot be normalized to NFC: {}", utf8proc_errmsg(length));
  out.append(reinterpret_cast<const char*>(composed), size_t(length));
}

}  // namespace

std::string_view nfc(std::string_view text, std::string& copy) {
  // What is before U+0300 is in NFC already, and nothing there composes with what comes behind it.
  const auto beyond = [](char byte) { return static_cast<unsigned char>(byte) >= 0xCC; };
  if (std::none_of(text.begin(), text.end(), beyond)) return text;
  copy.clear();
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text[at]);
    std::string_view rest = text.substr(at);
    if (length > 1 && is_late_mark(take_character(rest))) {
      append_nfc(text.substr(done, at - done), copy);
      copy += text.substr(at, length);
      done = at + length;
    }
    at += length;
  }
  append_nfc(text.substr(done), copy);
  return copy;
}

}  // namespace sluice
