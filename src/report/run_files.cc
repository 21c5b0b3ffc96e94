// What the readers of a run's files have in common (run_files.h).
#include "report/run_files.h"

#include <algorithm>
#include <limits>

#include "base/config/json_reader.h"
#include "base/config/json_text.h"
#include "base/error.h"
#include "base/files/input_file.h"
#include "base/limits.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

// Nothing where the file is missing. UserError if it is none, is too large, or is not one JSON object.
std::optional<Json> read_json(const fs::path& file) {
  std::error_code error;
  if (!fs::exists(file, error) && !error) return std::nullopt;
  Json json = parse_json(read_regular_file(file, kMostFigureBytes, "a run's file"), file.string());
  if (!json.is_object()) throw UserError("{}: a JSON object is expected, got {}", file.string(), shown(json));
  return json;
}

}  // namespace

std::optional<Json> try_read_json(const fs::path& file, std::string& problem) {
  try {
    std::optional<Json> json = read_json(file);
    if (!json) problem = "missing";
    return json;
  } catch (const UserError& error) {
    problem = fmt::format("malformed ({})", error.what());
    return std::nullopt;
  }
}

bool is_address(const std::string& key) { return key == "kind" || key == "step" || key == "layer" || key == "head"; }

void set_point(TimeSeries& series, int64_t step, double value) {
  const auto at = std::lower_bound(series.steps.begin(), series.steps.end(), step) - series.steps.begin();
  const auto value_at = series.values.begin() + at;
  if (at < ptrdiff_t(series.steps.size()) && series.steps[size_t(at)] == step) {
    *value_at = value;
    return;
  }
  series.steps.insert(series.steps.begin() + at, step);
  series.values.insert(value_at, value);
}

double number_or_nan(const Json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

std::vector<double> numbers(const Json& list) {
  std::vector<double> out;
  for (const Json& value : list) {
    out.push_back(number_or_nan(value));
  }
  return out;
}

int64_t integer_at(const Json& object, const char* key) {
  return object.at(key).get_ref<const Json::number_integer_t&>();
}

HeadId head_at(const Json& object) { return {integer_at(object, "layer"), integer_at(object, "head")}; }

std::optional<RecordedMap> read_map(const Json& entry, const Json& rows, size_t positions) {
  RecordedMap map;
  map.id = head_at(entry);
  for (const Json& row : rows) {
    map.weights.push_back(numbers(row));
    const size_t keys = map.weights.back().size();
    if (map.weights.size() == 1) map.both_sides = positions > 1 && keys == positions;
    if (keys != (map.both_sides ? positions : map.weights.size())) return std::nullopt;
  }
  if (map.weights.size() != positions) return std::nullopt;
  return map;
}

}  // namespace sluice
