// Byte-pair encoding as GPT-2, LLaMA 3, Qwen, DeepSeek and most others have it, from whichever files: a text is divided
// at added tokens, normalized, divided into words (text_pipeline.h), a word into bytes or characters, and merges make
// tokens of them.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/splitting/text_pipeline.h"
#include "data/tokenizers/tokenizer_files.h"

namespace sluice {

struct BytePairFiles : VocabularyFiles {
  std::string type = "bpe";   // see Tokenizer::type()
  bool library_files = true;  // see Tokenizer::has_library_files()
  std::vector<std::pair<std::string, std::string>> merges = {};
  bool ranked = false;     // no merges: any two tokens make the token of their joined bytes, that of lowest id first
  bool raw = false;        // tokens are bytes as they are; else
  bool byte_level = true;  // they are written as byte_level.h says, or are text
  bool byte_fallback = false;  // a character without a token becomes tokens "<0xE2>"
  bool ignore_merges = false;  // a word that is a token is that token, whatever the merges say
  bool fuse_unknown = false;   // unknown characters beside each other are one token
  TextPipeline pipeline = {};
};

// UserError for what does not fit together.
std::unique_ptr<Tokenizer> make_byte_pair_tokenizer(BytePairFiles files);

}  // namespace sluice
