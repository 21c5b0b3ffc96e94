// Figures of layers.
#include "measure/figures/figure.h"

namespace sluice {
namespace {

using enum Needs;
using T = const LayerTotals&;

// Figures of one tensor.
struct MeasuredOn {
  const char* tensor;
  Needs needs = kNothing;
  LayerFigure operator()(const char* key, const char* meaning, double (*value)(T), Column column = {}) const {
    return {key, needs, tensor, meaning, value, column};
  }
};

constexpr MeasuredOn of_output{"attention's output, after the output projection"}, of_residual{"the block's output"},
    of_norm1{"the output of attention's norm"}, of_norm2{"the output of the MLP's norm"}, of_mlp{"the MLP's output"},
    of_sum{"what the MLP reads plus its output"}, of_weights{"attention weights a", kWeights},
    of_direction{"|cos| between the MLP's output and the first position's row of the block's output"},
    of_gradient{"dL/dx, x the output of attention's norm; L the sequence's mean loss", kGradient};

constexpr const char *kLargestOfSequences = "mean over sequences of the largest |x|",
                     *kKurtosis = "mean over sequences of the kurtosis of all elements",
                     *kFirst = "mean norm at the first position", *kRest = "mean norm at the others";

}  // namespace

std::vector<LayerFigure> figures_of_layers() {
  return {
      of_output("output_infinity_norm", kLargestOfSequences, [](T t) { return t.output.infinity_norm.value(); },
                {"attention output", "max |x|"}),
      of_output("output_kurtosis", kKurtosis, [](T t) { return t.output.kurtosis.value(); },
                {"attention output", "kurtosis"}),
      of_residual("residual_infinity_norm", kLargestOfSequences, [](T t) { return t.residual.infinity_norm.value(); }),
      of_residual("residual_largest", "the largest |x| of all sequences", [](T t) { return t.largest; },
                  {"residual", "max |x|"}),
      of_residual("residual_over_median", "mean over sequences of the largest |x| / the median |x|",
                  [](T t) { return t.over_median.value(); }, {"residual", "/ median"}),
      of_residual("residual_kurtosis", kKurtosis, [](T t) { return t.residual.kurtosis.value(); },
                  {"residual", "kurtosis"}),
      of_residual("residual_norm_first", kFirst, [](T t) { return t.residual_norm.sink.value(); },
                  {"|residual|", "first"}),
      of_residual("residual_norm_rest", kRest, [](T t) { return t.residual_norm.rest.value(); },
                  {"|residual|", "rest"}),
  };
}

std::vector<LayerFigure> figures_of_mlps_and_norms() {
  return {
      of_mlp("mlp_output_infinity_norm", kLargestOfSequences, [](T t) { return t.mlp_output.infinity_norm.value(); }),
      of_mlp("mlp_output_kurtosis", kKurtosis, [](T t) { return t.mlp_output.kurtosis.value(); }, {"MLP", "kurtosis"}),
      of_sum("mlp_sum_infinity_norm", kLargestOfSequences, [](T t) { return t.mlp_sum.infinity_norm.value(); },
             {"MLP", "max |in + out|"}),
      of_sum("mlp_sum_kurtosis", kKurtosis, [](T t) { return t.mlp_sum.kurtosis.value(); }),
      of_norm1("norm1_infinity_norm", kLargestOfSequences, [](T t) { return t.norm1.infinity_norm.value(); }),
      of_norm1("norm1_kurtosis", kKurtosis, [](T t) { return t.norm1.kurtosis.value(); },
               {"norms' kurtosis", "attention's"}),
      of_norm2("norm2_infinity_norm", kLargestOfSequences, [](T t) { return t.norm2.infinity_norm.value(); }),
      of_norm2("norm2_kurtosis", kKurtosis, [](T t) { return t.norm2.kurtosis.value(); }, {"norms' kurtosis", "MLP's"}),
  };
}

std::vector<LayerFigure> figures_of_layers_sinks() {
  return {
      of_weights("head_diversity", "standard deviation over heads, mean over sequences and pairs that rows may see",
                 [](T t) { return t.head_diversity.value(); }, {"attention", "diversity"}),
      of_residual("secondary_sink_share", "share of the tokens after the first with |cos| > 0.9 to the first",
                  [](T t) { return t.like_first.share.value(); }, {"residual", "like first"}),
      of_residual("secondary_norm_by_first", "mean norm of these tokens / mean norm at the first position",
                  [](T t) { return mean_of_some(t.like_first.norm) / t.like_first.first_norm.value(); },
                  {"|residual| of like first", "/ first"}),
      of_residual("secondary_norm_by_others", "mean norm of these tokens / that of the others after the first",
                  [](T t) { return mean_of_some(t.like_first.norm) / mean_of_some(t.like_first.others_norm); },
                  {"|residual| of like first", "/ others"}),
      of_direction("mlp_cosine_first", "mean at the first position",
                   [](T t) { return t.like_first.mlp_of_first.value(); }, {"|cos| of MLP", "first"}),
      of_direction("mlp_cosine_secondary", "mean over the tokens with |cos| > 0.9 of the stream to the first",
                   [](T t) { return mean_of_some(t.like_first.mlp); }, {"|cos| of MLP", "like first"}),
      of_direction("mlp_cosine_others", "mean over the others",
                   [](T t) { return mean_of_some(t.like_first.mlp_of_others); }, {"|cos| of MLP", "others"}),
      of_gradient("input_gradient_first", kFirst, [](T t) { return t.input_gradient.sink.value(); }),
      of_gradient("input_gradient_rest", kRest, [](T t) { return t.input_gradient.rest.value(); }),
      of_gradient("input_gradient_ratio", "first / rest", [](T t) { return t.input_gradient.ratio(); },
                  {"first/rest", "|dL/dx|"}),
  };
}

}  // namespace sluice
