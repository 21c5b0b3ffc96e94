// Makes a tokenizer from text: sentencepiece's unigram or bpe models (arXiv 1804.10959, 1808.06226), or a list of
// characters.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/text/document_reader.h"

namespace sluice {

struct TokenizerTraining {
  std::string type = "bpe";  // "unigram", "characters"
  int64_t vocab_size = 8192;
  uint64_t sample_bytes = 100'000'000;  // the text that pieces are learned from is a sample of this size
  uint64_t seed = 42;
  double coverage =
      0.9995;  // 0.98 to 1: the share of the text's characters that get pieces; others are spelled in bytes
};

// Called now and then while text is read.
using TextProgress = std::function<void(const DocumentReader&)>;

struct TrainedTokenizer {
  std::string file;           // what the tokenizer's file holds
  uint64_t sample_bytes = 0;  // of text it was learned from
  bool whole_text = true;     // nothing was left out of the sample
  TextReport report{};        // on the text that was read
};

// Reads all of `inputs`. The result depends on the text, the options and the seed, not on the machine. UserError for an
// empty text and a vocabulary that the text cannot fill.
TrainedTokenizer train_tokenizer(const std::vector<std::string>& inputs, TextOptions text,
                                 const TokenizerTraining& options, const TextProgress& progress);

}  // namespace sluice
