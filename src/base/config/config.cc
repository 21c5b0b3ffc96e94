// Strict parsing and the resolved dump of config fields. What a value must be is in field_check.cc, schema and
// documentation are in config_schema.cc, files and overrides in config_file.cc.
#include "base/config/config.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/config/field_check.h"
#include "base/config/json_reader.h"
#include "base/error.h"
#include "base/limits.h"

namespace sluice {
namespace {

using Kind = Field::Kind;

constexpr size_t kMostElements = 1000;  // of a list in the place of an object: as many as there are layers

std::string join(const std::string& path, const std::string& name) { return path.empty() ? name : path + "." + name; }

// "softmax", or one of several.
std::string any_of_text(const std::vector<std::string>& values) {
  return (values.size() > 1 ? "one of " : "") + quoted_list(values);
}

// A value that may decide whether siblings apply, as the text that Field::when_values holds.
std::string as_text(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

}  // namespace

// ---- Field ---------------------------------------------------------------------------------------------------------

Field& Field::range(double low, double high) {
  if (std::isfinite(low)) minimum = low, open_minimum = false;
  if (std::isfinite(high)) maximum = high, open_maximum = false;
  return *this;
}

Field& Field::above(double low) { return minimum = low, open_minimum = true, *this; }
Field& Field::below(double high) { return maximum = high, open_maximum = true, *this; }
Field& Field::one_of(std::vector<std::string> values) { return choices = std::move(values), *this; }
Field& Field::exactly(size_t elements) { return count = elements, *this; }

Field& Field::when(std::string key, std::vector<std::string> values) {
  return when_key = std::move(key), when_values = std::move(values), *this;
}

// ---- Fields: the list ----------------------------------------------------------------------------------------------

Field& Fields::push(Field field) {
  check(find(field.name) == nullptr, "two config fields have the same name");
  fields_.push_back(std::make_unique<Field>(std::move(field)));
  return *fields_.back();
}

namespace {

// The part of a field that is the same for every type. `value` outlives the field.
template <class T>
Field bind(std::string name, std::string help, Kind kind, T& value) {
  Field field;
  field.name = std::move(name), field.help = std::move(help), field.kind = kind, field.default_value = value;
  field.set = [&value](const Json& json) { value = json.get<T>(); };
  field.get = [&value] { return Json(value); };
  return field;
}

}  // namespace

Field& Fields::push_choice(std::string name, std::string help, std::vector<std::string> names,
                           std::function<void(const std::string&)> set, std::function<std::string()> get) {
  Field field;
  field.name = std::move(name), field.help = std::move(help), field.kind = Kind::kString;
  field.choices = std::move(names), field.default_value = get();
  field.set = [set = std::move(set)](const Json& json) { set(json.get<std::string>()); };
  field.get = [get = std::move(get)] { return Json(get()); };
  return push(std::move(field));
}

Field& Fields::add(std::string name, int64_t& value, std::string help) {
  return push(bind(std::move(name), std::move(help), Kind::kInteger, value));
}

Field& Fields::add(std::string name, uint64_t& value, std::string help) {
  return push(bind(std::move(name), std::move(help), Kind::kInteger, value)).range(0, INFINITY);
}

Field& Fields::add(std::string name, double& value, std::string help) {
  return push(bind(std::move(name), std::move(help), Kind::kNumber, value));
}

Field& Fields::add(std::string name, bool& value, std::string help) {
  return push(bind(std::move(name), std::move(help), Kind::kBoolean, value));
}

Field& Fields::add(std::string name, std::string& value, std::string help) {
  return push(bind(std::move(name), std::move(help), Kind::kString, value));
}

Field& Fields::add(std::string name, std::vector<double>& value, std::string help) {
  return push(bind(std::move(name), std::move(help), Kind::kNumberList, value));
}

Field& Fields::add(std::string name, std::vector<int64_t>& value, std::string help) {
  return push(bind(std::move(name), std::move(help), Kind::kIntegerList, value));
}

Field& Fields::add(std::string name, std::vector<std::string>& value, std::string help) {
  return push(bind(std::move(name), std::move(help), Kind::kStringList, value));
}

Field& Fields::push_group(std::string name, std::string help, std::shared_ptr<Fields> inner) {
  Field field;
  field.name = std::move(name), field.help = std::move(help), field.kind = Kind::kGroup;
  field.get = [inner] { return inner->dump(); };
  field.group = std::move(inner);
  field.default_value = field.get();
  return push(std::move(field));
}

Field& Fields::push_list(std::string name, std::string help, std::shared_ptr<Fields> element,
                         std::function<void(const Json&, const std::string&)> parse, std::function<Json()> dump) {
  Field field;
  field.name = std::move(name), field.help = std::move(help), field.kind = Kind::kGroupList;
  field.get = std::move(dump), field.parse_list = std::move(parse);
  field.group = std::move(element);
  field.default_value = field.get();
  return push(std::move(field));
}

void Fields::add_shortcut(std::string name, Json schema, std::string help) {
  shortcuts_.push_back({std::move(name), std::move(help), std::move(schema)});
}

const Field* Fields::find(const std::string& name) const {
  for (const auto& field : fields_) {
    if (field->name == name) return field.get();
  }
  return nullptr;
}

const Field* Fields::find_path(const std::string& path) const {
  const size_t dot = path.find('.');
  const Field* field = find(path.substr(0, dot));
  if (!field || dot == std::string::npos) return field;
  return field->kind == Kind::kGroup ? field->group->find_path(path.substr(dot + 1)) : nullptr;
}

bool Fields::knows(const std::string& name) const { return find(name) || shortcut_schema(name); }

const Json* Fields::shortcut_schema(const std::string& name) const {
  for (const Shortcut& shortcut : shortcuts_) {
    if (shortcut.name == name) return &shortcut.schema;
  }
  return nullptr;
}

// A field applies where its condition holds and, in turn, the field it depends on applies.
bool Fields::applies(const Field& field) const {
  if (field.when_key.empty()) return true;
  const Field* sibling = find(field.when_key);
  check(sibling != nullptr, "a config field depends on a sibling that does not exist");
  const std::string value = as_text(sibling->get());
  return std::count(field.when_values.begin(), field.when_values.end(), value) > 0 && applies(*sibling);
}

bool Fields::accepts_string() const { return find("type") || shortcut_schema("type") || expand_; }

// ---- Fields: parsing -----------------------------------------------------------------------------------------------

void Fields::parse(const Json& json, const std::string& path) const {
  const Json full = json.is_string() && accepts_string() ? Json{{"type", json}} : json;
  check_kind(full, Kind::kGroup, path.empty() ? "the config" : path);
  check_keys(full, path, false);
  if (expand_) {
    const Json expanded = expand_(full, path);
    check_keys(expanded, path, true);
    return parse_known(expanded, path);
  }
  parse_known(full, path);
}

// Fields that others depend on come first, so that the others know whether they apply.
void Fields::parse_known(const Json& json, const std::string& path) const {
  for (const bool dependent : {false, true}) {
    for (const auto& field : fields_) {
      if (field->when_key.empty() == dependent || !json.contains(field->name)) continue;
      parse_field(*field, json[field->name], join(path, field->name));
    }
  }
}

void Fields::parse_field(const Field& field, const Json& value, const std::string& path) const {
  if (!applies(field)) {
    const std::string group = path.substr(0, path.size() - field.name.size());
    throw UserError("{} applies only when {}{} is {}, but it is {}", path, group, field.when_key,
                    any_of_text(field.when_values), find(field.when_key)->get().dump());
  }
  const bool list = field.parse_list && (value.is_array() || field.kind == Kind::kGroupList);
  if (list) {
    check_kind(value, Kind::kGroupList, path);
    if (field.element && (value.empty() || value.size() > kMostElements))
      throw UserError("{} is a list of {} elements: give one object, or a list of 1 to {}", path, value.size(),
                      kMostElements);
    return field.parse_list(value, path);
  }
  if (field.element) field.parse_list(Json::array(), path);
  if (field.kind == Kind::kGroup) return field.group->parse(value, path);
  check_value(field, value, path);
  field.set(value);
}

// Every key must be a field or, before the group's shortcuts have been expanded, one of them.
void Fields::check_keys(const Json& json, const std::string& path, bool expanded) const {
  for (const auto& [key, value] : json.items()) {
    const bool shortcut = !expanded && (shortcut_schema(key) || (expand_ && key == "type"));
    if (find(key) || shortcut) continue;
    throw UserError("unknown config key {}{}", join(path, excerpt(key, kMostQuoted)), suggestion(key, path));
  }
}

// "; did you mean ...?", or the keys that exist.
std::string Fields::suggestion(const std::string& word, const std::string& path) const {
  std::vector<std::string> names;
  for (const auto& field : fields_) names.push_back(field->name);
  for (const Shortcut& shortcut : shortcuts_) {
    if (!find(shortcut.name)) names.push_back(shortcut.name);
  }
  std::string near = find_below(word);
  if (near.empty()) near = nearest(word, names);
  if (!near.empty()) return fmt::format("; did you mean {}?", join(path, near));
  return fmt::format("; {} has {}", path.empty() ? "the config" : path, quoted_list(names));
}

// The path, from here, of a field of this name in a group below; empty if there is none.
std::string Fields::find_below(const std::string& name) const {
  for (const auto& field : fields_) {
    if (field->kind != Kind::kGroup) continue;
    if (field->group->find(name)) return join(field->name, name);
    const std::string deeper = field->group->find_below(name);
    if (!deeper.empty()) return join(field->name, deeper);
  }
  return "";
}

Json Fields::dump() const {
  Json json = Json::object();
  for (const auto& field : fields_) {
    if (!applies(*field)) continue;
    Json value = field->get();
    if (value != field->unwritten) json[field->name] = std::move(value);
  }
  return json;
}

}  // namespace sluice
