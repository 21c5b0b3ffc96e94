// See gpt2_split.h. The classes of characters come from a generated table (scripts/make_unicode_table.py): L and N are
// Unicode's general categories, blanks are White_Space.
#include "data/splitting/gpt2_split.h"

#include <cstdint>

#include "base/utf8.h"
#include "data/splitting/class_table.h"

namespace sluice {
namespace {

constexpr uint32_t kClassRanges[] = {
#include "data/splitting/unicode_classes.inc"
};
constexpr ClassTable<CharacterClass> kClasses(kClassRanges);

// The class of the character at `at`, and where it ends.
CharacterClass class_at(std::string_view text, size_t at, size_t& end) {
  if (const auto byte = static_cast<unsigned char>(text[at]); byte < 128) {
    end = at + 1;
    return kClasses[byte];
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

CharacterClass class_of(char32_t character) { return kClasses[character]; }

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
