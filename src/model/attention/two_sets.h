// Two sets of heads that share values and nothing else (HeadSizes::H_q2): the core that a layer has, twice, each with
// queries, keys, parameters and a decoder's state of its own. The second's parameters are named `.second`. Results lie
// side by side, as queries do.
#pragma once

#include "model/attention/core.h"
#include "model/config/attention_parts.h"

namespace sluice {

class TwoSets final : public Core, private WeightsView {
 public:
  TwoSets(const LayerPlace& place, const CorePart& part, const CoreOptions& options);

  void forward(const Pass& pass, const Heads& heads) const override;
  void backward(const Pass& pass, const Heads& heads, const Heads& d) const override;
  void backward_input(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const override;
  void extend(const Pass& pass, const Heads& heads) const override;
  // Of both sets' heads, one after the other; null where the core has none.
  const WeightsView* weights() const override { return first_->weights() ? this : nullptr; }

 private:
  bool normalised() const override { return first_->weights()->normalised(); }
  bool has_bias_key() const override { return first_->weights()->has_bias_key(); }
  int64_t reach() const override { return first_->weights()->reach(); }
  void probe(const Pass& pass, const Heads& heads, const Tensor& first_weight, const Tensor& first_gap) const override;
  std::unique_ptr<HostWeights> read(const Pass& pass, const Heads& heads) const override;

  Heads of_first(const Heads& heads) const;
  Heads of_second(const Heads& heads) const;

  HeadSizes sizes_;
  std::unique_ptr<Core> first_, second_;
  BufferId d_values_;  // [N, H_kv D_v]: of the second
  BufferId probed_;    // [2, B, H_q or H_q2, T] acc
};

}  // namespace sluice
