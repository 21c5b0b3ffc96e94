#include "measure/analysis_table.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "base/number_text.h"
#include "base/text_table.h"

namespace sluice {
namespace {

struct Column {
  const char* group;
  const char* title;
  const char* key;  // of a FigureField
};

constexpr Column kModelColumns[] = {
    {"loss [nats]", "mean", "loss"},
    {"loss [nats]", "perplexity", "perplexity"},
    {"sink rate", "first", "sink_rate"},
    {"sink rate", "largest", "sink_rate_largest"},
    {"sink rate", "any", "sink_rate_any"},
    {"attention", "first share", "first_token_share"},
    {"attention", "bias key", "bias_share"},
    {"attention", "rel. entropy", "relative_entropy"},
    {"|v| first/rest", "mean", "value_norm_ratio"},
    {"|v| first/rest", "least", "value_norm_ratio_least"},
    {"|v| first/rest", "at sinks", "value_norm_ratio_largest"},
    {"attention output", "max |x|", "infinity_norm"},
    {"attention output", "kurtosis", "kurtosis"},
    {"residual", "max |x|", "massive_activation"},
    {"residual", "/ median", "massive_over_median"},
    {"residual", "kurtosis", "residual_kurtosis"},
    {"gate", "mean", "gate_mean"},
    {"gate", "closed", "gate_closed_share"},
    {"gate", "at first", "gate_first"},
    {"|dL/dv| first/rest", "all", "value_gradient_ratio"},
    {"|dL/dv| first/rest", "by mass", "value_gradient_per_mass"},
    {"|dL/dv| first/rest", "content", "content_gradient_ratio"},
    {"|dL/dv| first/rest", "gate", "gate_gradient_ratio"},
};

constexpr Column kLayerColumns[] = {
    {"attention output", "max |x|", "output_infinity_norm"},
    {"attention output", "kurtosis", "output_kurtosis"},
    {"residual", "max |x|", "residual_largest"},
    {"residual", "/ median", "residual_over_median"},
    {"residual", "kurtosis", "residual_kurtosis"},
    {"|residual|", "first", "residual_norm_first"},
    {"|residual|", "rest", "residual_norm_rest"},
};

constexpr Column kHeadColumns[] = {
    {"attention", "first share", "first_token_share"},
    {"attention", "largest", "largest_share"},
    {"attention", "bias key", "bias_share"},
    {"attention", "entropy", "entropy"},
    {"|v|", "first", "value_norm_first"},
    {"|v|", "rest", "value_norm_rest"},
    {"|v|", "ratio", "value_norm_ratio"},
    {"gate", "mean", "gate_mean"},
    {"gate", "closed", "gate_closed_share"},
    {"gate", "at first", "gate_first"},
    {"first/rest", "mass", "attention_mass_ratio"},
    {"first/rest", "|dL/dv|", "value_gradient_ratio"},
    {"first/rest", "content", "content_gradient_ratio"},
    {"first/rest", "gate", "gate_gradient_ratio"},
};

constexpr int kDigits = 3;

std::string number(double value) { return std::isnan(value) ? "nan" : format_significant(value, kDigits); }

// The columns whose figures this analysis has, and a function that puts a row into the table.
template <class Figures, size_t N>
class FigureTable {
 public:
  FigureTable(std::string corner, const Column (&columns)[N], const std::vector<FigureField<Figures>>& fields,
              const Analysis& analysis) {
    table_.corner = std::move(corner);
    for (const Column& column : columns) {
      const auto field = std::find_if(fields.begin(), fields.end(),
                                      [&](const auto& f) { return std::string_view(f.key) == column.key; });
      check(field != fields.end(), "a column of a figure that does not exist");
      add_column(analysis, column.group, column.title, field->needs,
                 [member = field->member](const Figures& figures) { return figures.*member; });
    }
    if constexpr (!std::is_same_v<Figures, LayerFigures>)
      for (size_t i = 0; i < metered_figures().size(); ++i) {
        const MeteredFigure& figure = metered_figures()[i];
        add_column(analysis, figure.group, figure.title, figure.needs,
                   [i](const Figures& figures) { return figures.metered[i]; });
      }
  }
  // A row of an analysis with the same columns, or of one of its layers.
  template <class... Layer>
  void add(std::string label, const Figures& figures, const Analysis& analysis, Layer... layer) {
    TextRow row;
    row.label = std::move(label);
    for (const Shown& shown : columns_)
      row.cells.push_back(analysis.has(shown.needs, layer...) ? number(shown.value(figures)) : "");
    table_.rows.push_back(std::move(row));
  }
  std::string text(size_t max_width) const { return to_text(table_, max_width); }

 private:
  struct Shown {
    Needs needs;
    std::function<double(const Figures&)> value;
  };

  // Where the analysis has the figure.
  void add_column(const Analysis& analysis, const char* group, const char* title, Needs needs,
                  std::function<double(const Figures&)> value) {
    if (!analysis.has(needs)) return;
    table_.columns.push_back({group, title});
    columns_.push_back({needs, std::move(value)});
  }

  TextTable table_;
  std::vector<Shown> columns_;
};

std::string sink_text(const Analysis& analysis, size_t max_width) {
  TextTable table;
  table.corner = "sinks above";
  const std::string group =
      analysis.normalised ? "share of heads and sequences" : "share of heads and sequences (|a| / sum |a|)";
  for (const char* title : {"first position", "largest", "at position", "any position"})
    table.columns.push_back({group, title});
  for (const SinkRates& rate : analysis.model.sinks) {
    TextRow row;
    row.label = fmt::format("{}", rate.threshold);
    row.cells = {number(rate.first), number(rate.largest), fmt::format("{}", rate.position), number(rate.any)};
    table.rows.push_back(std::move(row));
  }
  return to_text(table, max_width);
}

std::string notes(const Analysis& analysis) {
  std::string out = fmt::format(
      "first: position 0; rest: mean of the other positions; sink: mean attention above {} (last threshold)\n"
      "attention output: after the output projection; residual: a block's output; v: values before any gate\n",
      analysis.model.sinks.back().threshold);
  if (const auto layers = analysis.layers_without_weights(); !layers.empty())
    out += fmt::format("layers {} have no attention weights, and so no figure of them\n", fmt::join(layers, ", "));
  if (analysis.has_gradients)
    out += "dL/dv: L is a sequence's mean loss; by mass: the ratio divided by that of the attention received\n";
  return out;
}

}  // namespace

std::string analysis_text(const std::vector<Analysis>& analyses, size_t max_width) {
  const Analysis& last = analyses.back();
  FigureTable model("step", kModelColumns, model_fields(), last);
  for (const Analysis& analysis : analyses) model.add(fmt::format("{}", analysis.step), analysis.model, analysis);
  FigureTable layers("layer", kLayerColumns, layer_fields(), last);
  for (const LayerFigures& layer : last.layers) layers.add(fmt::format("{}", layer.layer), layer, last, layer.layer);
  FigureTable heads("head", kHeadColumns, head_fields(), last);
  for (const HeadFigures& head : last.heads)
    heads.add(fmt::format("L{}H{}", head.layer, head.head), head, last, head.layer);

  std::string out = fmt::format("{} attention, {} sequences of {} tokens, {}\n{}\n\n", last.attention, last.sequences,
                                last.length, last.precision, last.data);
  out += model.text(max_width) + "\n";
  if (analyses.size() > 1) out += fmt::format("of step {}:\n\n", last.step);
  if (last.has(Needs::kWeights)) out += sink_text(last, max_width) + "\n";
  return out + layers.text(max_width) + "\n" + heads.text(max_width) + "\n" + notes(last);
}

}  // namespace sluice
