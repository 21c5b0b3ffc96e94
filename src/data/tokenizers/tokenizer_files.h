// The kinds of tokenizers that load_tokenizer (tokenizer.h) chooses from, each from its files. UserError where they are
// damaged, which names `key` and the file.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/config/config.h"
#include "data/splitting/added_tokens.h"
#include "data/tokenizers/tokenizer.h"

namespace sluice {

std::unique_ptr<Tokenizer> make_character_tokenizer(const Json& json, const std::string& path, const std::string& key);
// From the content of a .model file of sentencepiece.
std::unique_ptr<Tokenizer> make_sentencepiece(const std::string& model, const std::string& path,
                                              const std::string& key);

// From a tokenizer.json of the library `tokenizers`.
std::unique_ptr<Tokenizer> make_json_tokenizer(const Json& json, const std::string& path, const std::string& key);
// From one that a sentencepiece model was written as, by `sluice export` or the transformers library.
std::unique_ptr<Tokenizer> make_sentencepiece_json(const Json& json, const std::string& path, const std::string& key);
bool is_sentencepiece_json(const Json& json);

// The contents of the files in a folder; the last two may be missing and are empty then.
struct Gpt2Folder {
  std::string vocabulary, merges, added, special;  // vocab.json, merges.txt, added_tokens.json, special_tokens_map.json
};
std::unique_ptr<Tokenizer> make_gpt2_tokenizer(const Gpt2Folder& folder, const std::string& path,
                                               const std::string& key);

// From the content of a tiktoken's file of ranks, which lacks its expression and special tokens: those go by the file's
// name or else the number of ranks.
bool is_rank_file(std::string_view content);
std::unique_ptr<Tokenizer> make_rank_tokenizer(std::string_view content, const std::string& path,
                                               const std::string& key);
// From a tekken.json of Mistral's.
bool is_tekken(const Json& json);
std::unique_ptr<Tokenizer> make_tekken_tokenizer(const Json& json, const std::string& path, const std::string& key);

// BERT's WordPiece from the text of a vocab.txt, a token a line, and of the tokenizer_config.json beside it, which may
// be empty; and from a tokenizer.json.
std::unique_ptr<Tokenizer> make_wordpiece_vocabulary(const std::string& vocabulary, const std::string& config,
                                                     const std::string& path, const std::string& key);
std::unique_ptr<Tokenizer> make_wordpiece_json(const Json& json, const std::string& path, const std::string& key);
bool is_wordpiece_json(const Json& json);

// What the files of several of them say, ids not yet checked.
struct VocabularyFiles {
  std::string path = {}, key = {};                           // for messages
  std::vector<std::pair<std::string, int64_t>> tokens = {};  // of the model's vocabulary
  std::vector<std::pair<AddedToken, int64_t>> added = {};    // beside it or of it; the ids of AddedToken are set later
  std::string unknown = {};                                  // the token of what has none; empty: there is none
  std::string begins = {}, ends = {};                        // names of the tokens before and behind a text, or empty
  std::string mask = {};                                     // see Tokenizer::mask_token(); or empty

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> text, Args&&... args) const {
    refuse_text(fmt::format(text, std::forward<Args>(args)...));
  }
  [[noreturn]] void refuse_text(const std::string& what) const;  // UserError
};

// Parts that several of them have.
struct BytePairFiles;
inline constexpr std::string_view kMaskNames[] = {"[MASK]", "<mask>"};
void read_vocabulary(const Json& json, VocabularyFiles& files);    // an object of tokens and ids
void read_added_tokens(const Json& list, VocabularyFiles& files);  // "added_tokens" of a tokenizer.json, or null
AddedToken read_added_token(const Json& token, const VocabularyFiles& files);  // its "content" and flags
// A key that is true, false, or not there.
bool flag_of(const Json& object, const char* name, bool standard, const VocabularyFiles& files);
// What the post-processor of a tokenizer.json puts before a text, a token's name; empty: nothing.
std::string first_special(const Json& post_processor, const VocabularyFiles& files);
void read_merge(std::string_view line, BytePairFiles& files);  // two tokens with a blank between
// Sets the tokens before and behind a text: the first of the special tokens that `first` (if not empty) and well-known
// names are.
void choose_ends(BytePairFiles& files, const std::string& first);

}  // namespace sluice
