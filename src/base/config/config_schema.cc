// What a config's fields say about themselves: JSON Schema (draft 2020-12) for editors, Markdown for docs/config.md.
#include <cmath>
#include <stdexcept>
#include <utility>

#include "base/config/config.h"
#include "base/error.h"

namespace sluice {
namespace {

using Kind = Field::Kind;

void add_limits(const Field& field, Json& schema) {
  if (field.minimum) schema[field.open_minimum ? "exclusiveMinimum" : "minimum"] = *field.minimum;
  if (field.maximum) schema[field.open_maximum ? "exclusiveMaximum" : "maximum"] = *field.maximum;
}

// Limits of integers are written as integers: 1, not 1.0.
Json whole_numbers(Json schema) {
  for (auto& [key, value] : schema.items()) {
    if (value.is_number_float() && std::abs(value.get<double>()) <= 0x1p53) value = int64_t(value.get<double>());
  }
  return schema;
}

Json scalar_schema(const Field& field, Kind kind) {
  switch (kind) {
    case Kind::kInteger: {
      Json schema{{"type", "integer"}};
      add_limits(field, schema);
      return whole_numbers(schema);
    }
    case Kind::kNumber: {
      Json schema{{"type", "number"}};
      add_limits(field, schema);
      return schema;
    }
    case Kind::kBoolean: return {{"type", "boolean"}};
    default: {
      Json schema{{"type", "string"}};
      if (!field.choices.empty()) schema["enum"] = field.choices;
      return schema;
    }
  }
}

Json list_schema(const Field& field, Kind element) {
  Json schema{{"type", "array"}, {"items", scalar_schema(field, element)}};
  if (field.count) schema["minItems"] = schema["maxItems"] = *field.count;
  return schema;
}

Json value_schema(const Field& field) {
  switch (field.kind) {
    case Kind::kNumberList: return list_schema(field, Kind::kNumber);
    case Kind::kIntegerList: return list_schema(field, Kind::kInteger);
    case Kind::kStringList: return list_schema(field, Kind::kString);
    default: return scalar_schema(field, field.kind);
  }
}

Json described(Json schema, const std::string& help) {
  if (!help.empty()) schema["description"] = help;
  return schema;
}

// Booleans are kept as text in Field::when_values.
Json condition_values(const Field& field, const Field& sibling) {
  Json values = Json::array();
  for (const std::string& text : field.when_values) {
    values.push_back(sibling.kind == Kind::kString ? Json(text) : Json::parse(text));
  }
  return values;
}

// What `one` allows, or a list of `element`.
Json or_list(Json one, Json element) {
  Json list{{"type", "array"}, {"items", std::move(element)}, {"minItems", 1}, {"maxItems", 1000}};
  if (one.contains("anyOf")) {
    one["anyOf"].push_back(std::move(list));
    return one;
  }
  return {{"anyOf", {std::move(one), std::move(list)}}};
}

std::string escaped(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.insert(at, "\\");
  return text;
}

std::string code_list(const Json& values) {
  std::string text;
  for (const Json& value : values) {
    text +=
        fmt::format("{}`{}`", text.empty() ? "" : ", ", value.is_string() ? value.get<std::string>() : value.dump());
  }
  return text;
}

const char* type_name(Kind kind) {
  switch (kind) {
    case Kind::kInteger: return "integer";
    case Kind::kNumber: return "number";
    case Kind::kBoolean: return "boolean";
    case Kind::kString: return "string";
    case Kind::kNumberList: return "list of numbers";
    case Kind::kIntegerList: return "list of integers";
    case Kind::kStringList: return "list of strings";
    case Kind::kGroup: return "object";
    case Kind::kGroupList: return "list of objects";
  }
  throw std::logic_error("unknown field kind");
}

std::string limits_cell(const Field& field) {
  std::string text = field.choices.empty() ? "" : code_list(field.choices);
  const auto add = [&](const std::string& more) { text += (text.empty() ? "" : ", ") + more; };
  if (field.minimum) add(fmt::format("{} {}", field.open_minimum ? ">" : "≥", *field.minimum));
  if (field.maximum) add(fmt::format("{} {}", field.open_maximum ? "<" : "≤", *field.maximum));
  if (field.count) add(fmt::format("{} elements", *field.count));
  return text;
}

std::string row(const std::string& key, const std::string& type, const std::string& default_value,
                const std::string& limits, const std::string& help) {
  return fmt::format("| `{}` | {} | {} | {} | {} |\n", key, type, default_value, limits, escaped(help));
}

std::string field_row(const Field& field, const std::string& path) {
  std::string help = field.help;
  if (!field.when_key.empty()) {
    help += fmt::format(" (only when `{}` is {})", field.when_key, code_list(field.when_values));
  }
  if (field.of_the_work) help += "; may be another when a run goes on";
  if (field.is_path) help += "; may be another when a run goes on, if what is there is the same";
  if (field.group) {
    help += fmt::format("; see `{}` below", path);
    return row(field.name, field.element ? "object, or a list of these" : type_name(field.kind), "", "", help);
  }
  return row(field.name, type_name(field.kind), fmt::format("`{}`", field.default_value.dump()), limits_cell(field),
             help);
}

}  // namespace

Json Fields::schema() const {
  Json properties = Json::object();
  Json conditions = Json::array();
  for (const auto& field : fields_) {
    Json schema = field->group ? field->group->group_schema() : value_schema(*field);
    if (field->kind == Kind::kGroupList) schema = {{"type", "array"}, {"items", std::move(schema)}};
    if (field->element) schema = or_list(std::move(schema), field->element->group_schema());
    if (field->kind != Kind::kGroup) schema["default"] = field->default_value;
    properties[field->name] = described(std::move(schema), field->help);
    if (field->when_key.empty()) continue;
    // Only where the sibling is spelled out: a file may leave it to its base.
    const Json other = {{"not", {{"enum", condition_values(*field, *find(field->when_key))}}}};
    conditions.push_back({{"if", {{"properties", {{field->when_key, other}}}, {"required", {field->when_key}}}},
                          {"then", {{"properties", {{field->name, false}}}}}});
  }
  for (const Shortcut& shortcut : shortcuts_) properties[shortcut.name] = described(shortcut.schema, shortcut.help);
  Json schema{{"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
  if (!conditions.empty()) schema["allOf"] = std::move(conditions);
  return schema;
}

// As schema(), or the bare string that is short for {"type": string}.
Json Fields::group_schema() const {
  Json object = schema();
  if (!accepts_string() || !object["properties"].contains("type")) return object;
  Json word = object["properties"]["type"];
  word.erase("default");
  return {{"anyOf", {std::move(word), std::move(object)}}};
}

std::string Fields::reference(const std::string& path) const {
  std::string text = path.empty() ? "" : fmt::format("## `{}`\n\n", path);
  text += "| Key | Type | Default | Limits | Meaning |\n|---|---|---|---|---|\n";
  const auto path_of = [&](const Field& field) {
    return (path.empty() ? "" : path + ".") + field.name + (field.kind == Kind::kGroupList ? "[]" : "");
  };
  for (const auto& field : fields_) text += field_row(*field, path_of(*field));
  for (const Shortcut& shortcut : shortcuts_) {
    const Json choices = shortcut.schema.value("enum", Json::array());
    text += row(shortcut.name, shortcut.schema.value("type", "any"), "", code_list(choices), shortcut.help);
  }
  if (!path.empty() && accepts_string()) text += fmt::format("\nA bare string is short for `{{\"type\": string}}`.\n");
  for (const auto& field : fields_) {
    if (field->group) text += "\n" + field->group->reference(path_of(*field));
    if (field->element) text += "\n" + field->element->more_keys(*field->group, path_of(*field));
  }
  return text;
}

// What the element of a list has that an object in its place has not.
std::string Fields::more_keys(const Fields& group, const std::string& path) const {
  std::string text =
      fmt::format("An element of a list at `{}` may be a bare string too, and has besides these keys:\n\n", path);
  text += "| Key | Type | Default | Limits | Meaning |\n|---|---|---|---|---|\n";
  for (const auto& field : fields_)
    if (!group.find(field->name)) text += field_row(*field, path + "[]." + field->name);
  return text;
}

Json file_schema(const Fields& fields) {
  Json schema = fields.schema();
  Json properties;
  properties["$schema"] = {{"type", "string"}, {"description", "this schema, for editors"}};
  properties["base"] = {{"type", "string"},
                        {"description", "a config file to inherit from, relative to this one; keys here override it"}};
  properties.update(schema["properties"]);
  schema["properties"] = std::move(properties);
  Json file{{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", "Sluice experiment"}};
  file.update(schema);
  return file;
}

}  // namespace sluice
