// The weights by which results of differential attention are sums of values: a head's less a share of its noise head's.
// They may be negative, and a row of softmax sums to 1 less that share.
#pragma once

#include "kernels/ops/stages/difference.h"
#include "model/attention/weights_view.h"
#include "model/module/module.h"

namespace sluice {

class DifferenceWeights final : public WeightsView {
 public:
  // `before`: of all heads, as `layout` says where they lie. `lambda`: logits [N, H] (`projects`) or the one factor.
  DifferenceWeights(const WeightsView& before, const DifferenceLayout& layout, bool projects, BufferId lambda,
                    BufferId probed)
      : before_(before), layout_(layout), projects_(projects), lambda_(lambda), probed_(probed) {}

  bool normalised() const override { return false; }
  bool has_bias_key() const override { return before_.has_bias_key(); }
  // first_gap is that of the head's own scores.
  void probe(const Pass& pass, const Heads& heads, const Tensor& first_weight, const Tensor& first_gap) const override;
  std::unique_ptr<HostWeights> read(const Pass& pass, const Heads& heads) const override;

 private:
  std::vector<double> factors(const Pass& pass) const;  // [N, H]

  const WeightsView& before_;
  DifferenceLayout layout_;
  bool projects_;
  BufferId lambda_, probed_;
};

}  // namespace sluice
