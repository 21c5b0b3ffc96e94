// The "data" group of a config, and the factory that turns it into a source.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/config.h"
#include "data/source.h"

namespace sluice {

struct DataConfig {
  std::string type = "bigram_backcopy";
  int64_t triggers = 3;
  std::string statistics;
  std::vector<std::string> train_shards, validation_shards;

  void describe(Fields& fields);
};

// `context` and `vocab_size` are the model's. Throws UserError where files are missing or damaged, where the data does
// not fit the model, or where the held-out split of token shards is asked for but data.validation_shards is empty.
std::unique_ptr<DataSource> make_source(const DataConfig& config, Split split, int64_t context, int64_t vocab_size,
                                        uint64_t seed);

}  // namespace sluice
