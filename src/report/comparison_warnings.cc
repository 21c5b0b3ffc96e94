// Runs that were not finished, not measured alike, or gated at different sites (comparison_warnings.h).
#include "report/comparison_warnings.h"

#include <fmt/ranges.h>

#include <functional>
#include <map>
#include <set>

namespace sluice {
namespace {

// A string in a file that may say anything.
std::string text_at(const Json& object, const char* key, const std::string& fallback) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : fallback;
}

// Where runs differ in `text_of`: "output (vga); source (src)". Empty where they do not; runs without a text do not
// count.
std::string told_apart(const Comparison& comparison, const std::function<std::string(const RunRecord&)>& text_of) {
  std::map<std::string, std::vector<std::string>> labels;
  for (size_t i = 0; i < comparison.runs.size(); ++i) {
    if (const std::string text = text_of(comparison.runs[i]); !text.empty())
      labels[text].push_back(comparison.rows[i].label);
  }
  if (labels.size() < 2) return "";
  std::vector<std::string> parts;
  for (const auto& [text, runs] : labels) parts.push_back(fmt::format("{} ({})", text, fmt::join(runs, ", ")));
  return fmt::format("{}", fmt::join(parts, "; "));
}

void warn_of_measurements(const Comparison& comparison, std::vector<std::string>& out) {
  const auto warn = [&](const char* what, const std::string& apart) {
    if (!apart.empty())
      out.push_back(fmt::format("{} were not measured alike and cannot be compared: {}", what, apart));
  };
  warn("the full probes",
       told_apart(comparison, [](const RunRecord& run) { return run.analysis ? run.analysis->how : ""; }));
  warn("the quantized models",
       told_apart(comparison, [](const RunRecord& run) { return run.quantization ? run.quantization->how() : ""; }));
  for (size_t i = 0; i < comparison.runs.size(); ++i) {
    const RunRecord& run = comparison.runs[i];
    const auto check_step = [&](const char* what, int64_t step) {
      if (step == run.last_step() || run.last_step() < 0) return;
      out.push_back(fmt::format("{}: {} is of step {}, the run's last is {}", comparison.rows[i].label, what, step,
                                run.last_step()));
    };
    const TimeSeries* probed = run.find("analysis", "sink_rate");
    if (probed) check_step("the full probe", probed->steps.back());
    if (run.quantization) check_step("the quantized model", run.quantization->step);
  }
}

}  // namespace

// Of a pattern over the layers, where all its gates are.
std::string gate_site(const RunRecord& run) {
  const Json::json_pointer path("/model/attention");
  if (!run.config.contains(path)) return "";
  const Json& attention = run.config.at(path);
  std::set<std::string> sites;
  const auto look = [&](const Json& layer) {
    if (!layer.is_object() || !layer.contains("gate") || !layer["gate"].is_object()) return;
    if (text_at(layer["gate"], "reads", "none") != "none") sites.insert(text_at(layer["gate"], "site", ""));
  };
  if (!attention.is_array()) look(attention);
  else
    for (const Json& layer : attention) look(layer);
  return fmt::format("{}", fmt::join(sites, " and "));
}

namespace {

// What a run's loss is of.
std::string objective(const RunRecord& run) {
  if (!run.config.is_object() || run.config.empty()) return "";
  const auto number = [&](const char* key, double otherwise) {
    const Json::json_pointer path = Json::json_pointer("/data/masking") / key;
    return run.config.contains(path) && run.config.at(path).is_number() ? run.config.at(path).get<double>() : otherwise;
  };
  const double share = number("share", 0);
  if (share == 0) return "the next token";
  return fmt::format("{} of a text's tokens, {} of these replaced and {} random", share, number("replaced", 0.8),
                     number("random", 0.1));
}

}  // namespace

std::vector<std::string> find_warnings(const Comparison& comparison) {
  std::vector<std::string> out;
  std::set<int64_t> last_steps;
  for (size_t i = 0; i < comparison.runs.size(); ++i) {
    const RunRecord& run = comparison.runs[i];
    const std::string& label = comparison.rows[i].label;
    if (run.last_step() >= 0) last_steps.insert(run.last_step());
    for (const std::string& note : run.notes) out.push_back(fmt::format("{}: {}", label, note));
    const std::string status = text_at(run.info, "status", "done");
    if (status != "done") out.push_back(fmt::format("{}: not finished (status: {})", label, status));
  }
  if (const std::string sites = told_apart(comparison, gate_site); !sites.empty()) {
    out.push_back("these gates act at different sites, which alone changes what they do: gate.site " + sites);
  }
  if (const std::string objectives = told_apart(comparison, objective); !objectives.empty()) {
    out.push_back("these models predict different things, so that their losses do not compare: " + objectives);
  }
  if (last_steps.size() > 1) {
    out.push_back(fmt::format("the runs end at different steps ({})", fmt::join(last_steps, ", ")));
  }
  warn_of_measurements(comparison, out);
  return out;
}

}  // namespace sluice
