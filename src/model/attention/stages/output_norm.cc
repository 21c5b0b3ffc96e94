#include "model/attention/stages/output_norm.h"

#include <cmath>

namespace sluice {

void OutputNormOptions::describe(Fields& attention) {
  attention.add(
      "output_norm", kind,
      "a norm of the results. Every head's divided by the root of its mean square, with one learned gain per feature "
      "for "
      "all heads: rmsnorm (arXiv 2605.06611); rmsnorm_by_depth: times 0.2 + 0.6 e^(-0.3 layer) (arXiv 2410.05258). All "
      "heads' together: simple_rmsnorm_of_all, without a gain; layernorm_of_all, with gains and biases (arXiv "
      "2307.14995)");
}

std::string OutputNormOptions::text() const {
  if (kind == OutputNormKind::kRmsNormOfAll) return "results of all heads divided by the root of their mean square";
  if (kind == OutputNormKind::kLayerNormOfAll) return "LayerNorm of all heads' results";
  return std::string("results normed a head") + (kind == OutputNormKind::kRmsNormByDepth ? ", by depth" : "");
}

double lambda_init(int layer) { return 0.8 - 0.6 * std::exp(-0.3 * layer); }

OutputNorm::OutputNorm(const LayerPlace& place, OutputNormKind kind)
    : epsilon_(place.d.config.norm_epsilon),
      scale_(kind == OutputNormKind::kRmsNormByDepth ? 1 - lambda_init(place.layer) : 1) {
  const Declarations& d = place.d;
  gain_ = d.params.declare(place.name + ".output_norm.weight", {place.sizes.D_v}, Init::constant(1), DecayGroup::kNorm);
  result_ = d.attention_activation(place.layer, place.name + ".normed_results", "activations",
                                   {d.max_tokens(), place.sizes.result_columns()}, d.act);
}

HeadNormForward OutputNorm::arguments(const Pass& pass, const Tensor& in) const {
  return {.epsilon = epsilon_, .x = in, .out = {}, .gain = pass.params.value(gain_), .scale = scale_};
}

void OutputNorm::forward(const Pass& pass, const Tensor& in, const StageReads& /*reads*/) const {
  HeadNormForward args = arguments(pass, in);
  args.out = result(pass, in);
  pass.backend.run(args);
}

Tensor OutputNorm::backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& /*reads*/,
                            const Tensor& workspace) const {
  pass.backend.run(HeadNormBackward{.forward = arguments(pass, in),
                                    .d_out = d_result,
                                    .d_x = d_result,
                                    .d_gain = pass.params.grad(gain_),
                                    .accumulate = pass.accumulate,
                                    .workspace = workspace});
  return d_result;
}

// ---- of all heads ---------------------------------------------------------------------------------------------------

OutputNormOfAll::OutputNormOfAll(const LayerPlace& place, Norm kind)
    : kind_(kind), epsilon_(place.d.config.norm_epsilon) {
  const Declarations& d = place.d;
  const int64_t columns = place.sizes.result_columns();
  if (kind == Norm::kLayerNorm) {
    gain_ = d.params.declare(place.name + ".output_norm.weight", {columns}, Init::constant(1), DecayGroup::kNorm);
    bias_ = d.params.declare(place.name + ".output_norm.bias", {columns}, Init::constant(0), DecayGroup::kNorm);
  }
  stats_ =
      d.attention_activation(place.layer, place.name + ".result_stats", "statistics", {d.max_tokens(), 2}, d.acc());
  result_ = d.attention_activation(place.layer, place.name + ".normed_results", "activations",
                                   {d.max_tokens(), columns}, d.act);
}

NormForward OutputNormOfAll::arguments(const Pass& pass, const Tensor& in) const {
  NormForward args;
  args.kind = kind_;
  args.epsilon = epsilon_;
  args.x = in;
  args.gain = pass.params.value(gain_);
  args.bias = pass.params.value(bias_);
  args.stats = pass.view(stats_, {pass.N(), 2});
  return args;
}

void OutputNormOfAll::forward(const Pass& pass, const Tensor& in, const StageReads& /*reads*/) const {
  NormForward args = arguments(pass, in);
  args.out = result(pass, in);
  pass.backend.run(args);
}

Tensor OutputNormOfAll::backward(const Pass& pass, const Tensor& d_result, const Tensor& in,
                                 const StageReads& /*reads*/, const Tensor& workspace) const {
  NormBackward args;
  args.forward = arguments(pass, in);
  args.d_out = d_result;
  args.d_x = d_result;
  args.add_to_d_x = false;
  args.d_gain = pass.params.grad(gain_);
  args.d_bias = pass.params.grad(bias_);
  args.accumulate = pass.accumulate;
  args.workspace = workspace;
  pass.backend.run(args);
  return d_result;
}

// ---- in the list ----------------------------------------------------------------------------------------------------

StagePart output_norm_stage() {
  return {.name = "output_norm",
          .summary = "a norm of each head's result, or of all",
          .options = []() -> std::unique_ptr<StageOptions> { return std::make_unique<OutputNormOptions>(); },
          .make = [](const LayerPlace& place, const StageOptions* options) -> std::unique_ptr<Stage> {
            if (!options->present()) return nullptr;
            const OutputNormKind kind = static_cast<const OutputNormOptions*>(options)->kind;
            if (kind == OutputNormKind::kRmsNormOfAll) return std::make_unique<OutputNormOfAll>(place, Norm::kRmsNorm);
            if (kind == OutputNormKind::kLayerNormOfAll)
              return std::make_unique<OutputNormOfAll>(place, Norm::kLayerNorm);
            return std::make_unique<OutputNorm>(place, kind);
          },
          .in_python = true,
          .example = R"({"attention": {"type": "custom", "output_norm": "rmsnorm"}})"};
}

}  // namespace sluice
