// Figures of the whole model.
#include <algorithm>
#include <cmath>

#include "measure/figures/analysis.h"

namespace sluice {
namespace {

using enum Needs;
using A = const Analysis&;
using OfAnalysis = std::function<double(A)>;

// Figures of one tensor.
struct MeasuredOn {
  const char* tensor;
  Needs needs = kNothing;
  ModelFigure operator()(const char* key, const char* meaning, OfAnalysis value, Column column = {},
                         Column compared = {}) const {
    return {key, needs, tensor, meaning, std::move(value), column, compared};
  }
  MeasuredOn with(Needs others) const { return {tensor, others}; }
};

constexpr MeasuredOn of_logits{"logits"}, of_weights{"attention weights a", kWeights},
    of_values{"values v, before any gate", kHeads}, of_gate{"gate g", kGate},
    of_gradient{"dL/dv, v before any gate", kHeads | kGradient},
    of_input_gradient{"dL/dx, x the output of attention's norm", kGradient},
    of_output{"attention's output, after the output projection"}, of_residual{"the block's output"},
    of_mlp{"the MLP's output"}, of_sum{"what the MLP reads plus its output"},
    of_norms{"outputs of all norms, the final one too"},
    of_tensors{"outputs of attention, MLP, block and their norms, and of the final norm"};

constexpr const char *kMean = "mean over layers and heads", *kMeanOfLayers = "mean over layers",
                     *kLargestLayer = "the largest layer's";

OfAnalysis over_heads(const char* key) {
  return [key](A analysis) { return mean_of_heads(analysis, key); };
}

// Of the layers that have the figure.
std::vector<double> of_layers(A analysis, std::string_view key) {
  const auto& figures = layer_figures();
  const auto figure = std::find_if(figures.begin(), figures.end(), [&](const auto& one) { return one.key == key; });
  std::vector<double> out;
  for (const LayerAnalysis& layer : analysis.layers)
    if (analysis.has(figure->needs, layer.layer)) out.push_back(layer[key]);
  return out;
}

double mean(const std::vector<double>& values) {
  Mean out;
  for (const double value : values) out.add(value);
  return out.value();
}

// NaN if some value is, and of none.
double largest(const std::vector<double>& values) {
  double out = values.empty() ? kNoNumber : values.front();
  for (const double value : values) {
    if (std::isnan(value)) return kNoNumber;
    out = std::max(out, value);
  }
  return out;
}

double median(std::vector<double> values) {
  if (std::isnan(largest(values))) return kNoNumber;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

OfAnalysis over_layers(const char* key) {
  return [key](A analysis) { return mean(of_layers(analysis, key)); };
}

OfAnalysis largest_of_layers(const char* key) {
  return [key](A analysis) { return largest(of_layers(analysis, key)); };
}

double least_value_norm_ratio(A analysis) {
  double out = analysis.heads.empty() ? kNoNumber : analysis.heads.front()["value_norm_ratio"];
  for (const HeadAnalysis& head : analysis.heads) {
    if (std::isnan(head["value_norm_ratio"])) return kNoNumber;
    out = std::min(out, head["value_norm_ratio"]);
  }
  return out;
}

// The final norm's, and of every layer those with one of the keys.
std::vector<double> with_final_norm(A analysis, const Mean& final_norm, std::initializer_list<const char*> keys) {
  std::vector<double> out = {final_norm.value()};
  for (const char* key : keys)
    for (const double value : of_layers(analysis, key)) out.push_back(value);
  return out;
}

std::vector<ModelFigure> of_losses_and_sinks() {
  return {
      of_logits("loss", "mean cross-entropy of these sequences, in nats", [](A a) { return a.loss; },
                {"loss [nats]", "mean"}),
      of_logits("perplexity", "e^loss", [](A a) { return std::exp(a.loss); }, {"loss [nats]", "perplexity"}),
      of_weights("sink_rate",
                 "share of heads and sequences with a sink on the first position, at the largest threshold",
                 [](A a) { return a.sinks.back().first; }, {"sink rate", "first"}, {"sink rate", "position 0"}),
      of_weights("sink_rate_largest", "the same on the position where it is largest",
                 [](A a) { return a.sinks.back().largest; }, {"sink rate", "largest"}, {"sink rate", "largest"}),
      of_weights("sink_rate_any", "the same on any position", [](A a) { return a.sinks.back().any; },
                 {"sink rate", "any"}),
      of_weights("sink_rate_later", "the same on any position but the first", [](A a) { return a.sinks.back().later; },
                 {"sink rate", "later"}),
  };
}

std::vector<ModelFigure> of_weights_and_values() {
  return {
      of_weights("first_token_share", kMean, over_heads("first_token_share"), {"attention", "first share"},
                 {"all heads", "first share"}),
      of_weights.with(kBiasKey)("bias_share", kMean, over_heads("bias_share"), {"attention", "bias key"}),
      of_weights("entropy", "mean over layers and heads, in nats", over_heads("entropy"), {}, {"all heads", "entropy"}),
      of_weights("relative_entropy", kMean, over_heads("relative_entropy"), {"attention", "rel. entropy"}),
      of_weights("head_diversity", kMeanOfLayers, over_layers("head_diversity"), {"attention", "diversity"},
                 {"all heads", "diversity"}),
      of_values("value_norm_ratio", kMean, over_heads("value_norm_ratio"), {"|v| first/rest", "mean"},
                {"all heads", "|v| ratio"}),
      of_values("value_norm_ratio_least", "the least of all heads", least_value_norm_ratio,
                {"|v| first/rest", "least"}),
      of_values.with(kWeights)("value_norm_ratio_largest", "at the largest sinks; mean over layers and heads",
                               over_heads("value_norm_ratio_largest"), {"|v| first/rest", "at sinks"}),
  };
}

std::vector<ModelFigure> of_activations() {
  return {
      of_output("infinity_norm", kLargestLayer, largest_of_layers("output_infinity_norm"),
                {"attention output", "max |x|"}, {"attention's output", "max |x|"}),
      of_output("kurtosis", kMeanOfLayers, over_layers("output_kurtosis"), {"attention output", "kurtosis"},
                {"attention's output", "kurtosis"}),
      of_residual("residual_infinity_norm", kLargestLayer, largest_of_layers("residual_infinity_norm")),
      of_residual("massive_activation", "mean over layers of the largest |x|", over_layers("residual_largest"),
                  {"residual", "max |x|"}, {"residual", "max |x|"}),
      of_residual("massive_over_median", "the largest layer's ratio of the largest |x| to the median |x|",
                  largest_of_layers("residual_over_median"), {"residual", "/ median"}),
      of_residual("residual_kurtosis", kMeanOfLayers, over_layers("residual_kurtosis"), {"residual", "kurtosis"}),
      of_sum("max_io_norm", "the largest layer's mean over sequences of the largest |x|",
             largest_of_layers("mlp_sum_infinity_norm"), {"MLP", "max |in + out|"}, {"MLP", "max |in + out|"}),
      of_mlp("mlp_output_kurtosis", kMeanOfLayers, over_layers("mlp_output_kurtosis"), {"MLP", "kurtosis"}),
      of_sum("mlp_sum_kurtosis", kMeanOfLayers, over_layers("mlp_sum_kurtosis")),
      of_norms("norms_kurtosis", "mean over norms",
               [](A a) {
                 return mean(with_final_norm(a, a.totals.final_norm.kurtosis, {"norm1_kurtosis", "norm2_kurtosis"}));
               }),
      of_tensors("tensors_infinity_norm", "the largest tensor's mean over sequences of the largest |x|",
                 [](A a) {
                   return largest(
                       with_final_norm(a, a.totals.final_norm.infinity_norm,
                                       {"output_infinity_norm", "mlp_output_infinity_norm", "residual_infinity_norm",
                                        "norm1_infinity_norm", "norm2_infinity_norm"}));
                 },
                 {"all tensors", "max |x|"}),
      of_tensors("tensors_kurtosis", "mean over these tensors",
                 [](A a) {
                   return mean(with_final_norm(a, a.totals.final_norm.kurtosis,
                                               {"output_kurtosis", "mlp_output_kurtosis", "residual_kurtosis",
                                                "norm1_kurtosis", "norm2_kurtosis"}));
                 },
                 {"all tensors", "kurtosis"}, {"all tensors", "kurtosis"}),
  };
}

std::vector<ModelFigure> of_secondary_sinks() {
  return {
      of_residual("secondary_sink_share", kMeanOfLayers, over_layers("secondary_sink_share"),
                  {"residual", "like first"}, {"secondary sinks", "share"}),
      of_residual("secondary_sinks",
                  "tokens of a sequence that are sinks for more than a seventh of the depth, and less "
                  "than the first position",
                  [](A a) { return a.totals.secondary_sinks.value(); }, {"secondary sinks", "a sequence"},
                  {"secondary sinks", "a sequence"}),
      of_residual("primary_like_sinks", "tokens of a sequence that are sinks for as long as the first position",
                  [](A a) { return a.totals.primary_like_sinks.value(); }, {"secondary sinks", "primary-like"}),
      of_residual("secondary_sink_lifetime",
                  "mean lifetime of the tokens that are sinks at all, as a share of the depth",
                  [](A a) { return a.totals.secondary_lifetime.value(); }, {"secondary sinks", "lifetime"}),
      of_residual("secondary_sink_blocks", "mean lifetime of the secondary sinks, in blocks",
                  [](A a) { return mean_of_some(a.totals.secondary_blocks); }, {"secondary sinks", "blocks"}),
      of_residual("secondary_sink_position", "mean position of the secondary sinks",
                  [](A a) { return mean_of_some(a.totals.secondary_position); }, {"secondary sinks", "position"}),
      of_residual("secondary_sink_first_position", "mean position of the first one, of the sequences that have some",
                  [](A a) { return mean_of_some(a.totals.secondary_first_position); },
                  {"secondary sinks", "first one at"}),
      of_residual("secondary_sink_at_second", "share of the secondary sinks that are at position 1",
                  [](A a) { return mean_of_some(a.totals.secondary_at_second); }, {"secondary sinks", "at 1"}),
  };
}

std::vector<ModelFigure> of_gates_and_gradients() {
  return {
      of_gate("gate_mean", kMean, over_heads("gate_mean"), {"gate", "mean"}),
      of_gate("gate_closed_share", kMean, over_heads("gate_closed_share"), {"gate", "closed"}),
      of_gate("gate_first", kMean, over_heads("gate_first"), {"gate", "at first"}),
      of_weights.with(kMass)("attention_mass_ratio", kMean, over_heads("attention_mass_ratio")),
      of_gradient("value_gradient_ratio", kMean, over_heads("value_gradient_ratio"), {"|dL/dv| first/rest", "all"},
                  {"|dL/dv|", "ratio"}),
      of_gradient.with(kGradient | kMass)("value_gradient_per_mass", kMean, over_heads("value_gradient_per_mass"),
                                          {"|dL/dv| first/rest", "by mass"}, {"|dL/dv|", "per mass"}),
      of_gradient.with(kGatePath)("content_gradient_ratio", kMean, over_heads("content_gradient_ratio"),
                                  {"|dL/dv| first/rest", "content"}, {"|dL/dv|", "content"}),
      of_gradient.with(kGatePath)("gate_gradient_ratio", kMean, over_heads("gate_gradient_ratio"),
                                  {"|dL/dv| first/rest", "gate"}, {"|dL/dv|", "gate"}),
      of_input_gradient("gradient_sink_ratio", "norm at the first position / mean of the others: the median of layers",
                        [](A a) { return median(of_layers(a, "input_gradient_ratio")); },
                        {"|dL/dx| first/rest", "median"}, {"|dL/dx|", "ratio"}),
  };
}

}  // namespace

std::vector<ModelFigure> figures_of_models() {
  std::vector<ModelFigure> out;
  for (const auto& part : {of_losses_and_sinks(), of_weights_and_values(), of_activations(), of_secondary_sinks(),
                           of_gates_and_gradients()})
    out.insert(out.end(), part.begin(), part.end());
  return out;
}

}  // namespace sluice
