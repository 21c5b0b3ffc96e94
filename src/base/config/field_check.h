// Whether a value is what its config field takes: UserError with the key, what it is and what it must be.
#pragma once

#include <string>
#include <vector>

#include "base/config/config.h"

namespace sluice {

// `path` names the place in messages: "model.attention.score".
void check_kind(const Json& value, Field::Kind kind, const std::string& path);
// Its kind, its limits or choices, and of a list its length and each element. Not for groups.
void check_value(const Field& field, const Json& value, const std::string& path);

std::string quoted_list(const std::vector<std::string>& words);  // "\"fp32\", \"bf16\""

}  // namespace sluice
