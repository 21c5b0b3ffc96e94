// The data of a trained model's run, for commands that measure it: its own, or what the user names in their place.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/sources/source.h"
#include "runs/load_model.h"

namespace sluice {

struct GivenData {
  std::vector<std::string> shards;  // token shards in the split's place; empty: the run's own data
  std::string shards_option;        // which gave them, for messages: "--data"
  std::string tokenizer;            // what --tokenizer gave, as for a run whose files have moved; empty: the run's own
};

// A split in sequences of `length` tokens. UserError as of make_source, with the option named; where the config has no
// shards and none are given; for a tokenizer that the model was not trained with, or beside data that none made.
std::unique_ptr<DataSource> open_run_data(const LoadedModel& loaded, Split split, const GivenData& given,
                                          int64_t length);

}  // namespace sluice
