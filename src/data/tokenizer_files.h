// The kinds of tokenizers that load_tokenizer (tokenizer.h) chooses from, each from its files. UserError where they are
// damaged, which names `key` and the file.
#pragma once

#include <memory>
#include <string>

#include "base/config.h"
#include "data/tokenizer.h"

namespace sluice {

std::unique_ptr<Tokenizer> make_character_tokenizer(const Json& json, const std::string& path, const std::string& key);
std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& path, const std::string& key);

}  // namespace sluice
