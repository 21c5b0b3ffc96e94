// The comparison as a table, formatting only: every figure comes from compare.h.
#include "report/compare_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/console.h"

namespace sluice {
namespace {

constexpr const char* kUnknown = "-";

// The main columns, each but where another, which says more of the same, is known.
struct MainColumn {
  const char *key, *unless = "";
};
constexpr MainColumn kMainColumns[] = {
    {"steps"},
    {"train_loss", "eval_loss"},
    {"eval_loss"},
    {"perplexity"},
    {"bits_per_byte"},
    {"backcopy_risk"},
    {"bigram_risk"},
    {"sink_attention"},
    {"value_norm_sink", "value_norm_ratio"},
    {"value_norm_rest", "value_norm_ratio"},
    {"residual_norm_sink", "massive_activation"},
    {"residual_norm_rest", "massive_activation"},
    {"gate_mean"},
    {"sink_rate"},
    {"value_norm_ratio"},
    {"massive_activation"},
    {"quantized_perplexity"},
    {"tokens_per_second"},
};

bool is_known(const Comparison& comparison, const std::string& key) {
  return std::any_of(comparison.rows.begin(), comparison.rows.end(),
                     [&](const RunSummary& row) { return row.values.contains(key); });
}

bool is_main(const Comparison& comparison, const std::string& key) {
  const auto found = std::find_if(std::begin(kMainColumns), std::end(kMainColumns),
                                  [&](const MainColumn& column) { return column.key == key; });
  return found != std::end(kMainColumns) && !is_known(comparison, found->unless);
}

std::string heading(const SummaryMetric& metric) {
  return metric.unit.empty() ? metric.group : fmt::format("{} [{}]", metric.group, metric.unit);
}

// A group's head is named only where its members agree.
std::string head_cell(const Comparison& comparison, const std::vector<size_t>& members) {
  std::set<std::string> names;
  for (const size_t i : members) {
    if (comparison.rows[i].head) names.insert(harmless(comparison.rows[i].head->name()));
  }
  return names.size() == 1 ? *names.begin() : kUnknown;
}

std::vector<std::string> make_footnotes(const Comparison& comparison, bool several_heads, bool has_means) {
  std::vector<std::string> out = {
      "final values; train: mean of the last 10 logged losses; tokens/s: median after the first logged step"};
  std::string head = "sink: position 0; rest: mean over the other positions";
  if (several_heads) head += "; the head shown is the one with the largest sink attention, of each run its own";
  out.push_back(head);
  std::set<int64_t> peaks;
  bool several_layers = false;
  for (size_t i = 0; i < comparison.runs.size(); ++i) {
    several_layers |= comparison.runs[i].layers().size() > 1;
    if (comparison.rows[i].residual_layer) peaks.insert(*comparison.rows[i].residual_layer);
  }
  if (several_layers && !peaks.empty()) {
    out.push_back(
        fmt::format("|residual|: the block output's norm in the layer where it is largest at position 0 "
                    "(layer {})",
                    fmt::join(peaks, ", ")));
  }
  const bool probed = std::any_of(comparison.rows.begin(), comparison.rows.end(),
                                  [](const RunSummary& row) { return row.values.contains("sink_rate"); });
  if (probed) {
    out.push_back(
        "sink rate and what follows, but speed and size: of the full probe, over all heads and layers; "
        "docs/analysis.md defines each figure");
  }
  std::set<std::string> quantized;
  for (const RunRecord& run : comparison.runs) {
    if (run.quantization) quantized.insert(harmless(run.quantization->rule));
  }
  if (!quantized.empty()) {
    out.push_back(
        fmt::format("quantized: {}; change: from the same model unquantized on the same held-out sequences, which "
                    "may be others than eval's",
                    fmt::join(quantized, "; ")));
  }
  if (has_means) {
    out.push_back(
        "±: standard deviation over runs that differ only by seed; (1 of 2): as many of them have the figure");
  }
  return out;
}

}  // namespace

std::string format_metric(const SummaryMetric& metric, double value) {
  return metric.digits == 0 ? format_count(value) : format_significant(value, metric.digits);
}

std::string format_spread(const SummaryMetric& metric, const SeedSpread& spread) {
  return spread.count == 1 ? format_metric(metric, spread.mean)
                           : format_with_deviation(spread.mean, spread.deviation, metric.digits);
}

TextTable make_table(const Comparison& comparison, Columns columns) {
  TextTable table;
  int64_t others = 0;  // columns that are left out though they are known
  const bool several_heads = std::any_of(comparison.runs.begin(), comparison.runs.end(),
                                         [](const RunRecord& run) { return run.heads().size() > 1; });
  std::vector<const SummaryMetric*> metrics;  // beside each column; null: the head's name
  for (const SummaryMetric& metric : comparison.metrics) {
    if (!is_known(comparison, metric.key)) continue;
    if (columns == Columns::kMain && !is_main(comparison, metric.key)) {
      ++others;
      continue;
    }
    if (several_heads && metric.key == "sink_attention") {
      table.columns.push_back({harmless(heading(metric)), "head"});
      metrics.push_back(nullptr);
    }
    table.columns.push_back({harmless(heading(metric)), harmless(metric.title)});
    metrics.push_back(&metric);
  }

  const auto add_row = [&](TextRow row, const std::vector<size_t>& members, const auto& cell) {
    for (const SummaryMetric* metric : metrics) {
      row.cells.push_back(metric ? cell(*metric) : head_cell(comparison, members));
    }
    table.rows.push_back(std::move(row));
  };
  std::vector<size_t> group_of(comparison.runs.size());
  for (size_t g = 0; g < comparison.groups.size(); ++g) {
    for (const size_t i : comparison.groups[g].members) group_of[i] = g;
  }
  for (size_t i = 0; i < comparison.rows.size(); ++i) {
    const RunSummary& run = comparison.rows[i];
    add_row({harmless(run.label), group_of[i], false, {}}, {i}, [&](const SummaryMetric& metric) -> std::string {
      const auto found = run.values.find(metric.key);
      return found == run.values.end() ? kUnknown : format_metric(metric, found->second);
    });
  }
  bool has_means = false;
  for (size_t g = 0; g < comparison.groups.size(); ++g) {
    const SeedGroup& group = comparison.groups[g];
    if (group.members.size() < 2) continue;
    has_means = true;
    const std::string label = fmt::format("{}, {} seeds", harmless(group.label), group.members.size());
    add_row({label, g, true, {}}, group.members, [&](const SummaryMetric& metric) -> std::string {
      const auto found = group.values.find(metric.key);
      if (found == group.values.end()) return kUnknown;
      const int64_t count = found->second.count, all = int64_t(group.members.size());
      return format_spread(metric, found->second) + (count < all ? fmt::format(" ({} of {})", count, all) : "");
    });
  }
  table.footnotes = make_footnotes(comparison, several_heads, has_means);
  if (others > 0)
    table.footnotes.push_back(fmt::format("{} more column{}: sluice compare --all", others, others == 1 ? "" : "s"));
  return table;
}

}  // namespace sluice
