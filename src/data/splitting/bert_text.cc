// See bert_text.h. A text is cleaned first; then runs of characters beyond ASCII, which alone have accents, are
// decomposed one after the other, as ASCII characters neither decompose nor change places with marks.
#include "data/splitting/bert_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "base/utf8.h"
#include "data/splitting/class_table.h"
#include "data/splitting/gpt2_split.h"
#include "data/splitting/nfc.h"

namespace sluice {
namespace {

enum class BertClass { kOther, kRemoved, kMark, kPunctuation };

constexpr uint32_t kRanges[] = {
#include "data/splitting/bert_classes.inc"
};
constexpr ClassTable<BertClass> kClasses(kRanges);

bool is_blank(char32_t character) { return class_of(character) == CharacterClass::kBlank; }

struct Range {
  char32_t first, last;
};
// The ranges that are CJK's in BERT's release and the library; the gaps are theirs.
constexpr Range kChinese[] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},  {0x20000, 0x2A6DF},
                              {0x2A700, 0x2B81F}, {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F}};

bool is_chinese(char32_t character) {
  if (character < kChinese[0].first) return false;
  return std::any_of(std::begin(kChinese), std::end(kChinese),
                     [&](Range range) { return range.first <= character && character <= range.last; });
}

struct NewPair {
  char32_t first, last;
  int32_t distance;
};
constexpr NewPair kNewPairs[] = {
#include "data/splitting/bert_lowercase.inc"
};

void append_lowercase(std::string& out, char32_t character) {
  if (character == 0x130) {  // the one capital letter whose small one is two characters
    out += "i\xCC\x87";
    return;
  }
  for (const NewPair& pair : kNewPairs) {
    if (pair.first <= character && character <= pair.last)
      return append_utf8(out, char32_t(int32_t(character) + pair.distance));
  }
  append_utf8(out, char32_t(utf8proc_tolower(utf8proc_int32_t(character))));
}

void append_cleaned(const BertText& how, std::string_view text, std::string& out) {
  while (!text.empty()) {
    const std::string_view before = text;
    const char32_t character = take_character(text);
    const std::string_view bytes = before.substr(0, before.size() - text.size());
    const bool blank = is_blank(character);
    // Of the control characters three are blanks: tab, line feed, carriage return.
    if (how.clean && kClasses[character] == BertClass::kRemoved) continue;
    if (how.space_chinese && is_chinese(character)) {
      (out += ' ').append(bytes) += ' ';
    } else if (how.clean && blank) {
      out += ' ';
    } else {
      out += bytes;
    }
  }
}

// `run`: characters beyond ASCII.
void append_run(const BertText& how, std::string_view run, std::string& decomposed, std::string& out) {
  std::string_view rest = how.strip_accents ? nfd(run, decomposed) : run;
  while (!rest.empty()) {
    const std::string_view before = rest;
    const char32_t character = take_character(rest);
    if (how.strip_accents && kClasses[character] == BertClass::kMark) continue;
    if (how.lowercase) append_lowercase(out, character);
    else out += before.substr(0, before.size() - rest.size());
  }
}

bool is_ascii(char byte) { return static_cast<unsigned char>(byte) < 0x80; }
char small(char byte) { return byte >= 'A' && byte <= 'Z' ? char(byte + ('a' - 'A')) : byte; }

}  // namespace

std::string_view BertText::normalized(std::string_view text, std::string& copy) const {
  if (!changes_text()) return text;
  std::string cleaned, decomposed;
  if (clean || space_chinese) {
    cleaned.reserve(text.size());
    append_cleaned(*this, text, cleaned);
    text = cleaned;
  }
  copy.clear();
  copy.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    if (is_ascii(text[at])) {
      copy += lowercase ? small(text[at]) : text[at];
      ++at;
      continue;
    }
    size_t end = at;
    while (end < text.size() && !is_ascii(text[end])) ++end;
    append_run(*this, text.substr(at, end - at), decomposed, copy);
    at = end;
  }
  return copy;
}

void divide_bert_words(std::string_view text, const std::function<void(std::string_view)>& on_word) {
  size_t begin = 0, at = 0;  // of the word, of the character
  const auto end_word = [&] {
    if (begin < at) on_word(text.substr(begin, at - begin));
  };
  while (at < text.size()) {
    std::string_view rest = text.substr(at);
    const char32_t character = take_character(rest);
    const size_t next = text.size() - rest.size();
    const bool punctuation = kClasses[character] == BertClass::kPunctuation;
    if (punctuation || is_blank(character)) {
      end_word();
      if (punctuation) on_word(text.substr(at, next - at));
      begin = next;
    }
    at = next;
  }
  end_word();
}

}  // namespace sluice
