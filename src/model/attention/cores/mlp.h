// A gated MLP in attention's place: tokens do not mix (the rung "MLP" of arXiv 2510.11602),
//
//   out = W_down (silu(W_gate x) * (W_up x)),   as many hidden features as make it as large as attention.
//
// It has no heads, no stages, and nothing to keep for a decoder.
#pragma once

#include "model/config/attention_parts.h"
#include "model/sublayers/mixer.h"
#include "model/sublayers/mlp.h"

namespace sluice {

struct MlpCoreOptions final : CoreOptions {
  int64_t width = 0;

  std::unique_ptr<CoreOptions> clone() const override { return std::make_unique<MlpCoreOptions>(*this); }
  void describe(Fields& attention) override;
  std::string text() const override;
  std::optional<Unmet> unmet_by_fused_softmax() const override { return std::nullopt; }

  // Hidden features, of a layer whose heads would be these.
  int64_t hidden(const HeadSizes& heads) const;
};

class MlpMixer final : public Mixer {
 public:
  MlpMixer(const LayerPlace& place, const MlpCoreOptions& options);

  void forward(const Pass& pass, const MixerInput& in, const Tensor& out) const override;
  void backward(const Pass& pass, const MixerInput& d_in, const Tensor& d_out, const MixerInput& in,
                const Tensor& workspace) const override;
  int64_t widest() const override { return mlp_.up_width(); }

 private:
  int layer_;
  Mlp mlp_;
};

CorePart mlp_core();

}  // namespace sluice
