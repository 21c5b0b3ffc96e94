// Fields that several families have, each in its own words.
#pragma once

#include "base/config/config.h"
#include "interchange/config_reader.h"

namespace sluice {

// Sluice's name of an activation, such as that of "gelu_new"; `otherwise` is the library's where the field is not
// there.
const char* read_activation(const ConfigReader& config, const char* key, const char* otherwise);

// Only for training from new weights, and so left at its default where Sluice has no such value.
void take_init_std(Json& model, const ConfigReader& config, const char* key = "initializer_range");

int64_t read_heads(const ConfigReader& config, const char* key);

}  // namespace sluice
