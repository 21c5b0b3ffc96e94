#include "measure/analysis_table.h"

#include <fmt/ranges.h>

#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/number_text.h"
#include "base/text_table.h"

namespace sluice {
namespace {

constexpr int kDigits = 3;

std::string number(double value) { return std::isnan(value) ? "nan" : format_significant(value, kDigits); }

// The columns of the figures of a list that this analysis has.
template <class Figures>
class FigureTable {
 public:
  FigureTable(std::string corner, const Figures& figures, const Analysis& analysis) {
    table_.corner = std::move(corner);
    for (size_t i = 0; i < figures.size(); ++i)
      if (figures[i].column.is_shown() && analysis.has(figures[i].needs)) {
        table_.columns.push_back({figures[i].column.group, figures[i].column.title});
        columns_.push_back({i, figures[i].needs});
      }
  }
  // A row of an analysis with the same columns, or of one of its layers.
  template <class... Layer>
  void add(std::string label, const std::vector<double>& values, const Analysis& analysis, Layer... layer) {
    TextRow row;
    row.label = std::move(label);
    for (const auto& [index, needs] : columns_)
      row.cells.push_back(analysis.has(needs, layer...) ? number(values[index]) : "");
    table_.rows.push_back(std::move(row));
  }
  std::string text(size_t max_width) const { return to_text(table_, max_width); }

 private:
  TextTable table_;
  std::vector<std::pair<size_t, Needs>> columns_;  // of the list
};

std::string sink_text(const Analysis& analysis, size_t max_width) {
  TextTable table;
  table.corner = "sinks above";
  const std::string group =
      analysis.normalised ? "share of heads and sequences" : "share of heads and sequences (|a| / sum |a|)";
  for (const char* title : {"first position", "largest", "at position", "any position", "later position"})
    table.columns.push_back({group, title});
  table.columns.push_back({"sinks", "a sequence"});
  for (const SinkRates& rate : analysis.sinks) {
    TextRow row;
    row.label = fmt::format("{}", rate.threshold);
    row.cells = {number(rate.first), number(rate.largest), fmt::format("{}", rate.position),
                 number(rate.any),   number(rate.later),   number(rate.count)};
    table.rows.push_back(std::move(row));
  }
  return to_text(table, max_width);
}

std::string notes(const Analysis& analysis) {
  std::string out = fmt::format(
      "first: position 0; rest: mean of the other positions; sink: mean attention above {} (last threshold)\n"
      "attention output: after the output projection; residual: a block's output; v: values before any gate\n"
      "update: what a head adds to the residual; like first: |cos| to position 0's residual above 0.9; all figures: "
      "docs/analysis.md\n",
      analysis.sinks.back().threshold);
  const std::vector<int64_t> headless = analysis.layers_without(Needs::kHeads);
  std::vector<int64_t> weightless = analysis.layers_without(Needs::kWeights);  // of those with heads
  std::erase_if(weightless, [&](int64_t layer) { return !analysis.has(Needs::kHeads, layer); });
  for (const auto& [layers, what] : {std::pair{headless, "heads"}, std::pair{weightless, "weights"}})
    if (!layers.empty())
      out += fmt::format("layers {} have no attention {}, and so no figure of them\n", fmt::join(layers, ", "), what);
  if (const auto layers = analysis.layers_without_mass(); !layers.empty())
    out += fmt::format(
        "layers {} have weights that may be negative; what a position receives is no mass there, and no figure is by "
        "mass\n",
        fmt::join(layers, ", "));
  if (const int64_t heads = analysis.heads_without_rows(); heads > 0)
    out += fmt::format(
        "{} of {} heads have no weight on a token; where a figure is no number there, means are over the others\n",
        heads, analysis.heads.size());
  if (analysis.has_gradients && analysis.has(Needs::kMass))
    out += "dL/dv: L is a sequence's mean loss; by mass: the ratio divided by that of the attention received\n";
  else if (analysis.has_gradients) out += "dL/dv: L is a sequence's mean loss\n";
  return out;
}

}  // namespace

std::string analysis_text(const std::vector<Analysis>& analyses, size_t max_width) {
  const Analysis& last = analyses.back();
  FigureTable model("step", model_figures(), last);
  for (const Analysis& analysis : analyses) model.add(fmt::format("{}", analysis.step), analysis.values, analysis);
  FigureTable layers("layer", layer_figures(), last);
  for (const LayerAnalysis& layer : last.layers)
    layers.add(fmt::format("{}", layer.layer), layer.values, last, layer.layer);
  FigureTable heads("head", head_figures(), last);
  for (const HeadAnalysis& head : last.heads)
    heads.add(fmt::format("L{}H{}", head.layer, head.head), head.values, last, head.layer);

  const std::string registers =
      last.registers > 0 ? fmt::format(" behind {} registers, which are the first positions", last.registers) : "";
  const std::string changes = last.changes.empty() ? "" : fmt::format(" ({})", last.changes);
  std::string out = fmt::format("{} attention{}, {} sequences of {} tokens{}, {}\n{}\n\n", last.attention, changes,
                                last.sequences, last.length, registers, last.precision, last.data);
  out += model.text(max_width) + "\n";
  if (analyses.size() > 1) out += fmt::format("of step {}:\n\n", last.step);
  if (last.has(Needs::kWeights)) out += sink_text(last, max_width) + "\n";
  out += layers.text(max_width) + "\n";
  if (!last.heads.empty()) out += heads.text(max_width) + "\n";
  return out + notes(last);
}

}  // namespace sluice
