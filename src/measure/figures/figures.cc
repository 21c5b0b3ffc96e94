// The lists of figures: a new figure of heads is its file and a line here.
#include "measure/figures/analysis.h"
#include "measure/figures/first_position_argmax.h"
#include "measure/figures/later_sinks.h"
#include "measure/figures/weight_patterns.h"

namespace sluice {
namespace {

template <class Figure>
std::vector<Figure> joined(std::initializer_list<std::vector<Figure>> parts) {
  std::vector<Figure> out;
  for (const std::vector<Figure>& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

}  // namespace

template <>
std::vector<HeadFigure>& part_list() {
  static std::vector<HeadFigure> list = joined<HeadFigure>({
      figures_of_weights(),
      figures_of_values(),
      figures_of_gates(),
      figures_of_mass(),
      figures_of_gradients(),
      figures_of_updates(),
      {first_position_argmax()},
      later_sinks(),
      weight_patterns(),
  });
  return list;
}

const std::vector<HeadFigure>& head_figures() { return part_list<HeadFigure>(); }

const std::vector<LayerFigure>& layer_figures() {
  static const std::vector<LayerFigure> list =
      joined<LayerFigure>({figures_of_layers(), figures_of_mlps_and_norms(), figures_of_layers_sinks()});
  return list;
}

std::vector<ModelFigure> model_figures() {
  std::vector<ModelFigure> list = figures_of_models();
  for (const HeadFigure& figure : head_figures())
    if (figure.mean.is_shown())
      list.push_back({.key = figure.key,
                      .needs = figure.needs,
                      .tensor = figure.tensor,
                      .meaning = "mean over layers and heads",
                      .value = [key = figure.key](const Analysis& analysis) { return mean_of_heads(analysis, key); },
                      .column = figure.mean,
                      .compared = figure.mean});
  return list;
}

}  // namespace sluice
