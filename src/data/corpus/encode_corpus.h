// Text files to token shards, with bounded memory, on all processors.
//
// Documents are read in batches; the documents of a batch are encoded side by side and written in their order, so that
// the shards do not depend on the number of threads. All shards get their names when the last one is written
// (data/shards/shard_naming.h); what a killed encoding leaves lies in a hidden folder, which the next one of that name
// removes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/corpus/tokenizer_trainer.h"
#include "data/tokenizers/tokenizer.h"

namespace sluice {

struct ShardOptions {
  std::string out;                     // a folder (that exists, or ends in "/"), or the beginning of the shards' paths
  int64_t width = 0;                   // bits of a token, 16 or 32; 0: 16 if the vocabulary allows it
  int64_t shard_tokens = 100'000'000;  // a shard holds at most this many; a longer document gets one of its own
  std::string command = "";            // as it was given; a killed one is finished by the same one alone
};

struct EncodedCorpus {
  std::vector<std::string> shards;  // paths, in order
  int64_t documents = 0, tokens = 0;
  uint64_t text_bytes = 0;
  int64_t unknown = 0;        // tokens that stand for text which is lost (Tokenizer::unknown)
  std::string first_unknown;  // the place of the document with the first of them
  TextReport report{};        // on the text that was read
  bool only_named = false;    // a killed command had written them, and this one has given them their names
};

// UserError for bad text (see DocumentReader), text without a document, a vocabulary that does not fit the width, and
// shards of that name that are there already.
EncodedCorpus encode_corpus(const std::vector<std::string>& inputs, const TextOptions& text, const Tokenizer& tokenizer,
                            const ShardOptions& options, const TextProgress& progress);

}  // namespace sluice
