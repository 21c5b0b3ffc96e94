// The gate of an attention layer: g = sigmoid(input W_g^T (+ b)), or g without the sigmoid, scaling either every value
// before it is summed (site source) or every head's result (site output).
//
// Grain `head` at site `output` has one gate per query head; at site `source` one per key/value head, because it scales
// values. With input `hidden_head` each head has its own small matrix over its slice of the input. With `output` the
// gate reads what it scales, all heads of it; `hidden_and_output` adds the logits of two reads, each with weights of
// its own. With a rank the matrix is two, with silu between or nothing (module/low_rank.h).
#pragma once

#include "kernels/backend.h"
#include "model/attention/stage.h"
#include "model/config/attention_parts.h"
#include "model/module/low_rank.h"

namespace sluice {

enum class GateReads { kNone, kHidden, kHiddenHead, kValue, kOutput, kHiddenAndOutput };
template <>
struct ChoiceNames<GateReads> {
  static constexpr Choice<GateReads> kAll[] = {
      {"none", GateReads::kNone},   {"hidden", GateReads::kHidden}, {"hidden_head", GateReads::kHiddenHead},
      {"value", GateReads::kValue}, {"output", GateReads::kOutput}, {"hidden_and_output", GateReads::kHiddenAndOutput}};
};

enum class GateSite { kSource, kOutput };
template <>
struct ChoiceNames<GateSite> {
  static constexpr Choice<GateSite> kAll[] = {{"source", GateSite::kSource}, {"output", GateSite::kOutput}};
};

template <>
struct ChoiceNames<GateGrain> {
  static constexpr Choice<GateGrain> kAll[] = {{"head", GateGrain::kHead}, {"element", GateGrain::kElement}};
};

template <>
struct ChoiceNames<GateActivation> {
  static constexpr Choice<GateActivation> kAll[] = {{"sigmoid", GateActivation::kSigmoid},
                                                    {"none", GateActivation::kNone}};
};

enum class RankActivation { kSilu, kNone };
template <>
struct ChoiceNames<RankActivation> {
  static constexpr Choice<RankActivation> kAll[] = {{"silu", RankActivation::kSilu}, {"none", RankActivation::kNone}};
};

struct GateConfig {
  GateReads reads = GateReads::kNone;
  GateSite site = GateSite::kOutput;
  GateGrain grain = GateGrain::kHead;
  bool bias = false;
  double opening = 0.5;  // with a bias: the gate's value when its input is zero, at the start
  int64_t rank = 0;      // 0: one whole matrix; kRankOfHead: the features of a head's value
  RankActivation rank_activation = RankActivation::kSilu;
  GateActivation activation = GateActivation::kSigmoid;

  static constexpr int64_t kRankOfHead = -1;
  void describe(Fields& fields);
};

struct GateOptions final : StageOptions {
  GateConfig gate;

  std::unique_ptr<StageOptions> clone() const override { return std::make_unique<GateOptions>(*this); }
  void describe(Fields& attention) override;
  void resolve(const ModelConfig& model, const std::string& path) const override;
  std::string text() const override;
  bool present() const override { return gate.reads != GateReads::kNone; }
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
  bool reads_values() const override { return reads_ == GateReads::kValue; }
  void backward_values(const Pass& pass, const Tensor& d_v, const Tensor& v, const Tensor& workspace) const override;
  void backward_input(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const override;
  // Without the sigmoid a gate is no share of what it might let through.
  int64_t opening_groups() const override { return activation_ == GateActivation::kSigmoid ? groups_ : 0; }
  std::vector<double> openings(const Pass& pass) const override;

 private:
  GateForward arguments(const Pass& pass, const Tensor& in) const;
  void compute_logits(const Pass& pass, const Tensor& in, const StageReads& reads) const;
  // d_read += the gradient through the logits; `read` is what they were computed from.
  void backward_read(const Pass& pass, const Tensor& d_read, const Tensor& read, const Tensor& workspace) const;
  Tensor logits(const Pass& pass) const { return pass.view(logits_, {pass.N(), columns_}); }
  Tensor d_logits(const Pass& pass) const { return pass.view(d_logits_, {pass.N(), columns_}); }
  bool reads_hidden() const { return reads_ == GateReads::kHidden || reads_ == GateReads::kHiddenAndOutput; }
  bool reads_output() const { return reads_ == GateReads::kOutput || reads_ == GateReads::kHiddenAndOutput; }

  GateReads reads_;
  bool at_source_;
  GateGrain grain_;
  GateActivation activation_;
  int64_t groups_, columns_;      // heads that are gated; of the logits
  ParamId weight_;                // with hidden_head, else one or two of
  LowRankLinear first_, second_;  // of the input or the values, and of the results
  ParamId bias_;
  BufferId logits_, d_logits_, second_logits_;
  BufferId result_;  // [N, groups D]
};

StagePart gate_stage();

}  // namespace sluice
