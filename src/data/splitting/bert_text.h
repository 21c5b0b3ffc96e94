// What happens to a text before the words reach WordPiece: BERT's BasicTokenizer (arXiv 1810.04805), as the library
// `tokenizers` has it in BertNormalizer and BertPreTokenizer. Its tables of characters are of several versions of
// Unicode; they are taken over as they are (scripts/make_unicode_table.py).
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace sluice {

// In this order:
struct BertText {
  bool clean = true;          // control characters, U+0000 and U+FFFD are left out, every blank becomes U+0020
  bool space_chinese = true;  // a blank before and behind each character of CJK's ideographs
  bool strip_accents = true;  // canonical decomposition (NFD), of which nonspacing marks (Mn) are left out
  bool lowercase = true;      // character by character
  bool changes_text() const { return clean || space_chinese || strip_accents || lowercase; }

  // Of valid UTF-8: `text` itself where nothing changes, else what is put into `copy`.
  std::string_view normalized(std::string_view text, std::string& copy) const;
};

// Calls on_word for what lies between blanks and, one by one, for each punctuation character: those of ASCII that are
// no letters, digits, blanks or control characters, and Unicode's P*.
void divide_bert_words(std::string_view text, const std::function<void(std::string_view)>& on_word);

}  // namespace sluice
