// Strict JSON text: what the grammar allows and nothing more, each key once, with line and column in every error.
#pragma once

#include <string>

#include "base/config.h"

namespace sluice {

// `name` is the file (or the option) in messages: "configs/a.json:3:7: ...". Throws UserError.
Json parse_json(const std::string& text, const std::string& name);

// Throws UserError where the file cannot be read.
Json read_json_file(const std::string& path);

}  // namespace sluice
