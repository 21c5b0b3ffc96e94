// Layers laid over each other key by key; a key without use is told with both places (config_layers.h).
#include "base/config/config_layers.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <set>
#include <utility>

#include "base/config/json_reader.h"
#include "base/config/json_text.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/utf8.h"

namespace sluice {
namespace {

std::string join(const std::string& path, const std::string& key) { return path.empty() ? key : path + "." + key; }

// {"a": {"b": value}} for the path "a.b".
Json nested(const std::string& path, Json value) {
  size_t end = path.size();
  while (end > 0) {
    const size_t dot = path.rfind('.', end - 1);
    const size_t begin = dot == std::string::npos ? 0 : dot + 1;
    value = Json{{path.substr(begin, end - begin), std::move(value)}};
    end = dot == std::string::npos ? 0 : dot;
  }
  return value;
}

// Calls visit(path, value) for everything that is no object.
template <class Visit>
void each_leaf(const Json& json, const std::string& path, const Visit& visit) {
  if (!json.is_object() || json.empty()) return visit(path, json);
  for (const auto& [key, value] : json.items()) each_leaf(value, join(path, key), visit);
}

void erase_leaf(Json& json, const std::string& path) {
  const size_t dot = path.find('.');
  if (dot == std::string::npos) json.erase(path);
  else erase_leaf(json[path.substr(0, dot)], path.substr(dot + 1));
}

// The object's "type"; "" without one.
std::string type_in(const Json& group) {
  const auto found = group.find("type");
  return found != group.end() && found->is_string() ? found->get<std::string>() : "";
}

// Types by their depth, then everything else.
long rank(const std::string& key) {
  const long depth = std::count(key.begin(), key.end(), '.');
  return key.ends_with(".type") ? depth : std::numeric_limits<long>::max();
}

struct Assignment {
  std::string key, value;
};

Assignment parsed(const std::string& text) {
  const size_t equals = text.find('=');
  const std::string key = text.substr(0, equals);
  const bool empty_part = key.empty() || key.front() == '.' || key.back() == '.' || key.find("..") != std::string::npos;
  if (equals == std::string::npos || empty_part)
    throw UserError("--set takes key=value with a dotted key, such as train.steps=100, got \"{}\"", text);
  // Groups lie in one another as they do in a file.
  if (std::count(key.begin(), key.end(), '.') >= kMaxJsonDepth)
    throw UserError("--set {}: the key has more than {} parts", excerpt(text, kMostQuoted), kMaxJsonDepth);
  if (scan_utf8(text).valid != text.size()) throw UserError("--set {}: this is not valid UTF-8", text);
  return {key, text.substr(equals + 1)};
}

// A number beyond a double, such as 1e400.
bool is_too_large(const std::string& text) {
  const size_t sign = text.starts_with('-') ? 1 : 0;
  if (text.size() == sign || text[sign] < '0' || text[sign] > '9') return false;
  char* end = nullptr;
  return std::isinf(std::strtod(text.c_str(), &end)) && *end == '\0';
}

// What looks like the start of JSON must be JSON; anything else may be a plain word.
Json override_value(const Field* field, const std::string& key, const std::string& text, const std::string& place) {
  const bool quoted = !text.empty() && text[0] == '"';
  const bool takes_back = text == "null" && field && !field->choices.empty();  // no choice is called so
  if (field && field->kind == Field::Kind::kString && !quoted && !takes_back) return text;
  try {
    return parse_json(text, place);
  } catch (const JsonError& error) {
    if (is_too_large(text)) throw UserError("{}: {}", place, error.why());
    if (!quoted && (text.empty() || (text[0] != '{' && text[0] != '['))) return text;
    const std::string line = error.line() > 1 ? fmt::format("line {}, ", error.line()) : "";
    throw UserError("--set {}: the value \"{}\" is not valid JSON at {}character {}: {}", key,
                    excerpt(text, kMostQuoted), line, error.column(), error.why());
  }
}

}  // namespace

// ---- layers ---------------------------------------------------------------------------------------------------------

void ConfigLayers::add_files(const std::string& path) {
  for (const ConfigFile& file : read_config_files(path)) add(file.json, file.path);
}

void ConfigLayers::add(const Json& layer, const std::string& place) {
  check_key_count(layer, place);
  lay(json_, layer, "", place);
}

void ConfigLayers::add_overrides(const std::vector<std::string>& assignments) {
  std::map<std::string, std::pair<Json, std::string>> leaves;
  for (const std::string& text : assignments) {
    const Assignment one = parsed(text);
    const std::string place = "--set " + text;
    Json value = override_value(fields_.find_path(one.key), one.key, one.value, place);
    const bool shorthand = value.is_string() && is_typed_group(one.key);
    const std::string root = shorthand ? join(one.key, "type") : one.key;
    each_leaf(value, root, [&](const std::string& key, const Json& leaf) {
      const auto [there, is_new] = leaves.try_emplace(key, leaf, place);
      if (is_new || there->second.first == leaf) return;
      notes_.push_back(fmt::format("{} counts, and not {}", place, there->second.second));
      there->second = {leaf, place};
    });
  }
  std::vector<const decltype(leaves)::value_type*> order;
  for (const auto& entry : leaves) {
    const auto below = leaves.lower_bound(entry.first + ".");
    if (below != leaves.end() && below->first.starts_with(entry.first + ".") && !entry.second.first.is_null())
      throw UserError("{} and {} contradict each other: the first makes {} a value", entry.second.second,
                      below->second.second, entry.first);
    order.push_back(&entry);
  }
  // What is taken back, then outer types first: a type is no later change of what is set beside it.
  const auto rank_of = [](const auto* entry) { return entry->second.first.is_null() ? -1 : rank(entry->first); };
  std::stable_sort(order.begin(), order.end(), [&](const auto* a, const auto* b) { return rank_of(a) < rank_of(b); });
  for (const auto* entry : order) add(nested(entry->first, entry->second.first), entry->second.second);
}

void ConfigLayers::lay(Json& config, const Json& top, const std::string& path, const std::string& place) {
  if (top.is_string() && config.is_object() && is_typed_group(path))
    return lay_object(config, Json{{"type", top}}, path, place);
  if (!top.is_object()) return replace(config, top, path, place);
  if (config.is_string() && is_typed_group(path)) {
    const auto string_place = places_.extract(path);
    config = Json{{"type", config}};
    if (string_place) places_[join(path, "type")] = string_place.mapped();
  }
  if (config.is_array() && takes_list(path) && type_in(top).empty()) {
    if (top.empty()) return;
    const std::string* there = place_of(path);
    throw UserError(
        "{} is a list ({}), and {} ({}) does not say of which in it: give the whole list, or a type in its place", path,
        there ? *there : "its default", join(path, top.begin().key()), place);
  }
  if (!config.is_object()) {
    forget(path);
    config = Json::object();
  }
  lay_object(config, top, path, place);
}

void ConfigLayers::lay_object(Json& config, const Json& top, const std::string& path, const std::string& place) {
  if (const std::string type = type_in(top); !type.empty() && is_typed_group(path))
    change_type(config, type, path, place);
  for (const auto& [key, value] : top.items()) {
    const std::string inner = join(path, key);
    if (value.is_null()) {
      config.erase(key);
      forget(inner);
    } else {
      lay(config[key], value, inner, place);
    }
  }
}

void ConfigLayers::replace(Json& config, const Json& top, const std::string& path, const std::string& place) {
  forget(path);
  config = top;
  places_[path] = place;
}

void ConfigLayers::forget(const std::string& path) {
  places_.erase(path);
  places_.erase(places_.lower_bound(path + "."), places_.lower_bound(path + "/"));  // the character after the dot
}

bool ConfigLayers::is_typed_group(const std::string& path) const {
  const Field* field = fields_.find_path(path);
  return field && field->kind == Field::Kind::kGroup && field->group->accepts_string();
}

bool ConfigLayers::takes_list(const std::string& path) const {
  const Field* field = fields_.find_path(path);
  return field && field->element;
}

// ---- another type ---------------------------------------------------------------------------------------------------

// Every key of the group at `path` where it is all that a config names.
ConfigLayers::Values ConfigLayers::values(const std::string& path, const Json& group) const {
  Json resolved = resolve_(nested(path, group));
  for (size_t begin = 0; begin <= path.size();) {
    const size_t dot = std::min(path.find('.', begin), path.size());
    const std::string key = path.substr(begin, dot - begin);
    // What is as it is where nobody names it may be left out of a dump (Field::not_written_as).
    resolved = resolved.contains(key) ? Json(resolved[key]) : fields_.find_path(path.substr(0, dot))->default_value;
    begin = dot + 1;
  }
  Values out;
  each_leaf(resolved, "", [&](const std::string& key, const Json& value) { out[key] = value; });
  return out;
}

// Nothing where these keys do not go together.
std::optional<ConfigLayers::Values> ConfigLayers::try_values(const std::string& path, const Json& group) const {
  try {
    return values(path, group);
  } catch (const UserError&) {
    return std::nullopt;
  }
}

void ConfigLayers::change_type(Json& config, const std::string& type, const std::string& path,
                               const std::string& place) {
  const Field& group = *fields_.find_path(path);
  const std::string named = type_in(config);
  const std::string former = named.empty() ? type_in(group.default_value) : named;
  if (former == type) return;
  const auto alone_before = try_values(path, {{"type", former}}), alone = try_values(path, {{"type", type}});
  if (!alone_before || !alone) return;  // no such type: reading the whole will say so
  const Json below = config;
  each_leaf(below, "", [&](const std::string& key, const Json& value) {
    if (key.empty() || key == "type" || !group.group->knows(key.substr(0, key.find('.')))) return;
    Json one = nested(key, value);
    one["type"] = former;
    const bool says_nothing = try_values(path, one) == alone_before;
    one["type"] = type;
    const auto kept = try_values(path, one);
    // What both types have, such as a learning rate, is kept even where it is the default.
    if (says_nothing && kept != alone) {
      erase_leaf(config, key);
      forget(join(path, key));
    } else if (kept) {
      check_may_stay({path, key, type, place}, *alone, *kept);
    }
  });
}

// Whether other keys of the same group depend on this one.
bool ConfigLayers::selects(const std::string& key) const {
  const size_t dot = key.rfind('.');
  const Field* group = fields_.find_path(key.substr(0, dot));
  const auto& siblings = group->group->list();
  return std::any_of(siblings.begin(), siblings.end(),
                     [&](const auto& field) { return field->when_key == key.substr(dot + 1); });
}

// A type that is a preset decides some keys itself. Where the layers below decided otherwise, neither may win in
// silence.
void ConfigLayers::check_may_stay(const Change& change, const Values& alone, const Values& kept) const {
  for (const auto& [name, value] : alone) {
    const auto found = kept.find(name);
    if (name == "type" || (found != kept.end() && found->second == value)) continue;
    const std::string decided = join(change.path, name);
    const Field* field = fields_.find_path(decided);
    if (field && field->default_value == value && !selects(decided)) continue;
    const std::string key = join(change.path, change.key);
    const std::string* there = place_of(key);
    throw UserError(
        "{} ({}) contradicts {}.type = \"{}\" ({}), which makes {} {}; take the first back with null, or give it "
        "beside the type",
        key, there ? *there : "its default", change.path, change.type, change.place, decided, value.dump());
  }
}

// ---- places in messages ---------------------------------------------------------------------------------------------

const std::string* ConfigLayers::place_of(const std::string& key) const {
  const auto found = places_.find(key);
  return found == places_.end() ? nullptr : &found->second;
}

// The keys that stand in the text and in a layer. A group's shortcut (attention.site) stands for attention.gate.site.
std::vector<std::string> ConfigLayers::keys_in(const std::string& complaint) const {
  std::vector<std::string> keys;
  const auto take = [&](const std::string& key) {
    if (place_of(key) && std::count(keys.begin(), keys.end(), key) == 0) keys.push_back(key);
  };
  const auto is_part = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '$';
  };
  const std::string text = complaint.substr(0, complaint.find("; did you mean"));
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin;
    while (end < text.size() && is_part(text[end])) ++end;
    std::string word = text.substr(begin, end - begin);
    while (word.ends_with('.')) word.pop_back();
    word.erase(0, word.find_first_not_of('.'));  // behind an index: "[1].score.type"
    const size_t leaf = word.rfind('.'),
                 group = leaf == std::string::npos || leaf == 0 ? leaf : word.rfind('.', leaf - 1);
    // A word without a dot is a key only where messages begin with one.
    if (leaf != std::string::npos || begin == 0 || text.substr(0, begin).ends_with("config key ")) take(word);
    if (group != std::string::npos && leaf != std::string::npos) {
      if (!place_of(word)) take(word.substr(0, group) + word.substr(leaf));
      for (size_t dot = leaf; dot != std::string::npos && dot > 0; dot = word.rfind('.', dot - 1)) {
        take(word.substr(0, dot) + ".type");
        take(word.substr(0, dot));
      }
    }
    begin = std::max(end, begin + 1);
  }
  return keys;
}

std::string ConfigLayers::with_places(const std::string& complaint) const {
  const std::vector<std::string> keys = keys_in(complaint);
  std::set<std::string> places;
  for (const std::string& key : keys) places.insert(*place_of(key));
  if (places.empty()) return complaint;
  if (places.size() == 1) return places.begin()->starts_with("--set ") ? complaint : *places.begin() + ": " + complaint;
  std::string list;
  for (const std::string& key : keys) list += fmt::format("{}{}: {}", list.empty() ? "" : "; ", key, *place_of(key));
  const bool of_another_type = complaint.find(" applies only when ") != std::string::npos;
  return fmt::format("{} ({}){}", complaint, list,
                     of_another_type ? fmt::format("; {} = null takes that key back", keys.front()) : "");
}

}  // namespace sluice
