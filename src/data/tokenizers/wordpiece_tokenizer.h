// BERT's WordPiece (arXiv 1810.04805), from whichever files: a text is divided at added tokens, normalized, divided
// into words (bert_text.h), and of a word the longest token is taken that it begins with, then the longest of those
// that go on with a word, and so on. What cannot be finished so is one unknown token.
#pragma once

#include <memory>
#include <string>

#include "data/splitting/bert_text.h"
#include "data/tokenizers/tokenizer_files.h"

namespace sluice {

struct WordPieceFiles : VocabularyFiles {
  bool library_files = false;     // see Tokenizer::has_library_files()
  std::string prefix = "##";      // of the tokens that go on with a word
  int64_t most_characters = 100;  // a longer word is unknown
  bool joins_marks = true;        // decoding puts no blank before . ? ! , and the ends of English verbs ('ve)
  BertText text = {};
};

// What a vocab.txt and the tokenizer_config.json beside it say. UserError for what is damaged or of another kind.
WordPieceFiles read_wordpiece_vocabulary(const std::string& vocabulary, const std::string& config,
                                         const std::string& path, const std::string& key);

// UserError for what does not fit together.
std::unique_ptr<Tokenizer> make_wordpiece_tokenizer(WordPieceFiles files);

}  // namespace sluice
