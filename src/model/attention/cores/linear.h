// Linear attention with decay (Lightning Attention, TransNormerLLM: arXiv 2405.17381, 2307.14995, 2401.04658):
//
//   O_i = sum over j <= i of lam_h^(i-j) (q_i . k_j) v_j,   lam_h = e^(-s_h)
//
// s_h is fixed: it falls with the head and, from the first layer to the last, to almost nothing. No parameters. Time
// and memory grow with T alone, and a decoder keeps a matrix [D_qk, D_v] a head.
#pragma once

#include "model/attention/core.h"
#include "model/config/attention_parts.h"

namespace sluice {

enum class Decay { kNone, kByHead, kByHeadAndLayer };
template <>
struct ChoiceNames<Decay> {
  static constexpr Choice<Decay> kAll[] = {
      {"none", Decay::kNone}, {"head", Decay::kByHead}, {"head_and_layer", Decay::kByHeadAndLayer}};
};

struct LinearOptions final : CoreOptions {
  Decay decay = Decay::kByHeadAndLayer;

  std::unique_ptr<CoreOptions> clone() const override { return std::make_unique<LinearOptions>(*this); }
  void describe(Fields& attention) override;
  std::string text() const override;
  bool causal_only() const override { return true; }
};

class Linear final : public Core, private WeightsView {
 public:
  Linear(const LayerPlace& place, const LinearOptions& options);

  void forward(const Pass& pass, const Heads& heads) const override;
  void backward(const Pass& pass, const Heads& heads, const Heads& d) const override;
  void extend(const Pass& pass, const Heads& heads) const override;
  const WeightsView* weights() const override { return this; }

 private:
  bool normalised() const override { return false; }
  bool has_bias_key() const override { return false; }
  bool may_be_negative() const override { return true; }  // products of queries and keys
  void probe(const Pass& pass, const Heads& heads, const Tensor& first_weight, const Tensor& first_gap) const override;
  std::unique_ptr<HostWeights> read(const Pass& pass, const Heads& heads) const override;

  AttentionShape shape(int64_t B, int64_t T) const { return {B, T, sizes_.H_q, sizes_.H_kv, sizes_.D_qk, sizes_.D_v}; }
  LinearAttentionForward arguments(const Pass& pass, const Heads& heads) const;

  HeadSizes sizes_;
  double decay_;  // of what the slopes of the heads are multiplied with
  BufferId workspace_;
  StateId state_;  // [H_q D_qk, D_v]
};

CorePart linear_core();

}  // namespace sluice
