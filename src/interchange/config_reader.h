// The fields of a config.json that another program wrote. Every one that is read is remembered, so that those that
// nobody asked for can be refused: they may change what the model computes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/config/config.h"

namespace sluice {

class ConfigReader {
 public:
  // Both arguments must outlive the reader; `file` is the name in messages. Nulls in doubt may stand for NaN or an
  // infinity: where a number is read they are refused.
  ConfigReader(const Json& config, const std::string& file, bool doubt_nulls = false)
      : ConfigReader(config, file, doubt_nulls, "", std::make_shared<std::set<std::string>>()) {}

  [[noreturn]] void refuse(const std::string& key, const std::string& why) const;

  bool has(const std::string& key) const { return config_.contains(key); }  // null or not
  // The value, or nullptr where the field is missing or null.
  const Json* at(const std::string& key) const;
  int64_t integer(const std::string& key, std::optional<int64_t> otherwise = std::nullopt) const;  // below 2^31
  double number(const std::string& key, double otherwise) const;                                   // finite
  bool boolean(const std::string& key, bool otherwise) const;
  std::string text(const std::string& key, const std::string& otherwise) const;
  // The reader of an object in the field, or none where it is missing or null.
  std::optional<ConfigReader> object(const std::string& key) const;

  void must_be(const std::string& key, bool only, const std::string& why) const {
    if (boolean(key, only) != only) refuse(key, why);
  }
  void must_be(const std::string& key, double only, const std::string& why) const {
    if (number(key, only) != only) refuse(key, why);
  }
  void must_be_absent(const std::string& key, const std::string& why) const {
    if (at(key) != nullptr) refuse(key, why);
  }
  // Fields that are there and do not matter.
  void pass_over(const std::vector<std::string>& keys) const {
    for (const std::string& key : keys) at(key);
  }

  const std::string& file() const { return file_; }
  // "key = value" of every field that is neither read nor null, those of objects that were read among them.
  std::vector<std::string> others() const;

 private:
  ConfigReader(const Json& config, const std::string& file, bool doubt_nulls, std::string prefix,
               std::shared_ptr<std::set<std::string>> read)
      : config_(config), file_(file), doubt_nulls_(doubt_nulls), prefix_(std::move(prefix)), read_(std::move(read)) {}
  void add_others(const Json& object, const std::string& prefix, std::vector<std::string>& out) const;

  const Json& config_;
  const std::string& file_;
  bool doubt_nulls_;
  std::string prefix_;                           // "rope_parameters." of an object in a field
  std::shared_ptr<std::set<std::string>> read_;  // with prefixes; shared by the readers of one file
};

// A value as a message shows it: on one line, shortened, with NaN and infinities by name.
std::string json_excerpt(const Json& value);

}  // namespace sluice
