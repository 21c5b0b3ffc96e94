// analysis/step_*.json: the figures of each as points of series, the curves and maps of the newest.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "report/run_files.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

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

// Those that are whole.
std::vector<RecordedFigure> read_descriptions(const Json& json) {
  constexpr size_t kMostFigures = 200;
  std::vector<RecordedFigure> out;
  const auto list = json.find("figures");
  if (list == json.end() || !list->is_array()) return out;
  for (const Json& entry : *list) {
    RecordedFigure figure;
    for (const auto& [key, text] : {std::pair{"key", &figure.key}, std::pair{"group", &figure.group},
                                    std::pair{"title", &figure.title}, std::pair{"meaning", &figure.meaning}}) {
      const auto found = entry.is_object() ? entry.find(key) : entry.end();
      if (entry.is_object() && found != entry.end() && found->is_string()) *text = found->get<std::string>();
    }
    figure.of_heads = !entry.is_object() || entry.value("of_heads", Json(true)) != Json(false);
    if (!figure.key.empty() && out.size() < kMostFigures) out.push_back(std::move(figure));
  }
  return out;
}

// Throws Json::exception; nothing if a shape is wrong.
std::optional<RecordedAnalysis> read_curves(const Json& json) {
  RecordedAnalysis out;
  out.step = integer_at(json, "step");
  out.sequences = integer_at(json, "sequences");
  out.mean.step = out.step;
  const int64_t length = integer_at(json, "length");
  const auto positions = size_t(length + (json.contains("registers") ? integer_at(json, "registers") : 0));
  out.how = fmt::format("{} sequences of {} tokens", out.sequences, length);
  if (const auto rates = json.find("sink_rates"); rates != json.end() && rates->is_object() && !rates->empty())
    out.how += fmt::format(", sinks above {}", std::prev(rates->end()).key());
  if (const auto data = json.find("data"); data != json.end() && data->is_string())
    out.how += ", " + data->get<std::string>();
  out.figures = read_descriptions(json);
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

}  // namespace

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

}  // namespace sluice
