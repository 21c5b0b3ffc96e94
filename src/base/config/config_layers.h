// A config put together from layers: the files of a "base" chain, what a sweep changes, and --set on top.
//
// Objects merge key by key, anything else is replaced; null takes a key back, as in JSON Merge Patch (RFC 7396). A bare
// string for a group with a "type" is short for {"type": string}; a list in a group's place is one value. Where a layer
// names another type than the layers below it, their keys stay if the new type has them. What cannot stay is an error
// that names both places, never dropped; only keys that say what the old type says by itself go with it.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/config/config.h"

namespace sluice {

class ConfigLayers {
 public:
  // All keys of a config that names only some. Throws UserError where they are wrong.
  using Resolve = std::function<Json(const Json&)>;

  // `fields` describes the whole config and outlives this.
  ConfigLayers(const Fields& fields, Resolve resolve) : fields_(fields), resolve_(std::move(resolve)) {}

  void add_files(const std::string& path);                // a config file and its bases
  void add(const Json& layer, const std::string& place);  // `place`: in messages, such as a file's path
  // "a.b.c=value" each; one layer, in which the order of different keys means nothing. Of two values for one key the
  // last counts, and a note says so. A value is JSON, or else a string; where the key takes a string it is taken as it
  // stands, unless in quotes.
  void add_overrides(const std::vector<std::string>& assignments);

  const std::vector<std::string>& notes() const { return notes_; }  // what a person should be told
  Json& json() { return json_; }
  const Json& json() const { return json_; }

  // An error about the config, with the file or option that each key in it comes from.
  std::string with_places(const std::string& complaint) const;

 private:
  using Values = std::map<std::string, Json>;  // by the path within a group
  struct Change {
    const std::string &path, &key, &type, &place;
  };

  void lay(Json& config, const Json& top, const std::string& path, const std::string& place);
  void lay_object(Json& config, const Json& top, const std::string& path, const std::string& place);
  void replace(Json& config, const Json& top, const std::string& path, const std::string& place);
  void forget(const std::string& path);
  bool is_typed_group(const std::string& path) const;
  bool takes_list(const std::string& path) const;  // where an object may stand
  void change_type(Json& config, const std::string& type, const std::string& path, const std::string& place);
  void check_may_stay(const Change& change, const Values& alone, const Values& kept) const;
  bool selects(const std::string& key) const;
  Values values(const std::string& path, const Json& group) const;
  std::optional<Values> try_values(const std::string& path, const Json& group) const;
  std::vector<std::string> keys_in(const std::string& complaint) const;
  const std::string* place_of(const std::string& key) const;

  const Fields& fields_;
  const Resolve resolve_;
  Json json_ = Json::object();
  std::map<std::string, std::string> places_;  // of every leaf
  std::vector<std::string> notes_;
};

}  // namespace sluice
