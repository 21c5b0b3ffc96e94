// The columns, and what each is of a run. Final figures are each series' last point, but for two that are noisy from
// step to step: the training loss (mean of the last kLossWindow logged) and the speed (median of all but the first
// line, which carries the warm-up).
#include "report/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

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

std::optional<int64_t> peak_layer(const RunRecord& run) {
  std::optional<int64_t> best;
  double most = -1;
  for (const int64_t layer : run.layers()) {
    const Value value = run.final_value("probe", "residual_norm_sink", layer);
    if (value && (!best || *value > most)) best = layer, most = *value;
  }
  return best;
}

// Figures of analyses that do not describe theirs: lines of metrics.jsonl, and files of version 0.1.
const std::vector<RecordedFigure>& undescribed_figures() {
  static const std::vector<RecordedFigure> figures = {
      {"sink_rate", "sink rate", "position 0", ""},
      {"sink_rate_largest", "sink rate", "largest", ""},
      {"first_token_share", "all heads", "first share", ""},
      {"value_norm_ratio", "all heads", "|v| ratio", ""},
      {"entropy", "all heads", "entropy", ""},
      {"kurtosis", "attention's output", "kurtosis", ""},
      {"infinity_norm", "attention's output", "max |x|", ""},
      {"massive_activation", "residual", "max |x|", ""},
      {"value_gradient_ratio", "|dL/dv|", "ratio", ""},
      {"value_gradient_per_mass", "|dL/dv|", "per mass", ""},
      {"content_gradient_ratio", "|dL/dv|", "content", ""},
      {"gate_gradient_ratio", "|dL/dv|", "gate", ""},
  };
  return figures;
}

constexpr const char* kQuantizedPerplexity = "quantized_perplexity";
constexpr const char* kQuantizedChange = "quantized_change";
constexpr const char* kQuantizedChangeOfAll = "quantized_change_all_activations";

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
      {"quantized_perplexity", "quantized", "", "perplexity", 4},
      {"quantized_change", "quantized", "%", "change", 3},
      {"quantized_change_all_activations", "quantized", "%", "change, all activations", 3},
      {"tokens_per_second", "", "", "tokens/s", 0},
      {"parameters", "", "", "parameters", 0},
  };
  return metrics;
}

namespace {

template <class Entries>
bool has_key(const Entries& entries, const std::string& key) {
  return std::any_of(entries.begin(), entries.end(), [&](const auto& entry) { return entry.key == key; });
}

// What a run's analyses measured of the model, without what has a column by name: a file does not redefine the losses.
std::vector<RecordedFigure> analysis_figures(const RunRecord& run) {
  std::vector<RecordedFigure> out;
  if (run.analysis)
    for (const RecordedFigure& figure : run.analysis->figures)
      if (!has_key(summary_metrics(), figure.key)) out.push_back(figure);
  for (const RecordedFigure& figure : undescribed_figures())
    if (!has_key(out, figure.key) && run.find("analysis", figure.key)) out.push_back(figure);
  return out;
}

}  // namespace

std::vector<SummaryMetric> metrics_of(const std::vector<RunRecord>& runs) {
  std::vector<SummaryMetric> metrics = summary_metrics();
  // Before what no analysis measures.
  auto at =
      std::find_if(metrics.begin(), metrics.end(), [](const auto& one) { return one.key == kQuantizedPerplexity; });
  for (const RunRecord& run : runs)
    for (const RecordedFigure& figure : analysis_figures(run))
      if (!has_key(metrics, figure.key)) at = metrics.insert(at, {figure.key, figure.group, "", figure.title, 3}) + 1;
  return metrics;
}

std::string measured_how(const RunRecord& run, const std::string& key) {
  if (key == kQuantizedPerplexity || key == kQuantizedChange || key == kQuantizedChangeOfAll) {
    const auto& measured = run.quantization;
    return measured ? fmt::format("step {}, {}", measured->step, measured->how()) : "";
  }
  return run.analysis && has_key(analysis_figures(run), key)
             ? fmt::format("step {}, {}", run.analysis->step, run.analysis->how)
             : "";
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
  for (const RecordedFigure& figure : analysis_figures(run))
    put(figure.key.c_str(), run.final_value("analysis", figure.key));
  put(kQuantizedPerplexity, run.final_value("quantization", "perplexity"));
  put(kQuantizedChange, run.final_value("quantization", "change"));
  put(kQuantizedChangeOfAll, run.final_value("quantization", "change_all_activations"));
  put("tokens_per_second", median_after_first(run.find("train", "tokens_per_second")));
  const auto parameters = run.info.find("parameters");
  if (parameters != run.info.end() && parameters->is_number()) put("parameters", parameters->get<double>());
  return row;
}

}  // namespace sluice
