#include "model/residual/post_norm.h"

#include "base/error.h"
#include "kernels/ops/accumulate.h"

namespace sluice {
namespace {

struct PostNormOptions final : ResidualOptions {
  std::unique_ptr<ResidualOptions> clone() const override { return std::make_unique<PostNormOptions>(*this); }
  void describe(Fields& /*group*/) override {}
  void resolve(const ModelConfig& model, const std::string& path) const override {
    if (model.parallel_residual)
      throw UserError(
          "{} = post_norm has a norm behind every sum, but with model.parallel_residual attention and MLP share one: "
          "set "
          "that to false",
          path);
  }
  std::string text() const override { return "norms behind the sums"; }
};

}  // namespace

// From the norm before on; the head's stays for instruments. Those at MLPs are made again in a recomputed block.
void PostNorm::declare(const Declarations& d, int sublayer) {
  const Timeline& time = d.timeline;
  const Shape shape = {d.max_tokens(), width_};
  const int now = time.forward(sublayer), begins = sublayer == 0 ? time.embedding() : now - 1;
  const int back = time.backward(sublayer), layer = sublayer / 2;
  if (sublayer == time.head_sublayer()) {
    sums_.push_back(d.plan.declare("final_residual", "residual", shape, d.act, {begins, now}));
    d_sum_ = d.plan.declare("d_residual", "gradients", shape, d.act, {time.head(), time.end()});
  } else if (sublayer == time.mlp_sublayer(layer)) {
    sums_.push_back(d.activation("blocks." + std::to_string(layer) + ".mid", "residual", shape, d.act,
                                 {begins, now + 1}, {back, back}, d.recompute == Recompute::kBlock));
  } else {
    sums_.push_back(
        d.plan.declare("blocks." + std::to_string(layer) + ".input", "residual", shape, d.act, {begins, back}));
  }
}

NormInput PostNorm::input(const Pass& pass, int sublayer) const {
  const Tensor x = stream_at(pass, sublayer);
  if (sublayer == 0) return {.x = x};
  return {.x = x, .delta = output(pass, sublayer - 1), .sum = x};
}

Tensor PostNorm::normed(const Pass& pass, int sublayer, const Tensor& scratch) const {
  return is_last(sublayer) ? scratch : stream_at(pass, sublayer + 1);
}

Residual::Slope PostNorm::d_input(const Pass& pass, int sublayer, const Tensor& d_normed) const {
  if (!is_last(sublayer)) pass.backend.run(Accumulate{.out = d_normed, .x = view(pass, d_sum_)});
  return {view(pass, d_sum_), false};
}

ResidualPart post_norm_residual() {
  return {.name = "post_norm",
          .summary = "what a norm makes of the sum is what the next sublayer reads and adds to",
          .options = []() -> std::unique_ptr<ResidualOptions> { return std::make_unique<PostNormOptions>(); },
          .make = [](const Declarations& d, const ResidualOptions& /*options*/) -> std::unique_ptr<Residual> {
            return std::make_unique<PostNorm>(d);
          },
          .in_python = true,
          .example = R"({"residual": "post_norm"})",
          .one_stream = true};
}

}  // namespace sluice
