// The kinds of tokenizers that load_tokenizer (tokenizer.h) chooses from, each from its files. UserError where they are
// damaged, which names `key` and the file.
#pragma once

#include <memory>
#include <string>

#include "base/config.h"
#include "data/tokenizer.h"

namespace sluice {

std::unique_ptr<Tokenizer> make_character_tokenizer(const Json& json, const std::string& path, const std::string& key);
// From a tokenizer.json, or from the contents of vocab.json and merges.txt in the folder `path`.
std::unique_ptr<Tokenizer> make_gpt2_tokenizer(const Json& json, const std::string& path, const std::string& key);
std::unique_ptr<Tokenizer> make_gpt2_tokenizer(const std::string& vocabulary, const std::string& merges,
                                               const std::string& path, const std::string& key);
// From the content of a .model file.
std::unique_ptr<Tokenizer> make_sentencepiece(const std::string& model, const std::string& path, const std::string& key);

}  // namespace sluice
