// Strict JSON text: what the grammar allows and nothing more, each key once, with line and column in every error.
// Nested at most kMaxJsonDepth deep, because whoever copies, compares or dumps a value recurses.
#pragma once

#include <string>

#include "base/config/config.h"
#include "base/error.h"

namespace sluice {

constexpr int kMaxJsonDepth = 200;  // open brackets

// What other programs write that is no JSON, in values that nobody here may ever read.
struct JsonOptions {
  bool non_finite = false;          // NaN, Infinity, -Infinity and numbers beyond a double are read as null
  bool replace_surrogates = false;  // an escaped half of a surrogate pair is read as U+FFFD
};

// "NAME:LINE:COLUMN: not valid JSON: WHY".
class JsonError : public UserError {
 public:
  JsonError(const std::string& name, size_t line, size_t column, std::string why)
      : UserError("{}:{}:{}: not valid JSON: {}", name, line, column, why),
        line_(line),
        column_(column),
        why_(std::move(why)) {}
  size_t line() const { return line_; }
  size_t column() const { return column_; }
  const std::string& why() const { return why_; }

 private:
  size_t line_, column_;
  std::string why_;
};

// `name` is the file in messages: "configs/a.json:3:7: ...". Throws JsonError.
Json parse_json(const std::string& text, const std::string& name, const JsonOptions& options = {});

// A file of up to `most_bytes`, or a pipe that a shell hands on. UserError where it cannot be read; `what` names the
// kind of file that the limit is for. Without a limit that of configs, 64 MiB.
Json read_json_file(const std::string& path, uint64_t most_bytes, const char* what, const JsonOptions& options = {});
Json read_json_file(const std::string& path, const JsonOptions& options = {});

}  // namespace sluice
