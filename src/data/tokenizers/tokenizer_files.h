// The kinds of tokenizers that load_tokenizer (tokenizer.h) chooses from, each from its files. UserError where they are
// damaged, which names `key` and the file.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/config/config.h"
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

// Parts that several of them have.
struct BytePairFiles;
void read_vocabulary(const Json& json, BytePairFiles& files);  // an object of tokens and ids
void read_merge(std::string_view line, BytePairFiles& files);  // two tokens with a blank between
// Sets the tokens before and behind a text: the first of the special tokens that `first` (if not empty) and well-known
// names are.
void choose_ends(BytePairFiles& files, const std::string& first);

}  // namespace sluice
