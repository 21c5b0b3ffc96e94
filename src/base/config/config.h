// Config fields: one list per config struct gives parsing, checks, the resolved dump, JSON Schema and documentation.
//
//   struct ModelConfig {
//     int64_t layers = 12;
//     void describe(Fields& f) { f.add("layers", layers, "transformer blocks").range(1, 1000); }
//   };
//
// The member's initial value is the default. Parsing is strict: an unknown key is a UserError that names the nearest
// real key. Where a group has a "type" field, a bare string is short for {"type": string}; see expand in add_group.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace sluice {

using Json = nlohmann::ordered_json;

class Fields;

// The values of an enum as configs write them: kAll, an array of {name, value}. A field of such an enum takes these
// names and no others.
template <class Enum>
struct ChoiceNames;

template <class Enum>
struct Choice {
  const char* name;
  Enum value;
};

template <class Enum>
concept IsChoice = requires {
  ChoiceNames<Enum>::kAll;
};

template <IsChoice Enum>
const char* choice_name(Enum value) {
  for (const auto& choice : ChoiceNames<Enum>::kAll)
    if (choice.value == value) return choice.name;
  return "";
}

// In JSON it is the name too; a plain enum would be a number there.
template <IsChoice Enum>
void to_json(Json& out, Enum value) {
  out = choice_name(value);
}

struct Field {
  enum class Kind { kInteger, kNumber, kBoolean, kString, kNumberList, kIntegerList, kStringList, kGroup, kGroupList };

  std::string name, help;
  Kind kind = Kind::kString;
  Json default_value;
  std::optional<double> minimum, maximum;  // inclusive unless open_*; of a list: of every element
  bool open_minimum = false, open_maximum = false;
  std::vector<std::string> choices;      // of a string, or of a list's elements; empty: any
  std::optional<size_t> count;           // of a list: its length
  std::string when_key;                  // the field applies only when this sibling ...
  std::vector<std::string> when_values;  // ... has one of these values
  std::function<void(const Json&)> set;  // the value's type has been checked
  std::function<Json()> get;
  std::shared_ptr<Fields> group;  // kGroup; of kGroupList those of an element, with its default values
  // kGroupList, and kGroup where a list of such objects may stand in its place.
  std::function<void(const Json&, const std::string& path)> parse_list;
  std::shared_ptr<Fields> element;  // kGroup with parse_list: an element's fields
  std::optional<Json> unwritten;    // a value with which a dump does not have it
  // What two configs may differ in and yet ask for the same results: how the work is done, or what is written of it. Of
  // a group: all of it.
  bool of_the_work = false;
  bool is_path = false;  // names files, which may lie elsewhere and be the same
  bool filled = false;   // a list that a run fills in where it is empty

  Field& range(double low, double high);  // low <= value <= high; either may be infinite
  Field& above(double low);               // low < value
  Field& below(double high);              // value < high
  Field& one_of(std::vector<std::string> values);
  Field& exactly(size_t elements);  // the length of a list
  Field& when(std::string key, std::vector<std::string> values);
  Field& not_written_as(Json value) { return unwritten = std::move(value), *this; }
  Field& may_change() { return of_the_work = true, *this; }
  Field& path() { return is_path = true, *this; }
  Field& filled_by_run() { return filled = true, *this; }
};

class Fields {
 public:
  using Expand = std::function<Json(const Json&, const std::string& path)>;

  Field& add(std::string name, int64_t& value, std::string help);
  Field& add(std::string name, uint64_t& value, std::string help);
  Field& add(std::string name, double& value, std::string help);
  Field& add(std::string name, bool& value, std::string help);
  Field& add(std::string name, std::string& value, std::string help);
  Field& add(std::string name, std::vector<double>& value, std::string help);
  Field& add(std::string name, std::vector<int64_t>& value, std::string help);
  Field& add(std::string name, std::vector<std::string>& value, std::string help);
  template <IsChoice Enum>
  Field& add(std::string name, Enum& value, std::string help) {
    std::vector<std::string> names;
    for (const auto& choice : ChoiceNames<Enum>::kAll) names.push_back(choice.name);
    return push_choice(
        std::move(name), std::move(help), std::move(names),
        [&value](const std::string& given) {
          for (const auto& choice : ChoiceNames<Enum>::kAll)
            if (given == choice.name) value = choice.value;
        },
        [&value] { return choice_name(value); });
  }

  // A nested object. `expand` rewrites the user's JSON (a preset's name, shortcuts) into the group's own fields
  // before they are parsed; it throws UserError on nonsense. It always gets an object (a bare string arrives as
  // {"type": string}) with no keys but fields, declared shortcuts and "type". Its result must expand to itself, so
  // that a dump can be read again.
  template <class Config>
  Field& add_group(std::string name, Config& config, std::string help, Expand expand = nullptr) {
    auto inner = std::make_shared<Fields>();
    config.describe(*inner);
    inner->expand_ = std::move(expand);
    return push_group(std::move(name), std::move(help), std::move(inner));
  }

  // A list of objects, each with the fields of Config. Where a file names the list it replaces it whole.
  template <class Config>
  Field& add_list(std::string name, std::vector<Config>& configs, std::string help) {
    return push_list(std::move(name), std::move(help), element_fields<Config>(nullptr), parse_into(configs, nullptr),
                     dump_of(configs));
  }

  // A nested object as in add_group; or a list of such objects, each with the fields of Element, which has those of
  // Config and more. One of the two is written, and the other then is as it was made.
  template <class Config, class Element>
  Field& add_group_or_list(std::string name, Config& config, std::vector<Element>& configs, std::string help,
                           Expand expand) {
    Field& field = add_group(std::move(name), config, std::move(help), expand);
    field.element = element_fields<Element>(expand);
    field.parse_list = parse_into(configs, expand);
    field.get = [&configs, one = field.get, list = dump_of(configs)] { return configs.empty() ? one() : list(); };
    return field;
  }

  // Reads `json` into the bound members; one that is not named keeps its value. `path` names the place in messages
  // ("model.attention"; empty at the root). UserError on the first thing that is wrong.
  void parse(const Json& json, const std::string& path) const;
  Json dump() const;    // every field that applies, in declaration order
  Json schema() const;  // JSON Schema (draft 2020-12) of this object
  // Markdown: a table of this object's keys, then a section for each group and list in it. `path` is "" at the root.
  std::string reference(const std::string& path) const;
  const std::vector<std::unique_ptr<Field>>& list() const { return fields_; }
  const Field* find(const std::string& name) const;
  const Field* find_path(const std::string& path) const;  // "train.optimizer.lr"; null where there is no such key
  bool knows(const std::string& name) const;              // a field, or a key that only `expand` understands
  bool accepts_string() const;                            // a bare string is short for {"type": string}
  // Schema of keys that only `expand` understands (a group's shortcuts).
  void add_shortcut(std::string name, Json schema, std::string help);

 private:
  Field& push_choice(std::string name, std::string help, std::vector<std::string> names,
                     std::function<void(const std::string&)> set, std::function<std::string()> get);
  // An element's fields, bound to one with the default values.
  template <class Config>
  static std::shared_ptr<Fields> element_fields(Expand expand) {
    auto element = std::make_shared<std::pair<Config, Fields>>();
    element->first.describe(element->second);
    element->second.expand_ = std::move(expand);
    return {element, &element->second};
  }
  template <class Config>
  static std::function<void(const Json&, const std::string&)> parse_into(std::vector<Config>& configs, Expand expand) {
    return [&configs, expand](const Json& list, const std::string& path) {
      std::vector<Config> read(list.size());
      for (size_t i = 0; i < read.size(); ++i) {
        Fields fields;
        read[i].describe(fields);
        fields.expand_ = expand;
        fields.parse(list[i], path + "[" + std::to_string(i) + "]");
      }
      configs = std::move(read);
    };
  }
  template <class Config>
  static std::function<Json()> dump_of(std::vector<Config>& configs) {
    return [&configs] {
      Json list = Json::array();
      for (Config& config : configs) {
        Fields fields;
        config.describe(fields);
        list.push_back(fields.dump());
      }
      return list;
    };
  }
  Field& push(Field field);
  Field& push_group(std::string name, std::string help, std::shared_ptr<Fields> inner);
  Field& push_list(std::string name, std::string help, std::shared_ptr<Fields> element,
                   std::function<void(const Json&, const std::string&)> parse, std::function<Json()> dump);
  std::string more_keys(const Fields& group, const std::string& path) const;
  bool applies(const Field& field) const;
  const Json* shortcut_schema(const std::string& name) const;
  void check_keys(const Json& json, const std::string& path, bool expanded) const;
  void parse_known(const Json& json, const std::string& path) const;
  void parse_field(const Field& field, const Json& value, const std::string& path) const;
  std::string suggestion(const std::string& word, const std::string& path) const;
  std::string find_below(const std::string& name) const;
  Json group_schema() const;

  std::vector<std::unique_ptr<Field>> fields_;
  struct Shortcut {
    std::string name, help;
    Json schema;
  };
  std::vector<Shortcut> shortcuts_;
  Expand expand_;
};

// The candidate with the smallest edit distance to `word`; empty if none is near.
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);
// The choice that other programs call so ("gpu" for "cuda"), else the nearest.
std::string meant(const std::string& word, const std::vector<std::string>& choices);

// The JSON Schema of a whole config file: schema() with the keys "base" and "$schema" that a file may have.
Json file_schema(const Fields& fields);

// A config file as it stands; "base" and "$schema" are taken out.
struct ConfigFile {
  std::string path;
  Json json;
};

// Reads a config file and the chain of its "base" files (relative to the file that names them), the innermost first.
// Throws UserError on a loop or a missing file.
std::vector<ConfigFile> read_config_files(const std::string& path);

}  // namespace sluice
