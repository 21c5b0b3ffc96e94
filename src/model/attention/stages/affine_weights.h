// The weights that affine-scaled results are sums by, for instruments: made of those of the core in host memory.
#pragma once

#include "model/attention/weights_view.h"

namespace sluice {

class Affine;

class AffineWeights final : public WeightsView {
 public:
  // Both must outlive it.
  AffineWeights(const Affine& stage, const WeightsView& before) : stage_(stage), before_(before) {}

  // They may be negative, and rows of them sum to anything.
  bool normalised() const override { return false; }
  bool may_be_negative() const override { return true; }
  bool has_bias_key() const override { return before_.has_bias_key(); }
  void probe(const Pass& pass, const Heads& heads, const Tensor& first_weight, const Tensor& first_gap) const override;
  std::unique_ptr<HostWeights> read(const Pass& pass, const Heads& heads) const override;

 private:
  const Affine& stage_;
  const WeightsView& before_;
};

}  // namespace sluice
