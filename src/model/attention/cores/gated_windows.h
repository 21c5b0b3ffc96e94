// Attention within a window of the text and within one of a permuted order, each behind a gate for each head that reads
// the layer's input (arXiv 2604.00754):
//
//   O = sigmoid(x W_1^T + b_1) * O_permuted + sigmoid(x W_2^T + b_2) * O_window
//
// Both see the same queries, keys and values; what the score function or a key bias learns each has for itself, the
// window's under `.window`. Parameters: branch_gates.weight [2 H_q, C], first the permuted order's; its bias, 0 at the
// start.
#pragma once

#include "model/attention/cores/tiles.h"
#include "model/module/low_rank.h"

namespace sluice {

class GatedWindows final : public Core, private WeightsView {
 public:
  GatedWindows(const LayerPlace& place, const TilesOptions& options);

  void forward(const Pass& pass, const Heads& heads) const override;
  void backward(const Pass& pass, const Heads& heads, const Heads& d) const override;
  void backward_input(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const override;
  void extend(const Pass& pass, const Heads& heads) const override;
  const WeightsView* weights() const override { return this; }

 private:
  // Its rows' sums are the gates'.
  bool normalised() const override { return false; }
  bool has_bias_key() const override { return window_.weights()->has_bias_key(); }
  void probe(const Pass& pass, const Heads& heads, const Tensor& first_weight, const Tensor& first_gap) const override;
  std::unique_ptr<HostWeights> read(const Pass& pass, const Heads& heads) const override;

  struct Branch {
    const Tiles& tiles;
    BufferId results;      // [N, H_q D_v]
    int64_t first_column;  // of its logits
  };
  Branch permuted() const { return {permuted_, permuted_results_, 0}; }
  Branch window() const { return {window_, window_results_, sizes_.H_q}; }
  Heads heads_of(const Branch& branch, const Pass& pass, const Heads& heads) const;
  GateForward gate(const Branch& branch, const Pass& pass) const;
  void mix(const Pass& pass, const Heads& heads) const;
  void run_back(const Branch& branch, const Pass& pass, const Heads& heads, const Tensor& d_out, const Heads& d) const;
  Tensor logits(const Pass& pass, BufferId id) const { return pass.view(id, {pass.N(), 2 * sizes_.H_q}); }
  std::vector<double> openings(const Pass& pass) const;  // [N, 2 H_q]

  HeadSizes sizes_;
  Tiles window_, permuted_;
  LowRankLinear gates_;
  ParamId gate_bias_;
  BufferId logits_, d_logits_;  // [N, 2 H_q]
  BufferId window_results_, permuted_results_;
  BufferId gated_;                // [N, H_q D_v]: of the window, on its way into the sum
  BufferId d_branch_, d_window_;  // [N, H_q D_v]; [N, projected columns]: of the window's
  BufferId probed_;               // [2, B, H_q, T] acc
};

}  // namespace sluice
