// The "data" group of a config, and the factory that turns it into a source.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/config/config.h"
#include "data/sources/source.h"

namespace sluice {

class Tokenizer;

struct WeightedShards {
  std::vector<std::string> shards;
  double weight = 1;

  void describe(Fields& fields);
};

// Masked language modelling; see MaskedTokens.
struct MaskingConfig {
  double share = 0;
  int64_t token = -1;
  double replaced = 0.8, random = 0.1;
  std::vector<int64_t> never;

  void describe(Fields& fields);
};

struct DataConfig {
  std::string type = "bigram_backcopy";
  int64_t triggers = 3;
  std::string statistics;
  std::vector<std::string> train_shards, validation_shards;
  std::vector<WeightedShards> sources;
  std::string tokenizer;
  std::string shard_format = "auto";
  std::string shuffle = "windows";
  bool document_mask = false;
  int64_t document_token = -1;
  int64_t first_token = -1;
  bool verify = false;
  MaskingConfig masking;
  // No keys of the config: what messages call what options gave in its place.
  std::string shards_key, tokenizer_key = "data.tokenizer";

  void describe(Fields& fields);
};

// The mask token: that of the config, else the tokenizer's own, else -1. The tokenizer may be null.
int64_t mask_token_of(const MaskingConfig& masking, const Tokenizer* tokenizer);

// `context` and `vocab_size` are the model's. Throws UserError where files are missing or damaged, where the data does
// not fit the model or the tokenizer, or where the held-out split of token shards is asked for but
// data.validation_shards is empty.
std::unique_ptr<DataSource> make_source(const DataConfig& config, Split split, int64_t context, int64_t vocab_size,
                                        uint64_t seed);

}  // namespace sluice
