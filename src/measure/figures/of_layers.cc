// Figures of layers and of the whole model.
#include <algorithm>
#include <cmath>

#include "measure/figures/analysis.h"

namespace sluice {
namespace {

using enum Needs;
using T = const LayerTotals&;
using A = const Analysis&;

constexpr const char *kOutput = "attention's output, after the output projection", *kResidual = "the block's output";
constexpr const char* kLargestOfSequences = "mean over sequences of the largest |x|";
constexpr const char* kKurtosis = "mean over sequences of the kurtosis of all elements";

using OfAnalysis = std::function<double(A)>;

OfAnalysis over_heads(const char* key) {
  return [key](A analysis) { return mean_of_heads(analysis, key); };
}

OfAnalysis over_layers(const char* key) {
  return [key](A analysis) {
    Mean mean;
    for (const LayerAnalysis& layer : analysis.layers) mean.add(layer[key]);
    return mean.value();
  };
}

OfAnalysis largest_of_layers(const char* key) {
  return [key](A analysis) {
    double out = analysis.layers.front()[key];
    for (const LayerAnalysis& layer : analysis.layers) {
      if (std::isnan(layer[key])) return kNoNumber;
      out = std::max(out, layer[key]);
    }
    return out;
  };
}

double least_value_norm_ratio(A analysis) {
  double out = analysis.heads.front()["value_norm_ratio"];
  for (const HeadAnalysis& head : analysis.heads) {
    if (std::isnan(head["value_norm_ratio"])) return kNoNumber;
    out = std::min(out, head["value_norm_ratio"]);
  }
  return out;
}

// ---- the model's

constexpr const char *kOfWeights = "attention weights a", *kOfValues = "values v, before any gate", *kOfGate = "gate g",
                     *kOfGradient = "dL/dv, v before any gate", *kMean = "mean over layers and heads";

std::vector<ModelFigure> of_losses_and_sinks() {
  return {
      {"loss",
       kNothing,
       "logits",
       "mean cross-entropy of these sequences, in nats",
       [](A a) { return a.loss; },
       {"loss [nats]", "mean"}},
      {"perplexity", kNothing, "logits", "e^loss", [](A a) { return std::exp(a.loss); }, {"loss [nats]", "perplexity"}},
      {"sink_rate",
       kWeights,
       kOfWeights,
       "share of heads and sequences with a sink on the first position, at the largest threshold",
       [](A a) { return a.sinks.back().first; },
       {"sink rate", "first"},
       {"sink rate", "position 0"}},
      {"sink_rate_largest",
       kWeights,
       kOfWeights,
       "the same on the position where it is largest",
       [](A a) { return a.sinks.back().largest; },
       {"sink rate", "largest"},
       {"sink rate", "largest"}},
      {"sink_rate_any",
       kWeights,
       kOfWeights,
       "the same on any position",
       [](A a) { return a.sinks.back().any; },
       {"sink rate", "any"}},
      {"sink_rate_later",
       kWeights,
       kOfWeights,
       "the same on any position but the first",
       [](A a) { return a.sinks.back().later; },
       {"sink rate", "later"}},
  };
}

std::vector<ModelFigure> of_weights_and_values() {
  return {
      {"first_token_share",
       kWeights,
       kOfWeights,
       kMean,
       over_heads("first_token_share"),
       {"attention", "first share"},
       {"all heads", "first share"}},
      {"bias_share", kBiasKey, kOfWeights, kMean, over_heads("bias_share"), {"attention", "bias key"}},
      {"entropy",
       kWeights,
       kOfWeights,
       "mean over layers and heads, in nats",
       over_heads("entropy"),
       {},
       {"all heads", "entropy"}},
      {"relative_entropy", kWeights, kOfWeights, kMean, over_heads("relative_entropy"), {"attention", "rel. entropy"}},
      {"value_norm_ratio",
       kNothing,
       kOfValues,
       kMean,
       over_heads("value_norm_ratio"),
       {"|v| first/rest", "mean"},
       {"all heads", "|v| ratio"}},
      {"value_norm_ratio_least",
       kNothing,
       kOfValues,
       "the least of all heads",
       least_value_norm_ratio,
       {"|v| first/rest", "least"}},
      {"value_norm_ratio_largest",
       kWeights,
       kOfValues,
       "at the largest sinks; mean over layers and heads",
       over_heads("value_norm_ratio_largest"),
       {"|v| first/rest", "at sinks"}},
  };
}

std::vector<ModelFigure> of_layers() {
  return {
      {"infinity_norm",
       kNothing,
       kOutput,
       "the largest layer's",
       largest_of_layers("output_infinity_norm"),
       {"attention output", "max |x|"},
       {"attention's output", "max |x|"}},
      {"kurtosis",
       kNothing,
       kOutput,
       "mean over layers",
       over_layers("output_kurtosis"),
       {"attention output", "kurtosis"},
       {"attention's output", "kurtosis"}},
      {"residual_infinity_norm", kNothing, kResidual, "the largest layer's",
       largest_of_layers("residual_infinity_norm")},
      {"massive_activation",
       kNothing,
       kResidual,
       "mean over layers of the largest |x|",
       over_layers("residual_largest"),
       {"residual", "max |x|"},
       {"residual", "max |x|"}},
      {"massive_over_median",
       kNothing,
       kResidual,
       "the largest layer's ratio of the largest |x| to the median |x|",
       largest_of_layers("residual_over_median"),
       {"residual", "/ median"}},
      {"residual_kurtosis",
       kNothing,
       kResidual,
       "mean over layers",
       over_layers("residual_kurtosis"),
       {"residual", "kurtosis"}},
  };
}

std::vector<ModelFigure> of_gates_and_gradients() {
  return {
      {"gate_mean", kGate, kOfGate, kMean, over_heads("gate_mean"), {"gate", "mean"}},
      {"gate_closed_share", kGate, kOfGate, kMean, over_heads("gate_closed_share"), {"gate", "closed"}},
      {"gate_first", kGate, kOfGate, kMean, over_heads("gate_first"), {"gate", "at first"}},
      {"attention_mass_ratio", kWeights, kOfWeights, kMean, over_heads("attention_mass_ratio")},
      {"value_gradient_ratio",
       kGradient,
       kOfGradient,
       kMean,
       over_heads("value_gradient_ratio"),
       {"|dL/dv| first/rest", "all"},
       {"|dL/dv|", "ratio"}},
      {"value_gradient_per_mass",
       kGradient | kWeights,
       kOfGradient,
       kMean,
       over_heads("value_gradient_per_mass"),
       {"|dL/dv| first/rest", "by mass"},
       {"|dL/dv|", "per mass"}},
      {"content_gradient_ratio",
       kGatePath,
       kOfGradient,
       kMean,
       over_heads("content_gradient_ratio"),
       {"|dL/dv| first/rest", "content"},
       {"|dL/dv|", "content"}},
      {"gate_gradient_ratio",
       kGatePath,
       kOfGradient,
       kMean,
       over_heads("gate_gradient_ratio"),
       {"|dL/dv| first/rest", "gate"},
       {"|dL/dv|", "gate"}},
  };
}

}  // namespace

std::vector<LayerFigure> figures_of_layers() {
  return {
      {"output_infinity_norm",
       kNothing,
       kOutput,
       kLargestOfSequences,
       [](T t) { return t.output_norm.value(); },
       {"attention output", "max |x|"}},
      {"output_kurtosis",
       kNothing,
       kOutput,
       kKurtosis,
       [](T t) { return t.output_kurtosis.value(); },
       {"attention output", "kurtosis"}},
      {"residual_infinity_norm", kNothing, kResidual, kLargestOfSequences,
       [](T t) { return t.residual_infinity.value(); }},
      {"residual_largest",
       kNothing,
       kResidual,
       "the largest |x| of all sequences",
       [](T t) { return t.largest; },
       {"residual", "max |x|"}},
      {"residual_over_median",
       kNothing,
       kResidual,
       "mean over sequences of the largest |x| / the median |x|",
       [](T t) { return t.over_median.value(); },
       {"residual", "/ median"}},
      {"residual_kurtosis",
       kNothing,
       kResidual,
       kKurtosis,
       [](T t) { return t.residual_kurtosis.value(); },
       {"residual", "kurtosis"}},
      {"residual_norm_first",
       kNothing,
       kResidual,
       "mean norm at the first position",
       [](T t) { return t.residual.sink.value(); },
       {"|residual|", "first"}},
      {"residual_norm_rest",
       kNothing,
       kResidual,
       "mean norm at the others",
       [](T t) { return t.residual.rest.value(); },
       {"|residual|", "rest"}},
  };
}

std::vector<ModelFigure> figures_of_models() {
  std::vector<ModelFigure> out;
  for (const auto& part : {of_losses_and_sinks(), of_weights_and_values(), of_layers(), of_gates_and_gradients()})
    out.insert(out.end(), part.begin(), part.end());
  return out;
}

}  // namespace sluice
