// Two configs walked through side by side, but for the keys whose fields say that they may change.
#include "experiment/experiment_difference.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "experiment/experiment.h"

namespace sluice {

namespace {

std::string join(const std::string& path, const std::string& key) { return path.empty() ? key : path + "." + key; }

Json member(const Json& object, const std::string& key) {
  const auto found = object.find(key);
  return found == object.end() ? Json() : *found;
}

// The keys of an experiment, with their defaults.
class Keys {
 public:
  Keys() { defaults_.describe(fields_); }

  const Fields& fields() const { return fields_; }
  // Of the key at the dotted `path`; null if there is no such key.
  Json default_of(const std::string& path) const {
    const Field* field = field_of(path);
    return field ? field->default_value : Json();
  }
  bool may_change(const std::string& path) const {
    const Field* field = field_of(path);
    return field && field->of_the_work;
  }

 private:
  // Elements of a list, "model.attention[1]", have the fields of the group that may stand in its place.
  const Field* field_of(std::string path) const {
    for (size_t open = path.find('['); open != std::string::npos; open = path.find('['))
      path.erase(open, path.find(']', open) + 1 - open);
    return fields_.find_path(path);
  }

  Experiment defaults_;
  Fields fields_;
};

// Of two lists of objects of one length: the first element that differs.
std::optional<size_t> only_other_element(const Json& stored, const Json& current) {
  if (stored.size() != current.size()) return std::nullopt;
  for (size_t i = 0; i < stored.size(); ++i)
    if (stored[i] != current[i])
      return stored[i].is_object() && current[i].is_object() ? std::optional(i) : std::nullopt;
  return std::nullopt;
}

// A key that `stored` lacks was not there yet in the version that wrote it, which did what is the default now.
std::optional<ConfigDifference> difference(const Keys& keys, const Json& stored, const Json& current,
                                           const std::string& path) {
  if (stored == current || keys.may_change(path)) return std::nullopt;
  if (stored.is_null() && current.is_object()) return difference(keys, Json::object(), current, path);
  if (stored.is_null() && current == keys.default_of(path)) return std::nullopt;
  if (stored.is_array() && current.is_array())
    if (const auto at = only_other_element(stored, current))
      return difference(keys, stored[*at], current[*at], path + "[" + std::to_string(*at) + "]");
  if (!stored.is_object() || !current.is_object()) return ConfigDifference{path, stored, current};
  for (const auto& [key, value] : current.items()) {
    if (auto found = difference(keys, member(stored, key), value, join(path, key))) return found;
  }
  for (const auto& [key, value] : stored.items()) {
    if (current.contains(key)) continue;
    if (auto found = difference(keys, value, Json(), join(path, key))) return found;
  }
  return std::nullopt;
}

// Puts the values of `from` that `taken(field, value)` says in the place of those in `to`, group by group and list by
// list.
template <class Taken>
void take_values(const Fields& fields, const Json& from, Json& to, Taken taken) {
  for (const auto& field : fields.list()) {
    if (!from.is_object() || !to.is_object() || !from.contains(field->name) || !to.contains(field->name)) continue;
    const Json& source = from[field->name];
    Json& place = to[field->name];
    if (taken(*field, source)) place = source;
    else if (field->group && source.is_array() && place.is_array() && source.size() == place.size())
      for (size_t i = 0; i < place.size(); ++i) take_values(*field->group, source[i], place[i], taken);
    else if (field->group) take_values(*field->group, source, place, taken);
  }
}

// `stored` without what its run has filled in where `current` leaves it to the run.
Json as_given(const Keys& keys, Json stored, const Json& current) {
  take_values(keys.fields(), current, stored,
              [](const Field& field, const Json& value) { return field.filled && value.empty(); });
  return stored;
}

}  // namespace

// Of a list, and of an object beside one, the types are enough: `["vga", "softmax" x 3]`.
std::string config_value_text(const Json& value) {
  if (value.is_null()) return "the default";
  if (value.is_object() && value.contains("type")) return value["type"].dump();
  const bool of_types =
      value.is_array() && !value.empty() &&
      std::all_of(value.begin(), value.end(), [](const Json& one) { return one.is_object() && one.contains("type"); });
  if (!of_types) return value.dump();
  std::vector<std::string> texts;
  for (const Json& one : value) {
    const Json repeat = one.value("repeat", Json(1));
    texts.push_back(one["type"].dump() + (repeat == 1 ? "" : " x " + repeat.dump()));
  }
  return fmt::format("[{}]", fmt::join(texts, ", "));
}

Json with_paths_of(const Json& config, Json stored) {
  take_values(Keys().fields(), config, stored, [](const Field& field, const Json&) { return field.is_path; });
  return stored;
}

std::optional<ConfigDifference> experiment_difference(const Json& stored, const Json& current) {
  const Keys keys;
  return difference(keys, as_given(keys, stored, current), current, "");
}

// What is dropped while it learns makes no other model.
Json model_of(const Json& config) {
  Json model = member(config, "model");
  if (model.is_object()) model.erase("dropout");
  return model;
}

void check_same_model(const Json& stored, const Json& current, const std::string& where) {
  const auto found = difference(Keys(), model_of(stored), model_of(current), "model");
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
