// What a config.json of each family of the transformers library says about a model, as a Sluice config has it.
#pragma once

#include <utility>

#include "interchange/config_reader.h"
#include "interchange/foreign_config.h"

namespace sluice {

// The family and the model group. `context` above 0 is the context that the model will have here. UserError names a
// field that Sluice cannot follow, or does not know.
std::pair<Architecture, Json> read_family(const ConfigReader& config, int64_t context);

}  // namespace sluice
