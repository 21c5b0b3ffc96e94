// Figures of attention heads that are made from what the full probe adds up.
#include <numeric>

#include "measure/figures/figure.h"

namespace sluice {
namespace {

using enum Needs;
using T = const HeadTotals&;

constexpr const char *kFirst = "mean norm at the first position", *kRest = "mean norm at the others",
                     *kRatio = "first / rest", *kSameAtOthers = "the same at the others";

// Figures of one tensor, with what all of them need unless one says otherwise.
struct MeasuredOn {
  const char* tensor;
  Needs needs;
  HeadFigure operator()(const char* key, const char* meaning, double (*value)(T), Column column = {}) const {
    return {.key = key, .needs = needs, .tensor = tensor, .meaning = meaning, .value = value, .column = column};
  }
  MeasuredOn with(Needs others) const { return {tensor, others}; }
};

constexpr MeasuredOn of_weights{"attention weights a", kWeights}, of_values{"values v, before any gate", kHeads},
    of_gate{"gate g", kGate}, of_gradient{"dL/dv, v before any gate; L the sequence's mean loss", kHeads | kGradient},
    of_update{"the head's part of attention's output, after the output projection", kHeads};

}  // namespace

std::vector<HeadFigure> figures_of_weights() {
  return {
      of_weights("sink_rate", "share of sequences with a sink on the first position, at the largest threshold",
                 [](T t) { return t.rates.back().first; }),
      of_weights("first_token_share", "mean over rows of the share on the first position",
                 [](T t) { return t.share[0] / t.sequences; }, {"attention", "first share"}),
      of_weights.with(kWeights | kRegisters)(
          "register_share", "sum over the registers of the share on each",
          [](T t) { return std::accumulate(t.share.begin(), t.share.begin() + t.registers, 0.0) / t.sequences; },
          {"attention", "registers"}),
      of_weights.with(kWeights | kRegisters)("first_text_share", "mean over rows of the share on the first token",
                                             [](T t) { return t.share[size_t(t.registers)] / t.sequences; },
                                             {"attention", "first token"}),
      of_weights("largest_share", "mean of each sequence's largest share on one position",
                 [](T t) { return t.largest_share.value(); }, {"attention", "largest"}),
      of_weights.with(kBiasKey)("bias_share", "mean over rows of the share on the bias key",
                                [](T t) { return t.bias_share.value(); }, {"attention", "bias key"}),
      of_weights("row_mass", "mean over rows of the sum of the weights on the tokens",
                 [](T t) { return t.row_mass.value(); }),
      of_weights("entropy", "mean entropy of the rows, in nats", [](T t) { return t.entropy.value(); },
                 {"attention", "entropy"}),
      of_weights("relative_entropy", "mean of entropy / log of the row's length",
                 [](T t) { return t.relative_entropy.value(); }),
  };
}

std::vector<HeadFigure> figures_of_values() {
  return {
      of_values("value_norm_first", kFirst, [](T t) { return t.value.sink.value(); }, {"|v|", "first"}),
      of_values("value_norm_rest", kRest, [](T t) { return t.value.rest.value(); }, {"|v|", "rest"}),
      of_values("value_norm_ratio", kRatio, [](T t) { return t.value.ratio(); }, {"|v|", "ratio"}),
      of_values.with(kWeights)("value_norm_ratio_largest", "mean norm at each sequence's largest sink / mean elsewhere",
                               [](T t) { return t.value_largest.ratio(); }),
  };
}

std::vector<HeadFigure> figures_of_gates() {
  return {
      of_gate("gate_mean", "mean opening", [](T t) { return t.gate.value(); }, {"gate", "mean"}),
      of_gate("gate_closed_share", "share of openings below 0.1", [](T t) { return t.gate_closed.value(); },
              {"gate", "closed"}),
      of_gate("gate_first", "mean opening at the first position", [](T t) { return t.gate_first.value(); },
              {"gate", "at first"}),
      of_gate.with(kGate | kWeights)("gate_largest", "mean opening at each sequence's largest sink",
                                     [](T t) { return t.gate_largest.value(); }),
  };
}

// The attention that positions receive, which gradients are compared with.
std::vector<HeadFigure> figures_of_mass() {
  return {
      of_weights("attention_mass_first", "mean sum over rows of the weight on the first position",
                 [](T t) { return t.received.sink.value(); }),
      of_weights("attention_mass_rest", "the same, mean of the other positions",
                 [](T t) { return t.received.rest.value(); }),
      of_weights.with(kMass)("attention_mass_ratio", kRatio, [](T t) { return t.received.ratio(); },
                             {"first/rest", "mass"}),
  };
}

std::vector<HeadFigure> figures_of_gradients() {
  return {
      of_gradient("value_gradient_first", kFirst, [](T t) { return t.gradient.sink.value(); }),
      of_gradient("value_gradient_rest", kRest, [](T t) { return t.gradient.rest.value(); }),
      of_gradient("value_gradient_ratio", kRatio, [](T t) { return t.gradient.ratio(); }, {"first/rest", "|dL/dv|"}),
      of_gradient.with(kGradient | kWeights)("value_gradient_ratio_largest",
                                             "mean norm at each sequence's largest sink / mean elsewhere",
                                             [](T t) { return t.gradient_largest.ratio(); }),
      of_gradient.with(kGradient | kMass)("value_gradient_per_mass", "value_gradient_ratio / attention_mass_ratio",
                                          [](T t) { return t.gradient.ratio() / t.received.ratio(); }),
      of_gradient("value_gradient_radial_first",
                  "mean of dL/dv . v / |v| at the first position: above 0, descent shortens the value",
                  [](T t) { return t.radial.sink.value(); }),
      of_gradient("value_gradient_radial_rest", kSameAtOthers, [](T t) { return t.radial.rest.value(); }),
      of_gradient.with(kGatePath)("content_gradient_first",
                                  "mean norm at the first position of the part that comes through the attended values",
                                  [](T t) { return t.content.sink.value(); }),
      of_gradient.with(kGatePath)("content_gradient_rest", kSameAtOthers, [](T t) { return t.content.rest.value(); }),
      of_gradient.with(kGatePath)("content_gradient_ratio", kRatio, [](T t) { return t.content.ratio(); },
                                  {"first/rest", "content"}),
      of_gradient.with(kGatePath)("gate_gradient_first",
                                  "mean norm at the first position of the part that comes through the gate",
                                  [](T t) { return t.gate_path.sink.value(); }),
      of_gradient.with(kGatePath)("gate_gradient_rest", kSameAtOthers, [](T t) { return t.gate_path.rest.value(); }),
      of_gradient.with(kGatePath)("gate_gradient_ratio", kRatio, [](T t) { return t.gate_path.ratio(); },
                                  {"first/rest", "gate"}),
  };
}

std::vector<HeadFigure> figures_of_updates() {
  HeadFigure rank = of_update("stable_rank", "mean over sequences of |U|_F^2 / |U|_2^2, U [T, C] what the head adds",
                              [](T t) { return t.stable_rank.value(); }, {"update", "stable rank"});
  rank.mean = {"update", "stable rank"};
  return {rank};
}

}  // namespace sluice
