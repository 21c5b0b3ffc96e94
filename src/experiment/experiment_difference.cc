// Two configs walked through side by side, but for the keys that may change (experiment_difference.h).
#include "experiment/experiment_difference.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "experiment/experiment.h"

namespace sluice {

namespace {

// Files that may lie elsewhere now: what is in them the trainer compares.
constexpr std::array kPaths = {"/data/train_shards", "/data/validation_shards", "/data/tokenizer"};
constexpr std::array kMayChange = {"name",
                                   "device",
                                   "log",
                                   "train.steps",
                                   "train.micro_batch",
                                   "train.recompute",
                                   "train.attention_backend",
                                   "train.zero",
                                   "train.bucket_mb",
                                   "train.rank_timeout"};

bool may_change(const std::string& key) {
  return std::find(kMayChange.begin(), kMayChange.end(), key) != kMayChange.end();
}

std::string join(const std::string& path, const std::string& key) { return path.empty() ? key : path + "." + key; }

Json member(const Json& object, const std::string& key) {
  const auto found = object.find(key);
  return found == object.end() ? Json() : *found;
}

// The default of the key at the dotted `path`; null if there is no such key.
Json default_of(const std::string& path) {
  Experiment defaults;
  Fields fields;
  defaults.describe(fields);
  const Fields* group = &fields;
  for (size_t begin = 0; group;) {
    const size_t dot = path.find('.', begin);
    const Field* field = group->find(path.substr(begin, dot - begin));
    if (!field) break;
    if (dot == std::string::npos) return field->default_value;
    group = field->group.get();
    begin = dot + 1;
  }
  return Json();
}

// A key that `stored` lacks was not there yet in the version that wrote it, which did what is the default now.
std::optional<ConfigDifference> difference(const Json& stored, const Json& current, const std::string& path) {
  if (stored == current || may_change(path)) return std::nullopt;
  if (stored.is_null() && current.is_object()) return difference(Json::object(), current, path);
  if (stored.is_null() && current == default_of(path)) return std::nullopt;
  if (!stored.is_object() || !current.is_object()) return ConfigDifference{path, stored, current};
  for (const auto& [key, value] : current.items()) {
    if (auto found = difference(member(stored, key), value, join(path, key))) return found;
  }
  for (const auto& [key, value] : stored.items()) {
    if (current.contains(key)) continue;
    if (auto found = difference(value, Json(), join(path, key))) return found;
  }
  return std::nullopt;
}

}  // namespace

std::string config_value_text(const Json& value) { return value.is_null() ? "not set" : value.dump(); }

Json with_paths_of(const Json& config, Json stored) {
  for (const char* key : kPaths) {
    const Json::json_pointer path(key);
    if (stored.contains(path) && config.contains(path)) stored[path] = config[path];
  }
  return stored;
}

std::optional<ConfigDifference> experiment_difference(const Json& stored, const Json& current) {
  return difference(stored, current, "");
}

void check_same_model(const Json& stored, const Json& current, const std::string& where) {
  const auto found = difference(member(stored, "model"), member(current, "model"), "model");
  if (!found) return;
  throw UserError("{} is of another model: {} is {} there, but {} in this config", where, found->key,
                  config_value_text(found->stored), config_value_text(found->current));
}

void check_same_experiment(const Json& stored, const Json& current, const std::string& where) {
  const auto found = experiment_difference(with_paths_of(current, stored), current);
  if (!found) return;
  throw UserError(
      "{} is of another experiment: its {} is {}, but {} is asked for; name another folder with --out, or start "
      "over with --resume never",
      where, found->key, config_value_text(found->stored), config_value_text(found->current));
}

}  // namespace sluice
