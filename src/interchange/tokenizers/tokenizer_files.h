// A tokenizer's files for the transformers library: tokenizer.json and tokenizer_config.json, which AutoTokenizer
// reads, and the tokenizer's own files beside them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "data/tokenizers/tokenizer.h"

namespace sluice {

struct TokenizerFileOptions {
  int64_t context = 0;       // the model's
  int64_t first_token = -1;  // to be put before every text; -1: nothing
  int64_t mask_token = -1;   // of a masked language model; -1: of others
};

// Writes the files of the tokenizer that load_tokenizer(path_or_name) gave into `folder`. Returns sentences for the
// user where transformers will not treat text as Sluice does, else an empty string.
std::string write_tokenizer_files(const std::string& path_or_name, const Tokenizer& tokenizer,
                                  const TokenizerFileOptions& options, const std::filesystem::path& folder);

// Copies the tokenizer's files of a transformers folder to `to`, a new folder; false where there are none. A mask token
// that an export has added is left out.
bool copy_tokenizer_files(const std::filesystem::path& folder, const std::filesystem::path& to);

}  // namespace sluice
