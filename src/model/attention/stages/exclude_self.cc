#include "model/attention/stages/exclude_self.h"

namespace sluice {

void ExcludeSelfOptions::describe(Fields& attention) {
  attention.add("exclude_self", on,
                "every head's result without what it has along the value of its own position (XSA, arXiv 2603.09078)");
}

ExcludeSelf::ExcludeSelf(const LayerPlace& place) : sizes_(place.sizes) {
  const Declarations& d = place.d;
  const int back = d.timeline.attention_backward(place.layer);
  result_ = d.attention_activation(place.layer, place.name + ".exclusive", "activations",
                                   {d.max_tokens(), sizes_.result_columns()}, d.act);
  d_own_ = d.plan.declare(place.name + ".d_own_values", "scratch", {d.max_tokens(), sizes_.value_columns()}, d.act,
                          {back, back});
}

void ExcludeSelf::forward(const Pass& pass, const Tensor& in, const StageReads& reads) const {
  pass.backend.run(
      ExcludeSelfForward{.heads = sizes_.H_q, .kv_heads = sizes_.H_kv, .y = in, .v = reads.v, .out = result(pass, in)});
}

Tensor ExcludeSelf::backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& reads,
                             const Tensor& /*workspace*/) const {
  pass.backend.run(
      ExcludeSelfBackward{.forward = {.heads = sizes_.H_q, .kv_heads = sizes_.H_kv, .y = in, .v = reads.v, .out = {}},
                          .d_out = d_result,
                          .d_y = d_result,
                          .d_v = d_own(pass)});
  return d_result;
}

void ExcludeSelf::backward_values(const Pass& pass, const Tensor& d_v, const Tensor& /*v*/,
                                  const Tensor& /*workspace*/) const {
  pass.backend.run(Accumulate{.out = d_v, .x = d_own(pass)});
}

StagePart exclude_self_stage() {
  return {.name = "exclude_self",
          .summary = "results without what lies along the own value (XSA)",
          .options = []() -> std::unique_ptr<StageOptions> { return std::make_unique<ExcludeSelfOptions>(); },
          .make = [](const LayerPlace& place, const StageOptions* options) -> std::unique_ptr<Stage> {
            return options->present() ? std::make_unique<ExcludeSelf>(place) : nullptr;
          },
          .in_python = true,
          .example = R"({"attention": {"type": "custom", "exclude_self": true}})"};
}

}  // namespace sluice
