// The run folder's layout is in docs/commands.md; see run_reader.h for what is forgiven and what is an error.
#include "report/run_reader.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <set>

#include "base/config/json_reader.h"
#include "base/config/json_text.h"
#include "base/error.h"
#include "base/files/input_file.h"
#include "base/files/line_reader.h"
#include "base/limits.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostName = 200;  // bytes, as train allows; a longer one would widen every line of a table

// Keys of a metrics line that say where its values belong.
bool is_address(const std::string& key) { return key == "kind" || key == "step" || key == "layer" || key == "head"; }

std::string folder_name(const fs::path& path) {
  const fs::path clean = fs::absolute(path).lexically_normal();
  return clean.has_filename() ? clean.filename().string() : clean.parent_path().filename().string();
}

// What `sluice train` writes; a model's folder of another program has a config.json too.
bool is_run(const fs::path& folder) {
  return fs::is_regular_file(folder / "metrics.jsonl") || fs::is_regular_file(folder / "info.json");
}

bool looks_like_run(const fs::path& folder) {
  return fs::is_regular_file(folder / "config.json") || fs::is_regular_file(folder / "metrics.jsonl");
}

// Nothing where the file is missing. UserError if it is none, is too large, or is not one JSON object.
std::optional<Json> read_json(const fs::path& file) {
  std::error_code error;
  if (!fs::exists(file, error) && !error) return std::nullopt;
  Json json = parse_json(read_regular_file(file, kMostFigureBytes, "a run's file"), file.string());
  if (!json.is_object()) throw UserError("{}: a JSON object is expected, got {}", file.string(), shown(json));
  return json;
}

// The same, for what a run may have written half before it was killed: `problem` says why it cannot be used.
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

// Of a model of the transformers library.
bool is_foreign_config(const fs::path& file) {
  std::string problem;
  const std::optional<Json> json = try_read_json(file, problem);
  return json && (json->contains("model_type") || json->contains("architectures"));
}

void require_run_folder(const std::string& path) {
  if (!fs::exists(path)) throw UserError("{}: no such run folder", path);
  if (!fs::is_directory(path)) throw UserError("{}: not a run folder but a file", path);
  if (!looks_like_run(path))
    throw UserError("{}: not a run folder (neither config.json nor metrics.jsonl is in it)", path);
  if (!is_run(path) && is_foreign_config(fs::path(path) / "config.json"))
    throw UserError("{}: not a run folder, but a model of the transformers library, which becomes one with sluice import", path);
}

void read_config(RunRecord& run) {
  const fs::path file = fs::path(run.path) / "config.json";
  if (!fs::is_regular_file(file)) {
    run.notes.push_back("config.json is missing: the run cannot be grouped with other seeds");
    return;
  }
  run.config = read_json_file(file.string());
  if (!run.config.is_object()) throw UserError("{}: a JSON object is expected, got {}", file.string(), shown(run.config));
  check_key_count(run.config, file.string());
  const auto name = run.config.find("name");
  if (name != run.config.end() && name->is_string() && !name->get<std::string>().empty())
    run.name = excerpt(name->get<std::string>(), kMostName);
}

void read_info(RunRecord& run) {
  std::string problem;
  if (std::optional<Json> info = try_read_json(fs::path(run.path) / "info.json", problem)) run.info = std::move(*info);
  else run.notes.push_back(fmt::format("info.json is {}: parameters, device and time are unknown", problem));
}

// What was written later for the same step holds.
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

// Throws Json::exception for anything but an integer: 1e300 is none, and what it became would be undefined.
int64_t integer_at(const Json& object, const char* key) {
  return object.at(key).get_ref<const Json::number_integer_t&>();
}

HeadId head_at(const Json& object) { return {integer_at(object, "layer"), integer_at(object, "head")}; }

// Where a line's values belong.
struct Address {
  std::string kind;
  int64_t step = 0, layer = -1, head = -1;
};

Address address_of(const JsonReader& line) {
  const auto integer = [&](const char* key) { return line.has(key) ? line.integer(key, -1) : int64_t{-1}; };
  return {line.text("kind"), line.integer("step", 0), integer("layer"), integer("head")};
}

void add_metrics_line(RunRecord& run, const std::string& text, const std::string& place) {
  const Json line = parse_json(text, place);
  const Address address = address_of(JsonReader(line, place));
  for (const auto& [field, value] : line.items()) {
    if (is_address(field) || !(value.is_number() || value.is_null())) continue;
    const bool of_block = field.starts_with("residual_");
    TimeSeries& series = run.series[{address.kind, field, address.layer, of_block ? -1 : address.head}];
    // A resumed run may have been cut between its metrics and its checkpoint: what was written later holds.
    while (!series.steps.empty() && series.steps.back() >= address.step) {
      series.steps.pop_back();
      series.values.pop_back();
    }
    series.steps.push_back(address.step);
    series.values.push_back(number_or_nan(value));
  }
}

void read_metrics(RunRecord& run) {
  const fs::path path = fs::path(run.path) / "metrics.jsonl";
  std::error_code error;
  if (!fs::exists(path, error) && !error) {
    run.notes.push_back("metrics.jsonl is missing: there is nothing to compare");
    return;
  }
  const File file = open_regular(path);
  LineReader lines(pieces_of(file), path.string(), kMostMetricsLine);
  for (std::string text; lines.next(text);) {
    if (text.find_first_not_of(" \t") == std::string::npos) continue;
    try {
      add_metrics_line(run, text, "it");
    } catch (const UserError& problem) {
      if (!lines.at_end()) throw UserError("{}: line {} is malformed: {}", path.string(), lines.number(), problem.what());
      run.notes.push_back(fmt::format("the last line of metrics.jsonl ({}) is cut off and was skipped", lines.number()));
    }
  }
  if (run.series.empty()) run.notes.push_back("metrics.jsonl holds no values yet");
}

std::vector<double> numbers(const Json& list) {
  std::vector<double> out;
  for (const Json& value : list) {
    out.push_back(number_or_nan(value));
  }
  return out;
}

// Throws Json::exception where a map is not one; nothing if its shape is wrong.
std::optional<RecordedMap> read_map(const Json& entry, const Json& rows, size_t positions) {
  RecordedMap map;
  map.id = head_at(entry);
  for (const Json& row : rows) {
    map.weights.push_back(numbers(row));
    if (map.weights.back().size() != map.weights.size()) return std::nullopt;
  }
  if (map.weights.size() != positions) return std::nullopt;
  return map;
}

// Nothing if the file is not a whole snapshot: its shape is checked here so that nobody else need.
std::optional<RecordedAttention> read_snapshot(const fs::path& file) {
  std::string problem;
  const std::optional<Json> json = try_read_json(file, problem);
  if (!json) return std::nullopt;
  try {
    RecordedAttention out;
    out.step = integer_at(*json, "step");
    out.tokens = json->at("tokens").get<std::vector<std::string>>();
    for (const Json& entry : json->at("maps")) {
      std::optional<RecordedMap> map = read_map(entry, entry.at("weights"), out.tokens.size());
      if (!map) return std::nullopt;
      if (entry.contains("gate")) map->gate = numbers(entry.at("gate"));
      if (!map->gate.empty() && map->gate.size() != out.tokens.size()) return std::nullopt;
      out.maps.push_back(std::move(*map));
    }
    if (out.maps.empty()) return std::nullopt;
    return out;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

void read_attention(RunRecord& run) {
  const fs::path folder = fs::path(run.path) / "attention";
  std::vector<fs::path> files;
  if (fs::is_directory(folder)) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() == ".json") files.push_back(entry.path());
    }
  }
  if (files.empty()) {
    run.notes.push_back("attention/ holds no maps");
    return;
  }
  std::sort(files.begin(), files.end());  // steps are zero-padded
  const auto first_readable = [&](auto begin, auto end) {
    std::optional<RecordedAttention> snapshot;
    for (; begin != end && !snapshot; ++begin) {
      snapshot = read_snapshot(*begin);
      if (!snapshot) run.notes.push_back(fmt::format("attention/{} is malformed", begin->filename().string()));
    }
    return snapshot;
  };
  run.first_attention = first_readable(files.begin(), files.end());
  if (!run.first_attention) return;
  run.last_attention = first_readable(files.rbegin(), files.rend());
  // A note may have been left from both ends.
  std::sort(run.notes.begin(), run.notes.end());
  run.notes.erase(std::unique(run.notes.begin(), run.notes.end()), run.notes.end());
}

// The figures of one analysis, under the kinds that metrics lines have for them. Throws Json::exception.
std::vector<std::pair<SeriesKey, double>> read_figures(const Json& json) {
  std::vector<std::pair<SeriesKey, double>> out;
  const auto add = [&](const char* kind, const Json& figures, int64_t layer, int64_t head) {
    for (const auto& [field, value] : figures.items())
      if (!is_address(field) && (value.is_number() || value.is_null()))
        out.push_back({{kind, field, layer, head}, number_or_nan(value)});
  };
  add("analysis", json.at("summary"), -1, -1);
  for (const Json& layer : json.at("layers")) add("analysis_layer", layer, integer_at(layer, "layer"), -1);
  for (const Json& head : json.at("heads")) {
    const HeadId id = head_at(head);
    add("analysis_head", head, id.layer, id.head);
  }
  return out;
}

// Throws Json::exception; nothing if a shape is wrong.
std::optional<RecordedAnalysis> read_curves(const Json& json) {
  RecordedAnalysis out;
  out.step = integer_at(json, "step");
  out.sequences = integer_at(json, "sequences");
  out.mean.step = out.step;
  const auto positions = size_t(integer_at(json, "length"));
  out.how = fmt::format("{} sequences of {} tokens", out.sequences, positions);
  if (const auto rates = json.find("sink_rates"); rates != json.end() && rates->is_object() && !rates->empty())
    out.how += fmt::format(", sinks above {}", std::prev(rates->end()).key());
  if (const auto data = json.find("data"); data != json.end() && data->is_string())
    out.how += ", " + data->get<std::string>();
  const auto is_curve = [&](const Json& values) { return values.is_array() && numbers(values).size() == positions; };
  for (const Json& norms : json.at("residual_norm")) {
    if (!is_curve(norms)) return std::nullopt;
    out.residual_norm.push_back(norms);
  }
  for (const Json& head : json.at("curves")) {
    if (head.contains("map")) {
      const Json& rows = head.at("map");
      for (size_t i = out.mean.tokens.size(); i < rows.size(); ++i) out.mean.tokens.push_back(std::to_string(i));
      std::optional<RecordedMap> map = read_map(head, rows, out.mean.tokens.size());
      if (!map) return std::nullopt;
      out.mean.maps.push_back(std::move(*map));
    }
    head_at(head);  // whoever draws the curves relies on it
    Json curves = Json::object();
    auto& members = curves.get_ref<Json::object_t&>();  // an object searches all of its keys for each that it is given
    for (const auto& [key, values] : head.items()) {
      if (key == "map") continue;
      if (!is_address(key) && !is_curve(values)) return std::nullopt;
      members.emplace_back(key, values);
    }
    out.curves.push_back(std::move(curves));
  }
  return out;
}

// Returns what is wrong with the file, or nothing after its figures have been filed. `last` is the run's last step: an
// analysis beyond it belongs to a future that a roll-back or a resume has given up.
std::optional<std::string> add_analysis(RunRecord& run, const fs::path& file, int64_t last) {
  std::string problem;
  const std::optional<Json> json = try_read_json(file, problem);
  if (!json) return problem;
  try {
    std::optional<RecordedAnalysis> curves = read_curves(*json);
    if (!curves) return "malformed";
    if (last >= 0 && curves->step > last) return "of a step that the run has not reached";
    for (const auto& [key, value] : read_figures(*json)) set_point(run.series[key], curves->step, value);
    run.analysis = std::move(curves);
    return std::nullopt;
  } catch (const Json::exception&) {
    return "malformed";
  }
}

void read_analyses(RunRecord& run) {
  const fs::path folder = fs::path(run.path) / "analysis";
  if (!fs::is_directory(folder)) return;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  std::sort(files.begin(), files.end());  // steps are zero-padded
  const int64_t last = run.last_step();
  for (const fs::path& file : files)
    if (const auto problem = add_analysis(run, file, last))
      run.notes.push_back(fmt::format("analysis/{} is {}", file.filename().string(), *problem));
}

// Returns what is wrong with it, or nothing after its figures have been filed. Throws Json::exception.
std::optional<std::string> add_quantization(RunRecord& run, const Json& json) {
  RecordedQuantization out;
  out.step = integer_at(json, "step");
  if (const int64_t last = run.last_step(); last >= 0 && out.step > last) return "of a step that the run has not reached";
  const Json &weights = json.at("weights"), &inputs = json.at("activations");
  const bool percentile = inputs.contains("percentile");
  out.rule = fmt::format("{}, weights {} per {}, activations {} {}", json.at("quantization").get<std::string>(),
                         weights.at("range").get<std::string>(), weights.at("granularity").get<std::string>(),
                         percentile ? "percentile" : "minmax with momentum",
                         inputs.at(percentile ? "percentile" : "momentum").get<double>());
  out.data = fmt::format("{} sequences of {}, calibrated on {} of {}", integer_at(json, "sequences"),
                         json.at("data").get<std::string>(), integer_at(json, "calibration_sequences"),
                         json.at("calibration_data").get<std::string>());
  const double plain = number_or_nan(json.at("plain").at("loss")), loss = number_or_nan(json.at("quantized").at("loss"));
  set_point(run.series[{"quantization", "perplexity"}], out.step, std::exp(loss));
  set_point(run.series[{"quantization", "change"}], out.step, 100 * std::expm1(loss - plain));
  run.quantization = std::move(out);
  return std::nullopt;
}

void read_quantization(RunRecord& run) {
  const fs::path file = fs::path(run.path) / "quantization.json";
  if (!fs::is_regular_file(file)) return;
  std::string unreadable;
  const std::optional<Json> json = try_read_json(file, unreadable);
  std::optional<std::string> problem = unreadable;
  try {
    if (json) problem = add_quantization(run, *json);
  } catch (const Json::exception&) {
    problem = "malformed";
  }
  if (problem) run.notes.push_back("quantization.json is " + *problem);
}

}  // namespace

std::string HeadId::name() const { return fmt::format("L{}H{}", layer, head); }

const TimeSeries* RunRecord::find(const std::string& kind, const std::string& field, int64_t layer,
                                  int64_t head) const {
  const auto found = series.find({kind, field, layer, head});
  return found == series.end() ? nullptr : &found->second;
}

std::optional<double> RunRecord::final_value(const std::string& kind, const std::string& field, int64_t layer,
                                             int64_t head) const {
  const TimeSeries* found = find(kind, field, layer, head);
  if (!found) return std::nullopt;
  return found->values.back();
}

std::vector<HeadId> RunRecord::heads() const {
  std::set<HeadId> found;
  for (const auto& [key, unused] : series) {
    if (key.layer >= 0 && key.head >= 0) found.insert({key.layer, key.head});
  }
  return {found.begin(), found.end()};
}

std::vector<int64_t> RunRecord::layers() const {
  std::set<int64_t> found;
  for (const auto& [key, unused] : series) {
    if (key.layer >= 0) found.insert(key.layer);
  }
  return {found.begin(), found.end()};
}

int64_t RunRecord::last_step() const {
  int64_t last = -1;
  for (const auto& [key, points] : series) last = std::max(last, points.steps.back());
  return last;
}

std::vector<std::string> run_folders(const std::string& path) {
  if (!fs::is_directory(path) || looks_like_run(path)) return {path};
  std::vector<std::string> out;
  std::error_code unreadable;
  for (const auto& entry : fs::directory_iterator(path, unreadable))
    if (is_run(entry.path())) out.push_back(entry.path().string());
  if (out.empty()) throw UserError("{}: neither a run's folder (config.json, metrics.jsonl) nor a folder of runs", path);
  std::sort(out.begin(), out.end());
  return out;
}

RunRecord read_run(const std::string& path) {
  require_run_folder(path);
  RunRecord run;
  run.path = path;
  run.name = folder_name(path);
  read_config(run);
  read_info(run);
  read_metrics(run);
  read_attention(run);
  read_analyses(run);
  read_quantization(run);
  return run;
}

}  // namespace sluice
