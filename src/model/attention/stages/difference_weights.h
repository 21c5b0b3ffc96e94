// The weights by which results of differential attention are sums of values: a head's less a share of its noise head's.
// They may be negative, and a row of softmax sums to 1 less that share.
#pragma once

#include <functional>
#include <utility>

#include "kernels/ops/stages/difference.h"
#include "model/attention/weights_view.h"
#include "model/module/module.h"

namespace sluice {

class DifferenceWeights final : public WeightsView {
 public:
  // [N, H], after a forward run.
  using Factors = std::function<std::vector<double>(const Pass& pass)>;
  // `before`: of all heads, as `layout` says where they lie.
  DifferenceWeights(const WeightsView& before, const DifferenceLayout& layout, Factors factors, BufferId probed)
      : before_(before), layout_(layout), factors_(std::move(factors)), probed_(probed) {}

  bool normalised() const override { return false; }
  bool may_be_negative() const override { return true; }
  bool has_bias_key() const override { return before_.has_bias_key(); }
  int64_t reach() const override { return before_.reach(); }
  // first_gap is that of the head's own scores.
  void probe(const Pass& pass, const Heads& heads, const Tensor& first_weight, const Tensor& first_gap) const override;
  std::unique_ptr<HostWeights> read(const Pass& pass, const Heads& heads) const override;

 private:
  const WeightsView& before_;
  DifferenceLayout layout_;
  Factors factors_;
  BufferId probed_;
};

}  // namespace sluice
