// Final figures are each series' last point, but for two that are noisy from step to step: the training loss (mean of
// the last kLossWindow logged) and the speed (median of all but the first line, which carries the warm-up).
#include "report/compare.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <unordered_set>

#include "base/error.h"

namespace sluice {
namespace {

constexpr size_t kLossWindow = 10;

using Value = std::optional<double>;

Value mean_of_last(const TimeSeries* series, size_t window) {
  if (!series) return std::nullopt;
  const size_t count = std::min(window, series->values.size());
  double sum = 0;
  for (size_t i = series->values.size() - count; i < series->values.size(); ++i) sum += series->values[i];
  return sum / double(count);
}

Value median_after_first(const TimeSeries* series) {
  if (!series) return std::nullopt;
  std::vector<double> values(series->values.begin() + (series->values.size() > 1), series->values.end());
  std::erase_if(values, [](double v) { return std::isnan(v); });
  if (values.empty()) return std::nullopt;
  const auto middle = values.begin() + ptrdiff_t(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

// The head whose figures stand for the run: the one that looks most at position 0.
std::optional<HeadId> strongest_head(const RunRecord& run) {
  std::optional<HeadId> best;
  double most = -1;
  for (const HeadId& id : run.heads()) {
    const double value = run.final_value("probe", "sink_attention", id.layer, id.head).value_or(-1);
    if (!best || value > most) best = id, most = value;
  }
  return best;
}

// A string in a file that may say anything.
std::string text_at(const Json& object, const char* key, const std::string& fallback) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : fallback;
}

std::optional<int64_t> peak_layer(const RunRecord& run) {
  std::optional<int64_t> best;
  double most = -1;
  for (const int64_t layer : run.layers()) {
    const Value value = run.final_value("probe", "residual_norm_sink", layer);
    if (value && (!best || *value > most)) best = layer, most = *value;
  }
  return best;
}

constexpr const char* kProbeFields[] = {
    "sink_rate",     "sink_rate_largest",  "first_token_share",    "value_norm_ratio",
    "entropy",       "kurtosis",           "infinity_norm",        "massive_activation",
    "value_gradient_ratio", "value_gradient_per_mass", "content_gradient_ratio", "gate_gradient_ratio"};
constexpr const char* kQuantizedPerplexity = "quantized_perplexity";
constexpr const char* kQuantizedChange = "quantized_change";

// What a figure of the full probe or of a quantized model depends on, where it was measured after the training; empty for
// all others.
std::string measured_how(const RunRecord& run, const std::string& key) {
  if (key == kQuantizedPerplexity || key == kQuantizedChange) {
    const auto& measured = run.quantization;
    return measured ? fmt::format("step {}, {}", measured->step, measured->how()) : "";
  }
  const bool probed = std::find(std::begin(kProbeFields), std::end(kProbeFields), key) != std::end(kProbeFields);
  return probed && run.analysis ? fmt::format("step {}, {}", run.analysis->step, run.analysis->how) : "";
}

RunSummary summarise(const RunRecord& run) {
  RunSummary row;
  row.label = run.name;
  row.head = strongest_head(run);
  row.residual_layer = peak_layer(run);
  const auto put = [&](const char* key, Value value) {
    if (value) row.values[key] = *value;
  };
  if (run.last_step() >= 0) put("steps", double(run.last_step()));
  put("train_loss", mean_of_last(run.find("train", "loss"), kLossWindow));
  put("eval_loss", run.final_value("eval", "loss"));
  put("perplexity", run.final_value("eval", "perplexity"));
  put("bits_per_byte", run.final_value("eval", "bits_per_byte"));
  put("backcopy_risk", run.final_value("risk", "backcopy"));
  put("bigram_risk", run.final_value("risk", "bigram"));
  if (row.head) {
    for (const char* field : {"sink_attention", "sink_logit_gap", "value_norm_sink", "value_norm_rest",
                              "wo_value_norm_sink", "wo_value_norm_rest"}) {
      put(field, run.final_value("probe", field, row.head->layer, row.head->head));
    }
    put("gate_mean", run.final_value("gate", "mean", row.head->layer, row.head->head));
    put("gate_closed_share", run.final_value("gate", "closed_share", row.head->layer, row.head->head));
    put("gate_mean_sink", run.final_value("gate", "mean_sink", row.head->layer, row.head->head));
  }
  if (row.residual_layer) {
    put("residual_norm_sink", run.final_value("probe", "residual_norm_sink", *row.residual_layer));
    put("residual_norm_rest", run.final_value("probe", "residual_norm_rest", *row.residual_layer));
  }
  for (const char* field : kProbeFields) put(field, run.final_value("analysis", field));
  put(kQuantizedPerplexity, run.final_value("quantization", "perplexity"));
  put(kQuantizedChange, run.final_value("quantization", "change"));
  put("tokens_per_second", median_after_first(run.find("train", "tokens_per_second")));
  const auto parameters = run.info.find("parameters");
  if (parameters != run.info.end() && parameters->is_number()) put("parameters", parameters->get<double>());
  return row;
}

// Labels that several rows share get something to tell them by: the seed, else the path, else the place in the list.
void make_labels_unique(std::vector<RunSummary>& rows, const std::vector<RunRecord>& runs) {
  const auto is_shared = [&](const std::string& label) {
    return std::count_if(rows.begin(), rows.end(), [&](const RunSummary& r) { return r.label == label; }) > 1;
  };
  const auto extend = [&](const std::function<std::string(size_t)>& extra) {
    std::vector<std::string> labels;
    for (size_t i = 0; i < rows.size(); ++i) {
      const std::string more = is_shared(rows[i].label) ? extra(i) : "";
      labels.push_back(more.empty() ? rows[i].label : fmt::format("{} {}", rows[i].label, more));
    }
    for (size_t i = 0; i < rows.size(); ++i) rows[i].label = labels[i];
  };
  std::map<std::string, std::set<std::string>> seeds;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (runs[i].config.contains("seed")) seeds[rows[i].label].insert(runs[i].config.at("seed").dump());
  }
  extend([&](size_t i) {
    const bool tells = runs[i].config.contains("seed") && seeds[rows[i].label].size() > 1;
    return tells ? fmt::format("seed {}", runs[i].config.at("seed").dump()) : "";
  });
  extend([&](size_t i) { return fmt::format("({})", runs[i].path); });
  extend([&](size_t i) { return fmt::format("#{}", i + 1); });
}

// "bb-vga-s1" and "bb-vga-s2" make "bb-vga".
std::string common_label(const std::vector<std::string>& names) {
  std::string common = names.front();
  for (const std::string& name : names) {
    const auto differ = std::mismatch(common.begin(), common.end(), name.begin(), name.end());
    common.erase(differ.first, common.end());
  }
  if (std::all_of(names.begin(), names.end(), [&](const std::string& name) { return name == common; })) return common;
  const auto strip = [&](const std::string& tail) {
    if (common.ends_with(tail)) common.resize(common.size() - tail.size());
  };
  const std::string separators = "-_./ ";
  const auto strip_separators = [&] {
    while (!common.empty() && separators.find(common.back()) != std::string::npos) common.pop_back();
  };
  // Digits that the seeds happen to share ("s12", "s13") are no part of the name.
  std::string without_digits = common;
  while (!without_digits.empty() && std::isdigit(static_cast<unsigned char>(without_digits.back()))) {
    without_digits.pop_back();
  }
  if (without_digits.ends_with("seed") || without_digits.ends_with("-s") || without_digits.ends_with("_s")) {
    common = without_digits;
  }
  strip_separators();
  for (const char* tail : {"seed", "-s", "_s"}) strip(tail);
  strip_separators();
  return common.empty() ? names.front() : common;
}

// A second run of one seed says nothing about seeds, and is in a group of its own, or with others of their second.
std::vector<SeedGroup> group_by_seed(const std::vector<RunRecord>& runs) {
  struct Known {
    Json config;
    std::set<std::string> seeds;
  };
  std::vector<SeedGroup> groups;
  std::vector<Known> known;
  for (size_t i = 0; i < runs.size(); ++i) {
    Json key = runs[i].config;
    const std::string seed = key.contains("seed") ? key.at("seed").dump() : "";
    for (const char* own : {"seed", "name", "output"}) key.erase(own);
    // Without a config, or a seed, nothing is known to be equal.
    const auto found = seed.empty() ? known.end() : std::find_if(known.begin(), known.end(), [&](const Known& group) {
      return !group.seeds.contains(seed) && group.config == key;
    });
    if (found != known.end()) {
      groups[size_t(found - known.begin())].members.push_back(i);
      found->seeds.insert(seed);
    } else {
      known.push_back({std::move(key), {seed}});
      groups.push_back({{}, {i}, {}});
    }
  }
  return groups;
}

SeedSpread spread_of(const std::vector<double>& values) {
  SeedSpread out;
  out.count = int64_t(values.size());
  for (const double v : values) out.mean += v / double(values.size());
  if (values.size() < 2) return out;
  double squares = 0;
  for (const double v : values) squares += (v - out.mean) * (v - out.mean);
  out.deviation = std::sqrt(squares / double(values.size() - 1));
  return out;
}

void summarise_groups(Comparison& comparison) {
  for (SeedGroup& group : comparison.groups) {
    std::vector<std::string> names;
    for (const size_t i : group.members) names.push_back(comparison.runs[i].name);
    group.label = group.members.size() > 1 ? common_label(names) : comparison.rows[group.members[0]].label;
    for (const SummaryMetric& metric : summary_metrics()) {
      std::vector<double> values;
      std::set<std::string> ways;
      for (const size_t i : group.members) {
        const auto& known = comparison.rows[i].values;
        const auto found = known.find(metric.key);
        if (found == known.end()) continue;
        values.push_back(found->second);
        ways.insert(measured_how(comparison.runs[i], metric.key));
      }
      if (ways.size() == 1) group.values[metric.key] = spread_of(values);
    }
  }
  // Two groups may still share a label (runs of one name under two settings): the first member's row label is unique.
  for (SeedGroup& group : comparison.groups) {
    const bool shared = std::count_if(comparison.groups.begin(), comparison.groups.end(),
                                      [&](const SeedGroup& g) { return g.label == group.label; }) > 1;
    if (shared) group.label = comparison.rows[group.members[0]].label;
  }
}

// Dotted keys in the order in which they come first.
struct KeyOrder {
  std::vector<std::string> keys;
  std::unordered_set<std::string> seen;
};

void flatten(const Json& json, const std::string& prefix, std::map<std::string, Json>& out, KeyOrder& order) {
  for (const auto& [key, value] : json.items()) {
    const std::string path = prefix.empty() ? key : prefix + "." + key;
    if (value.is_object() && !value.empty()) {
      flatten(value, path, out, order);
    } else {
      if (order.seen.insert(path).second) order.keys.push_back(path);
      out[path] = value;
    }
  }
}

std::vector<RunDifference> config_differences(const std::vector<RunRecord>& runs) {
  std::vector<std::map<std::string, Json>> flat(runs.size());
  KeyOrder order;
  for (size_t i = 0; i < runs.size(); ++i) flatten(runs[i].config, "", flat[i], order);
  std::vector<RunDifference> out;
  for (const std::string& key : order.keys) {
    RunDifference entry{key, {}};
    for (const auto& config : flat) {
      const auto found = config.find(key);
      entry.values.push_back(found == config.end() ? Json() : found->second);
    }
    const auto differs = [&](const Json& value) { return value != entry.values.front(); };
    if (std::any_of(entry.values.begin(), entry.values.end(), differs)) out.push_back(std::move(entry));
  }
  return out;
}

// Where runs differ in `text_of`: "output (vga); source (src)". Empty where they do not; runs without a text do not count.
std::string told_apart(const Comparison& comparison, const std::function<std::string(const RunRecord&)>& text_of) {
  std::map<std::string, std::vector<std::string>> labels;
  for (size_t i = 0; i < comparison.runs.size(); ++i) {
    if (const std::string text = text_of(comparison.runs[i]); !text.empty()) labels[text].push_back(comparison.rows[i].label);
  }
  if (labels.size() < 2) return "";
  std::vector<std::string> parts;
  for (const auto& [text, runs] : labels) parts.push_back(fmt::format("{} ({})", text, fmt::join(runs, ", ")));
  return fmt::format("{}", fmt::join(parts, "; "));
}

void warn_of_measurements(const Comparison& comparison, std::vector<std::string>& out) {
  const auto warn = [&](const char* what, const std::string& apart) {
    if (!apart.empty()) out.push_back(fmt::format("{} were not measured alike and cannot be compared: {}", what, apart));
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
  if (last_steps.size() > 1) {
    out.push_back(fmt::format("the runs end at different steps ({})", fmt::join(last_steps, ", ")));
  }
  warn_of_measurements(comparison, out);
  return out;
}

Json values_json(const std::map<std::string, double>& values) {
  Json out = Json::object();
  for (const SummaryMetric& metric : summary_metrics()) {
    const auto found = values.find(metric.key);
    if (found == values.end()) continue;
    const bool is_integer =
        metric.digits == 0 && std::abs(found->second) <= 0x1p53 && found->second == std::floor(found->second);
    out[metric.key] = is_integer ? Json(int64_t(found->second)) : Json(found->second);
  }
  return out;
}

using FinalFields = std::map<std::string, double>;

// Every final probe and gate value of each head, and (head -1) of each layer, in one pass over the series.
std::map<HeadId, FinalFields> final_fields(const RunRecord& run) {
  std::map<HeadId, FinalFields> out;
  for (const auto& [key, points] : run.series) {
    if (key.layer < 0) continue;
    const std::string name = key.kind == "probe" ? key.field : key.kind + "_" + key.field;
    out[{key.layer, key.head}][name] = points.values.back();
  }
  return out;
}

// The members as they are: an object searches all of its keys for each that it is given.
Json with_fields(Json address, const FinalFields& fields) {
  auto& members = address.get_ref<Json::object_t&>();
  for (const auto& [name, value] : fields) {
    if (name != "layer" && name != "head") members.emplace_back(name, value);
  }
  return address;
}

Json run_json(const RunRecord& run, const RunSummary& row) {
  Json out = {{"name", row.label}, {"path", run.path}, {"last_step", run.last_step() < 0 ? Json() : Json(run.last_step())}};
  if (run.config.contains("seed")) out["seed"] = run.config.at("seed");
  out["summary"] = values_json(row.values);
  if (row.head) out["summary_head"] = {{"layer", row.head->layer}, {"head", row.head->head}};
  if (row.residual_layer) out["summary_residual_layer"] = *row.residual_layer;
  out["layers"] = Json::array();
  const std::map<HeadId, FinalFields> fields = final_fields(run);
  const auto fields_of = [&](const HeadId& id) {
    const auto found = fields.find(id);
    return found == fields.end() ? FinalFields{} : found->second;
  };
  for (const int64_t layer : run.layers()) out["layers"].push_back(with_fields({{"layer", layer}}, fields_of({layer, -1})));
  out["heads"] = Json::array();
  for (const HeadId& id : run.heads())
    out["heads"].push_back(with_fields({{"layer", id.layer}, {"head", id.head}}, fields_of(id)));
  out["info"] = run.info;
  out["notes"] = run.notes;
  return out;
}

}  // namespace

const std::vector<SummaryMetric>& summary_metrics() {
  static const std::vector<SummaryMetric> metrics = {
      {"steps", "", "", "steps", 0},
      {"train_loss", "loss", "nats", "train", 4},
      {"eval_loss", "loss", "nats", "eval", 4},
      {"perplexity", "eval", "", "perplexity", 4},
      {"bits_per_byte", "eval", "", "bits/byte", 4},
      {"backcopy_risk", "risk", "nats", "backcopy", 3},
      {"bigram_risk", "risk", "nats", "bigram", 4},
      {"sink_attention", "sink", "", "attention", 3},
      {"sink_logit_gap", "sink", "", "logit gap", 3},
      {"value_norm_sink", "|v|", "", "sink", 3},
      {"value_norm_rest", "|v|", "", "rest", 3},
      {"wo_value_norm_sink", "|Wo v|", "", "sink", 3},
      {"wo_value_norm_rest", "|Wo v|", "", "rest", 3},
      {"residual_norm_sink", "|residual|", "", "sink", 3},
      {"residual_norm_rest", "|residual|", "", "rest", 3},
      {"gate_mean", "gate", "", "mean", 3},
      {"gate_closed_share", "gate", "", "closed", 3},
      {"gate_mean_sink", "gate", "", "at sink", 3},
      {"sink_rate", "sink rate", "", "position 0", 3},
      {"sink_rate_largest", "sink rate", "", "largest", 3},
      {"first_token_share", "all heads", "", "first share", 3},
      {"value_norm_ratio", "all heads", "", "|v| ratio", 3},
      {"entropy", "all heads", "", "entropy", 3},
      {"kurtosis", "attention's output", "", "kurtosis", 3},
      {"infinity_norm", "attention's output", "", "max |x|", 3},
      {"massive_activation", "residual", "", "max |x|", 3},
      {"value_gradient_ratio", "|dL/dv|", "", "ratio", 3},
      {"value_gradient_per_mass", "|dL/dv|", "", "per mass", 3},
      {"content_gradient_ratio", "|dL/dv|", "", "content", 3},
      {"gate_gradient_ratio", "|dL/dv|", "", "gate", 3},
      {"quantized_perplexity", "quantized", "", "perplexity", 4},
      {"quantized_change", "quantized", "%", "change", 3},
      {"tokens_per_second", "", "", "tokens/s", 0},
      {"parameters", "", "", "parameters", 0},
  };
  return metrics;
}

Comparison compare_runs(std::vector<RunRecord> runs) {
  Comparison out;
  out.runs = std::move(runs);
  for (const RunRecord& run : out.runs) out.rows.push_back(summarise(run));
  make_labels_unique(out.rows, out.runs);
  out.groups = group_by_seed(out.runs);
  summarise_groups(out);
  out.differences = config_differences(out.runs);
  out.warnings = find_warnings(out);
  return out;
}

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
  else for (const Json& layer : attention) look(layer);
  return fmt::format("{}", fmt::join(sites, " and "));
}

Json to_json(const Comparison& comparison) {
  Json out = {{"runs", Json::array()}, {"groups", Json::array()}};
  for (size_t i = 0; i < comparison.runs.size(); ++i) {
    out["runs"].push_back(run_json(comparison.runs[i], comparison.rows[i]));
  }
  for (const SeedGroup& group : comparison.groups) {
    Json entry = {
        {"name", group.label}, {"runs", Json::array()}, {"mean", Json::object()}, {"deviation", Json::object()}};
    for (const size_t i : group.members) entry["runs"].push_back(comparison.rows[i].label);
    for (const SummaryMetric& metric : summary_metrics()) {
      const auto found = group.values.find(metric.key);
      if (found == group.values.end()) continue;
      entry["mean"][metric.key] = found->second.mean;
      entry["deviation"][metric.key] = found->second.count > 1 ? Json(found->second.deviation) : Json();
    }
    out["groups"].push_back(std::move(entry));
  }
  out["differences"] = Json::object();
  for (const RunDifference& entry : comparison.differences) out["differences"][entry.key] = entry.values;
  out["warnings"] = comparison.warnings;
  return out;
}

}  // namespace sluice
