// Typed reads of JSON that a file holds: whatever stands there instead is told in one sentence with the file, the key
// and what it should be, never in the JSON library's words.
//
//   const JsonReader state(json, "run/state.json");
//   const int64_t step = state.integer("step", 0);              // "run/state.json: step must be an integer of at least
//   0, ..." const std::string text = state.object("files").text("xxh3");  // "run/state.json: files.xxh3 is missing"
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "base/config/config.h"

namespace sluice {

// The beginning of a text for a message: no more than `most` bytes, in whole characters, with "..." where it was cut.
std::string excerpt(std::string_view text, size_t most);

// A value in a message: "an object", "a list", or the value itself, cut where it is long.
std::string shown(const Json& value);

// UserError where all objects in `json` have more keys than a config may have: to look for one takes time in proportion
// to their number, and a merge looks for each. Nor may the keys be too long in all, each written as "group.group.key":
// so they are kept. `place` is the file.
void check_key_count(const Json& json, const std::string& place);

class JsonReader {
 public:
  // UserError if `json` is no object. `json` must outlive the reader.
  JsonReader(const Json& json, std::string place);

  bool has(const std::string& key) const;
  int64_t integer(const std::string& key, int64_t least = std::numeric_limits<int64_t>::min()) const;
  double number(const std::string& key) const;
  const std::string& text(const std::string& key) const;
  const Json& list(const std::string& key) const;
  JsonReader object(const std::string& key) const;
  const Json& value(const std::string& key) const;  // of any type

  [[noreturn]] void refuse(const std::string& key, const std::string& expected) const;

 private:
  JsonReader(const Json& json, std::string place, std::string prefix);
  const Json* find(const std::string& key) const;

  const Json& json_;
  std::string place_, prefix_;
};

}  // namespace sluice
