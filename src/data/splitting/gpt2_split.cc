// See gpt2_split.h. The classes of characters come from a generated table (scripts/make_unicode_table.py): L and N are
// Unicode's general categories, blanks are White_Space.
#include "data/splitting/gpt2_split.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>

#include "base/utf8.h"

namespace sluice {
namespace {

// Each entry begins a range that lasts until the next: first character * 4 + class.
constexpr uint32_t kClassRanges[] = {
#include "data/splitting/unicode_classes.inc"
};

constexpr CharacterClass look_up(char32_t character) {
  const uint32_t key = uint32_t(character) * 4 + 3;
  const uint32_t* after = std::upper_bound(std::begin(kClassRanges), std::end(kClassRanges), key);
  return CharacterClass(after[-1] & 3);
}

constexpr auto kAsciiClasses = [] {
  std::array<CharacterClass, 128> classes{};
  for (char32_t character = 0; character < 128; ++character) classes[character] = look_up(character);
  return classes;
}();

// The class of the character at `at`, and where it ends.
CharacterClass class_at(std::string_view text, size_t at, size_t& end) {
  if (const auto byte = static_cast<unsigned char>(text[at]); byte < 128) {
    end = at + 1;
    return kAsciiClasses[byte];
  }
  std::string_view rest = text.substr(at);
  const char32_t character = take_character(rest);
  end = text.size() - rest.size();
  return class_of(character);
}

// Where the run of `wanted` that begins at `at` ends; `last` is where its last character begins.
size_t end_of_run(std::string_view text, size_t at, CharacterClass wanted, size_t& last) {
  last = at;
  for (size_t end = at; at < text.size(); at = end) {
    if (class_at(text, at, end) != wanted) break;
    last = at;
  }
  return at;
}

size_t contraction_length(std::string_view text) {
  for (const std::string_view word : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
    if (text.starts_with(word)) return word.size();
  }
  return 0;
}

}  // namespace

CharacterClass class_of(char32_t character) { return character < 128 ? kAsciiClasses[character] : look_up(character); }

size_t gpt2_word_length(std::string_view text) {
  if (const size_t contraction = contraction_length(text)) return contraction;
  size_t end = 0, last = 0;
  const CharacterClass first = class_at(text, 0, end);
  if (first != CharacterClass::kBlank) return end_of_run(text, 0, first, last);
  size_t ignored = 0;
  if (text[0] == ' ' && text.size() > 1) {
    const CharacterClass second = class_at(text, 1, ignored);
    if (second != CharacterClass::kBlank) return end_of_run(text, 1, second, last);
  }
  // Blanks: before a word all but the last, which may belong to the word.
  const size_t blanks = end_of_run(text, 0, CharacterClass::kBlank, last);
  return blanks == text.size() || last == 0 ? blanks : last;
}

}  // namespace sluice
