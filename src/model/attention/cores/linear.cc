#include "model/attention/cores/linear.h"

#include <algorithm>

#include "base/error.h"
#include "model/attention/cores/linear_weights.h"

namespace sluice {
namespace {

// What the slopes of layer `layer` of `layers` are multiplied with.
double decay_of(Decay decay, int layer, int layers) {
  if (decay == Decay::kNone) return 0;
  if (decay == Decay::kByHead) return 1;
  return 1 - (layers > 1 ? double(layer) / double(layers - 1) : 0) + 1e-5;
}

}  // namespace

// ---- options --------------------------------------------------------------------------------------------------------

void LinearOptions::describe(Fields& f) {
  f.add("decay", decay,
        "how fast a head forgets: none (not at all), head (e^-s a row, s from 1/2 for the first head down to 1/256), "
        "head_and_layer (s falls to almost 0 from the first layer to the last)");
}

std::string LinearOptions::text() const {
  const char* by = decay == Decay::kNone     ? "no decay"
                   : decay == Decay::kByHead ? "decay by head"
                                             : "decay by head and layer";
  return fmt::format("linear attention, {}", by);
}

// ---- the core -------------------------------------------------------------------------------------------------------

Linear::Linear(const LayerPlace& place, const LinearOptions& options)
    : sizes_(place.projected), decay_(decay_of(options.decay, place.layer, int(place.d.config.layers))) {
  const Declarations& d = place.d;
  if (std::max(sizes_.D_qk, sizes_.D_v) > kMaxHeadSize)
    throw UserError(
        "model.attention.core = linear takes heads of at most {} features, but here a query has {} and a value {}",
        kMaxHeadSize, sizes_.D_qk, sizes_.D_v);
  const int back = d.timeline.attention_backward(place.layer);
  workspace_ =
      d.plan.declare(place.name + ".workspace", "scratch",
                     {d.backend.workspace<LinearAttentionBackward>({shape(d.max_batch, d.config.rows()), d.act})},
                     DType::kF32, {back, back});
  state_ = d.states.declare({sizes_.H_q * sizes_.D_qk, sizes_.D_v}, d.acc());
}

LinearAttentionForward Linear::arguments(const Pass& pass, const Heads& heads) const {
  return {.shape = shape(pass.B, pass.T),
          .decay = decay_,
          .q = heads.q,
          .k = heads.k,
          .v = heads.v,
          .first_key = pass.first_key,
          .out = heads.out};
}

void Linear::forward(const Pass& pass, const Heads& heads) const { pass.backend.run(arguments(pass, heads)); }

void Linear::backward(const Pass& pass, const Heads& heads, const Heads& d) const {
  pass.backend.run(LinearAttentionBackward{.forward = arguments(pass, heads),
                                           .d_out = d.out,
                                           .d_q = d.q,
                                           .d_k = d.k,
                                           .d_v = d.v,
                                           .workspace = pass.view(workspace_, pass.plan.buffer(workspace_).shape)});
}

void Linear::extend(const Pass& pass, const Heads& heads) const {
  LinearAttentionForward args = arguments(pass, heads);
  args.state = pass.state->view(state_);
  args.resume = pass.first_position > 0;
  pass.backend.run(args);
}

// ---- for instruments ------------------------------------------------------------------------------------------------

void Linear::probe(const Pass& pass, const Heads& heads, const Tensor& first_weight, const Tensor& first_gap) const {
  LinearWeights(pass.backend, arguments(pass, heads)).probe(pass.backend, first_weight, first_gap);
}

std::unique_ptr<HostWeights> Linear::read(const Pass& pass, const Heads& heads) const {
  return std::make_unique<LinearWeights>(pass.backend, arguments(pass, heads));
}

// ---- in the list ----------------------------------------------------------------------------------------------------

CorePart linear_core() {
  return {.name = "linear",
          .summary =
              "sums of values by products of queries and keys that decay with the distance, in time linear in the "
              "length (arXiv 2405.17381)",
          .options = []() -> std::unique_ptr<CoreOptions> { return std::make_unique<LinearOptions>(); },
          .make = [](const LayerPlace& place, const CoreOptions& options) -> std::unique_ptr<Core> {
            return std::make_unique<Linear>(place, static_cast<const LinearOptions&>(options));
          },
          .in_python = true,
          .example = R"({"attention": {"type": "custom", "core": "linear"}})"};
}

}  // namespace sluice
