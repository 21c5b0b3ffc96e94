// The sentences for values of another type than they should have (json_reader.h).
#include "base/config/json_reader.h"

#include <utility>

#include "base/error.h"
#include "base/files/files.h"
#include "base/limits.h"

namespace sluice {

std::string excerpt(std::string_view text, size_t most) {
  if (text.size() <= most) return std::string(text);
  size_t end = most;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return std::string(text.substr(0, end)) + "...";
}

std::string shown(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  if (value.is_string())
    return fmt::format("the string \"{}\"", excerpt(value.get_ref<const std::string&>(), kMostQuoted));
  if (value.is_number()) return "the number " + value.dump();
  return value.dump();
}

namespace {

struct KeyCount {
  size_t keys = 0;
  uint64_t bytes = 0;  // of all keys, each with the groups around it
};

void count_keys(const Json& json, uint64_t path_bytes, KeyCount& count) {
  if (json.is_array()) {
    for (const Json& value : json) count_keys(value, path_bytes, count);
  } else if (json.is_object()) {
    for (const auto& [key, value] : json.items()) {
      const uint64_t inner = path_bytes + key.size() + 1;
      ++count.keys;
      count.bytes += inner;
      count_keys(value, inner, count);
    }
  }
}

}  // namespace

void check_key_count(const Json& json, const std::string& place) {
  KeyCount count;
  count_keys(json, 0, count);
  if (count.keys > kMostConfigKeys)
    throw UserError("{}: it has {} keys, but a config or sweep has at most {}", place, count.keys, kMostConfigKeys);
  if (count.bytes > kMostConfigPaths) {
    throw UserError(
        "{}: its keys, each written with the groups that it lies in, have {}, but those of a config or sweep have "
        "at most {}",
        place, bytes_text(count.bytes), bytes_text(kMostConfigPaths));
  }
}

JsonReader::JsonReader(const Json& json, std::string place) : json_(json), place_(std::move(place)) {
  if (!json_.is_object()) throw UserError("{}: a JSON object is expected, got {}", place_, shown(json_));
}

JsonReader::JsonReader(const Json& json, std::string place, std::string prefix)
    : json_(json), place_(std::move(place)), prefix_(std::move(prefix)) {}

const Json* JsonReader::find(const std::string& key) const {
  const auto found = json_.find(key);
  return found == json_.end() ? nullptr : &*found;
}

bool JsonReader::has(const std::string& key) const { return find(key) != nullptr; }

void JsonReader::refuse(const std::string& key, const std::string& expected) const {
  const Json* found = find(key);
  if (!found) throw UserError("{}: {}{} is missing; it must be {}", place_, prefix_, key, expected);
  throw UserError("{}: {}{} must be {}, got {}", place_, prefix_, key, expected, shown(*found));
}

int64_t JsonReader::integer(const std::string& key, int64_t least) const {
  const Json* found = find(key);
  const bool fits =
      found && found->is_number_integer() &&
      !(found->is_number_unsigned() && found->get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max()));
  if (fits && found->get<int64_t>() >= least) return found->get<int64_t>();
  const bool any = least == std::numeric_limits<int64_t>::min();
  refuse(key, any ? "an integer of 64 bits" : fmt::format("an integer of at least {}", least));
}

double JsonReader::number(const std::string& key) const {
  const Json* found = find(key);
  if (!found || !found->is_number()) refuse(key, "a number");
  return found->get<double>();
}

const std::string& JsonReader::text(const std::string& key) const {
  const Json* found = find(key);
  if (!found || !found->is_string()) refuse(key, "a string");
  return found->get_ref<const std::string&>();
}

const Json& JsonReader::list(const std::string& key) const {
  const Json* found = find(key);
  if (!found || !found->is_array()) refuse(key, "a list");
  return *found;
}

JsonReader JsonReader::object(const std::string& key) const {
  const Json* found = find(key);
  if (!found || !found->is_object()) refuse(key, "an object");
  return {*found, place_, prefix_ + key + "."};
}

const Json& JsonReader::value(const std::string& key) const {
  const Json* found = find(key);
  if (!found) refuse(key, "there");
  return *found;
}

}  // namespace sluice
