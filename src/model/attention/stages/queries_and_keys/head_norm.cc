#include "model/attention/stages/queries_and_keys/head_norm.h"

namespace sluice {

HeadNorm::HeadNorm(const LayerPlace& place, bool gains) : sizes_(place.sizes), epsilon_(place.d.config.norm_epsilon) {
  const Declarations& d = place.d;
  const auto gain = [&](const char* name) {
    return d.params.declare(place.name + name, {sizes_.D_qk}, Init::constant(1), DecayGroup::kNorm);
  };
  if (gains) {
    q_gain_ = gain(".q_norm.weight");
    k_gain_ = gain(".k_norm.weight");
  }
  const int back = d.timeline.attention_backward(place.layer);
  const int again = d.recompute == Recompute::kBlock ? d.timeline.mlp_backward(place.layer) : back;
  normed_ = d.plan.declare(place.name + (gains ? ".normed" : ".of_length_1"), "activations",
                           {d.max_tokens(), sizes_.query_columns() + sizes_.key_columns()}, d.act,
                           {d.timeline.attention(place.layer), d.timeline.mlp(place.layer)}, Lifetime{again, back});
}

HeadNormForward HeadNorm::arguments(const Pass& pass, ParamId gain, const Tensor& x) const {
  return {.epsilon = epsilon_, .x = x, .out = {}, .gain = pass.params.value(gain), .features = sizes_.D_qk};
}

void HeadNorm::forward(const Pass& pass, const Tensor& in, const StageReads& /*reads*/) const {
  const Tensor out = result(pass, in);
  for_both([&](ParamId gain, int64_t first, int64_t count) {
    HeadNormForward args = arguments(pass, gain, in.columns(first, count));
    args.out = out.columns(first, count);
    pass.backend.run(args);
  });
}

Tensor HeadNorm::backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& /*reads*/,
                          const Tensor& workspace) const {
  for_both([&](ParamId gain, int64_t first, int64_t count) {
    const Tensor d = d_result.columns(first, count);
    pass.backend.run(HeadNormBackward{.forward = arguments(pass, gain, in.columns(first, count)),
                                      .d_out = d,
                                      .d_x = d,
                                      .d_gain = pass.params.grad(gain),
                                      .accumulate = pass.accumulate,
                                      .workspace = workspace});
  });
  return d_result;
}

StagePart head_norm_stage() {
  return {.name = "head_norm",
          .summary = "queries and keys of one length (model.qk_norm)",
          .options = nullptr,
          .make = [](const LayerPlace& place, const StageOptions*) -> std::unique_ptr<Stage> {
            return place.d.config.qk_norm ? std::make_unique<HeadNorm>(place, true) : nullptr;
          },
          .in_python = true,
          .example = R"({"qk_norm": true})",
          .on_queries_and_keys = true};
}

}  // namespace sluice
