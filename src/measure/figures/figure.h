// Figures: what the full probe measures, of heads, of layers and of the whole model, and how people see it.
//
// Three lists (figures.cc). Analyses, their tables, the reference of figures, and by the descriptions that an analysis
// takes with it comparisons and the page walk them: none of these knows a figure's name. A head's or layer's figure is
// made from what the probe adds up (totals.h), or has a meter of its own: a source file with the meter, and a line of
// the list. It is there where its layer has what it needs, and the model's mean is over the heads that have it. One
// that is no number (0/0, a run that diverged) is NaN. docs/analysis.md has the formulas, and where they come from.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/part_list.h"
#include "measure/figures/needs.h"
#include "measure/figures/totals.h"

namespace sluice {

struct Analysis;

// Where a figure stands in a table; nowhere without a title.
struct Column {
  const char *group = "", *title = "";
  bool is_shown() const { return *title != '\0'; }
};

struct HeadFigure {
  const char* key;  // in analyses and metrics
  Needs needs;
  const char *tensor, *meaning;                            // what it is measured on, and what it is, for people
  double (*value)(const HeadTotals& totals) = nullptr;     // or
  std::function<std::unique_ptr<HeadMeter>()> meter = {};  // with kWeights
  Column column = {};
  Column mean = {};  // if shown, the model has the mean over its heads under the same key, and so has a comparison
};

// A figure with a meter that stands in the same column of analyses and comparisons.
inline HeadFigure metered_figure(const char* key, const char* meaning,
                                 std::function<std::unique_ptr<HeadMeter>()> meter, Column column) {
  return {.key = key,
          .needs = Needs::kWeights,
          .tensor = "attention weights a",
          .meaning = meaning,
          .meter = std::move(meter),
          .column = column,
          .mean = column};
}

struct LayerFigure {
  const char* key;
  Needs needs;
  const char *tensor, *meaning;
  double (*value)(const LayerTotals& totals);
  Column column = {};
};

struct ModelFigure {
  const char* key;
  Needs needs;  // of some layer
  const char* tensor;
  std::string meaning;
  std::function<double(const Analysis& analysis)> value;  // of an analysis whose heads and layers are there
  Column column = {};
  Column compared = {};  // in comparisons of runs
};

const std::vector<HeadFigure>& head_figures();
const std::vector<LayerFigure>& layer_figures();
std::vector<ModelFigure> model_figures();  // with the means of heads

// The list's parts, by what they are measured on.
std::vector<HeadFigure> figures_of_weights();
std::vector<HeadFigure> figures_of_values();
std::vector<HeadFigure> figures_of_gates();
std::vector<HeadFigure> figures_of_mass();
std::vector<HeadFigure> figures_of_gradients();
std::vector<HeadFigure> figures_of_updates();
std::vector<LayerFigure> figures_of_layers();
std::vector<LayerFigure> figures_of_mlps_and_norms();
std::vector<LayerFigure> figures_of_layers_sinks();
std::vector<ModelFigure> figures_of_models();

template <>
std::vector<HeadFigure>& part_list();
using ListedFigure = Listed<HeadFigure>;

}  // namespace sluice
