// Whether two resolved configs are of one experiment.
//
// Two configs are the same experiment when they differ only in what may change between a run and its continuation: the
// keys whose fields say so (Field::may_change).
#pragma once

#include <optional>
#include <string>

#include "base/config/config.h"

namespace sluice {

struct ConfigDifference {
  std::string key;       // "model.attention.score.type"
  Json stored, current;  // null where the key is missing
};

// The first key, in the order of `current`, that makes two resolved configs different experiments.
std::optional<ConfigDifference> experiment_difference(const Json& stored, const Json& current);

// UserError naming the first key of "model" in which the config of the checkpoint at `where` differs. Tensors may fit
// by name and shape, and yet mean another thing.
void check_same_model(const Json& stored, const Json& current, const std::string& where);

// UserError naming the first key in which the config of the run's own checkpoint at `where` is another experiment, but
// for where the data lie.
void check_same_experiment(const Json& stored, const Json& current, const std::string& where);

// `stored` with the paths of `config` where both have one.
Json with_paths_of(const Json& config, Json stored);

// A config's value in a sentence.
std::string config_value_text(const Json& value);

}  // namespace sluice
