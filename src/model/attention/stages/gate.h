// The gate of an attention layer: g = sigmoid(logits of what it reads), scaling either every value before it is summed
// (site source) or every head's result (site output). What it reads, and how: model/attention/gate_logits.h.
//
// Grain `head` at site `output` has one gate per query head; at site `source` one per key/value head, because it scales
// values. A second gate multiplies: out = x g_1 g_2, where both read what they are to read of x, not of x g_1.
#pragma once

#include "model/attention/gate_logits.h"

namespace sluice {

enum class GateSite { kSource, kOutput };
template <>
struct ChoiceNames<GateSite> {
  static constexpr Choice<GateSite> kAll[] = {{"source", GateSite::kSource}, {"output", GateSite::kOutput}};
};

struct SecondGateConfig : GateFactorConfig {
  void describe(Fields& fields);
};

struct GateConfig : GateFactorConfig {
  GateSite site = GateSite::kOutput;
  SecondGateConfig second;

  void describe(Fields& fields);
};

struct GateOptions final : StageOptions {
  GateConfig gate;

  std::unique_ptr<StageOptions> clone() const override { return std::make_unique<GateOptions>(*this); }
  void describe(Fields& attention) override;
  void resolve(const ModelConfig& model, const std::string& path) const override;
  std::string text() const override;
  bool present() const override { return gate.present(); }
  std::vector<std::string> shortcuts() const override { return {"reads", "site", "grain", "bias", "opening", "rank"}; }
};

class Gate final : public Stage {
 public:
  Gate(const LayerPlace& place, const GateConfig& gate);

  Seat seat() const override { return at_source_ ? Seat::kValues : Seat::kResults; }
  Tensor result(const Pass& pass, const Tensor& in) const override { return pass.view(result_, in.shape); }
  void forward(const Pass& pass, const Tensor& in, const StageReads& reads) const override;
  Tensor backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& reads,
                  const Tensor& workspace) const override;
  bool reads_values() const override;
  void backward_values(const Pass& pass, const Tensor& d_v, const Tensor& v, const Tensor& workspace) const override;
  void backward_input(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const override;
  int64_t opening_groups() const override { return all_are_shares() ? groups_ : 0; }
  std::vector<double> openings(const Pass& pass) const override;

 private:
  bool all_are_shares() const;

  bool at_source_;
  int64_t groups_;                 // heads that are gated
  std::vector<GateLogits> gates_;  // one or two
  BufferId result_, once_gated_;   // [N, groups D_v]; of two gates: what the first makes, in the backward pass
};

StagePart gate_stage();

}  // namespace sluice
