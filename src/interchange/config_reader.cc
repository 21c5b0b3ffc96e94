// Reads with their types, and the list of what nobody has read (config_reader.h).
#include "interchange/config_reader.h"

#include <cmath>

#include "base/config/json_reader.h"
#include "base/error.h"

namespace sluice {

std::string json_excerpt(const Json& value) {
  if (value.is_number_float() && !std::isfinite(value.get<double>())) return fmt::format("{}", value.get<double>());
  return excerpt(value.dump(-1, ' ', false, Json::error_handler_t::replace), 60);
}

void ConfigReader::refuse(const std::string& key, const std::string& why) const {
  throw UserError("{}: {} is {}, but {}", file_, prefix_ + key, at(key) ? json_excerpt(*at(key)) : "missing", why);
}

const Json* ConfigReader::at(const std::string& key) const {
  read_->insert(prefix_ + key);
  const auto found = config_.find(key);
  return found == config_.end() || found->is_null() ? nullptr : &*found;
}

int64_t ConfigReader::integer(const std::string& key, std::optional<int64_t> otherwise) const {
  const Json* value = at(key);
  if (value == nullptr && otherwise) return *otherwise;
  if (value == nullptr || !value->is_number_integer()) refuse(key, "an integer is needed");
  constexpr int64_t kLimit = int64_t{1} << 31;  // so that products of two fit
  const bool large = value->is_number_unsigned() && value->get<uint64_t>() >= uint64_t(kLimit);
  if (large || value->get<int64_t>() < -kLimit) refuse(key, "an integer between -2^31 and 2^31 is needed");
  return value->get<int64_t>();
}

double ConfigReader::number(const std::string& key, double otherwise) const {
  const Json* value = at(key);
  if (value == nullptr && doubt_nulls_ && config_.contains(key))
    throw UserError("{}: {} is null, NaN or infinite, but a finite number is needed", file_, prefix_ + key);
  if (value == nullptr) return otherwise;
  if (!value->is_number()) refuse(key, "a number is needed");
  if (!std::isfinite(value->get<double>())) refuse(key, "a finite number is needed");
  return value->get<double>();
}

bool ConfigReader::boolean(const std::string& key, bool otherwise) const {
  const Json* value = at(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) refuse(key, "true or false is needed");
  return value->get<bool>();
}

std::string ConfigReader::text(const std::string& key, const std::string& otherwise) const {
  const Json* value = at(key);
  if (value == nullptr) return otherwise;
  if (!value->is_string()) refuse(key, "a string is needed");
  return value->get<std::string>();
}

std::optional<ConfigReader> ConfigReader::object(const std::string& key) const {
  const Json* value = at(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) refuse(key, "an object is needed");
  return ConfigReader(*value, file_, doubt_nulls_, prefix_ + key + ".", read_);
}

std::vector<std::string> ConfigReader::others() const {
  std::vector<std::string> out;
  add_others(config_, prefix_, out);
  return out;
}

void ConfigReader::add_others(const Json& object, const std::string& prefix, std::vector<std::string>& out) const {
  for (const auto& [key, value] : object.items()) {
    const std::string name = prefix + key;
    if (value.is_null()) continue;
    if (!read_->contains(name)) {
      out.push_back(fmt::format("{} = {}", name, json_excerpt(value)));
      continue;
    }
    // Of an object that somebody looked into, every field counts.
    const auto below = read_->lower_bound(name + ".");
    if (value.is_object() && below != read_->end() && below->starts_with(name + "."))
      add_others(value, name + ".", out);
  }
}

}  // namespace sluice
