// What a gate is opened by: the logits of sigmoid, or without it the gate itself, products with what it reads. A gate
// (stages/gate.h) has one of them, or two whose openings are multiplied.
//
// With `hidden_head` and `output_head` each head has its own small matrix over its slice of the input, or over its own
// result; `output` reads all heads' results. Two reads add their logits, each with weights of its own. With a rank each
// matrix is two with silu between or nothing (module/low_rank.h), of each head where its own result is read.
#pragma once

#include <string>
#include <vector>

#include "kernels/backend.h"
#include "model/attention/stage.h"
#include "model/config/attention_parts.h"
#include "model/module/low_rank.h"

namespace sluice {

enum class GateReads {
  kNone,
  kHidden,
  kHiddenHead,
  kValue,
  kOutput,
  kOutputHead,
  kHiddenAndOutput,
  kHiddenAndOutputHead
};
template <>
struct ChoiceNames<GateReads> {
  static constexpr Choice<GateReads> kAll[] = {{"none", GateReads::kNone},
                                               {"hidden", GateReads::kHidden},
                                               {"hidden_head", GateReads::kHiddenHead},
                                               {"value", GateReads::kValue},
                                               {"output", GateReads::kOutput},
                                               {"output_head", GateReads::kOutputHead},
                                               {"hidden_and_output", GateReads::kHiddenAndOutput},
                                               {"hidden_and_output_head", GateReads::kHiddenAndOutputHead}};
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

enum class RankActivation { kSilu, kRelu, kNone };
template <>
struct ChoiceNames<RankActivation> {
  static constexpr Choice<RankActivation> kAll[] = {
      {"silu", RankActivation::kSilu}, {"relu", RankActivation::kRelu}, {"none", RankActivation::kNone}};
};

// The keys of one gate, but for where it acts.
struct GateFactorConfig {
  GateReads reads = GateReads::kNone;
  GateGrain grain = GateGrain::kHead;
  bool bias = false;
  double opening = 0.5;  // with a bias: the gate's value when its input is zero, at the start
  int64_t rank = 0;      // 0: one whole matrix; kRankOfHead: the features of a head's value
  RankActivation rank_activation = RankActivation::kSilu;
  bool rank_bias = false;
  GateActivation activation = GateActivation::kSigmoid;

  static constexpr int64_t kRankOfHead = -1;
  bool present() const { return reads != GateReads::kNone; }
  bool reads_hidden() const;      // all of it
  bool reads_slices() const;      // of the input
  bool reads_output() const;      // all results, or each head's own
  bool reads_own_output() const;  // the latter
  bool reads_input_and_output() const { return reads_hidden() && reads_output(); }
  std::string text() const;
};

// With which of their choices the others apply.
std::vector<std::string> gates_that_read();
void describe_gate_reads(Fields& fields, GateFactorConfig& gate);
void describe_gate_rest(Fields& fields, GateFactorConfig& gate);

class GateLogits {
 public:
  // `groups` heads, query heads or key/value heads, are gated.
  GateLogits(const LayerPlace& place, const std::string& name, const GateFactorConfig& gate, int64_t groups);

  bool reads_values() const { return gate_.reads == GateReads::kValue; }
  // Without the sigmoid a gate is no share of what it might let through.
  bool is_share() const { return gate_.activation == GateActivation::kSigmoid; }
  // `in`: what the gate scales, ungated.
  void forward(const Pass& pass, const Tensor& in, const StageReads& reads) const;
  // To scale x, which may be in or what another gate made of it, by what forward() has left.
  GateForward scales(const Pass& pass, const Tensor& x) const;
  Tensor d_logits(const Pass& pass) const { return pass.view(d_logits_, {pass.N(), columns_}); }
  // Each adds to the gradient of what it reads, if it does. d_logits are whole.
  void backward_results(const Pass& pass, const Tensor& d_in, const Tensor& in, const Tensor& workspace) const;
  void backward_values(const Pass& pass, const Tensor& d_v, const Tensor& v, const Tensor& workspace) const;
  void backward_input(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const;
  // [N, groups * columns of a group]
  std::vector<double> openings(const Pass& pass) const;

 private:
  Tensor logits(const Pass& pass) const { return pass.view(logits_, {pass.N(), columns_}); }
  bool has_first() const { return gate_.reads_hidden() || gate_.reads_slices() || reads_values(); }

  GateFactorConfig gate_;
  int64_t groups_, columns_;      // columns: of the logits
  LowRankLinear first_, second_;  // of the input or the values, and of the results
  ParamId bias_;
  BufferId logits_, d_logits_, second_logits_;
};

}  // namespace sluice
