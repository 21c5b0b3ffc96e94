#include "model/attention/stages/output_norm.h"

#include <cmath>

namespace sluice {

void OutputNormOptions::describe(Fields& attention) {
  attention.add(
      "output_norm", kind,
      "every head's result divided by the root of its mean square, with one learned gain per feature for all "
      "heads: rmsnorm (arXiv 2605.06611); rmsnorm_by_depth: times 0.2 + 0.6 e^(-0.3 layer) (arXiv 2410.05258)");
}

std::string OutputNormOptions::text() const {
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

StagePart output_norm_stage() {
  return {.name = "output_norm",
          .summary = "a norm of each head's result",
          .options = []() -> std::unique_ptr<StageOptions> { return std::make_unique<OutputNormOptions>(); },
          .make = [](const LayerPlace& place, const StageOptions* options) -> std::unique_ptr<Stage> {
            if (!options->present()) return nullptr;
            return std::make_unique<OutputNorm>(place, static_cast<const OutputNormOptions*>(options)->kind);
          },
          .in_python = true,
          .example = R"({"attention": {"type": "custom", "output_norm": "rmsnorm"}})"};
}

}  // namespace sluice
