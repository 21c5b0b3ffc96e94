// Mixture of heads (MoH, arXiv 2410.11842): each row takes `shared` heads always and `active` of the others, those that
// a router likes best, and scales their results; those of all others are zero. All heads are computed.
//
// The router is a matrix on the layer's input, or (query_norm) the lengths of the row's queries, without parameters;
// then factors are 1 and 0, and the gradient goes straight through. The formulas: kernels/formulas/route_heads.h. A
// loss has all routed heads be taken alike; its means are over the rows of a sequence, so that it does not depend on
// how many sequences run at once.
//
// Parameters: weight [routed heads, then the shared ones if there are two or more, then two if there is one; C].
#pragma once

#include "kernels/ops/stages/route_heads.h"
#include "model/attention/stage.h"
#include "model/config/attention_parts.h"

namespace sluice {

enum class HeadRouter : uint8_t { kNone, kLinear, kQueryNorm };
template <>
struct ChoiceNames<HeadRouter> {
  static constexpr Choice<HeadRouter> kAll[] = {
      {"none", HeadRouter::kNone}, {"linear", HeadRouter::kLinear}, {"query_norm", HeadRouter::kQueryNorm}};
};

struct RoutedHeadsConfig {
  HeadRouter type = HeadRouter::kNone;
  int64_t shared = -1;  // -1: a quarter of all heads
  int64_t active = 0;   // 0: as many as make half of all heads with the shared ones, one at least
  double balance = 0.01;

  void describe(Fields& fields);
  // Of a layer of so many heads; not checked.
  HeadRouting routing(int64_t heads) const;
};

struct RoutedHeadsOptions final : StageOptions {
  RoutedHeadsConfig routed_heads;

  bool present() const override { return routed_heads.type != HeadRouter::kNone; }
  bool averages_rows() const override { return true; }
  std::unique_ptr<StageOptions> clone() const override { return std::make_unique<RoutedHeadsOptions>(*this); }
  void describe(Fields& attention) override;
  void resolve(const ModelConfig& model, const std::string& path) const override;
  std::string text() const override;
};

class RoutedHeads final : public Stage {
 public:
  RoutedHeads(const LayerPlace& place, const RoutedHeadsConfig& config);

  Seat seat() const override { return Seat::kResults; }
  Tensor result(const Pass& pass, const Tensor& in) const override { return pass.view(result_, in.shape); }
  void forward(const Pass& pass, const Tensor& in, const StageReads& reads) const override;
  Tensor backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& reads,
                  const Tensor& workspace) const override;
  void backward_queries(const Pass& pass, const Tensor& d_q, const Tensor& q) const override;
  void backward_input(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const override;
  // 1 for the heads that a row takes, 0 for the others: their means are the heads' loads.
  int64_t opening_groups() const override { return routing_.heads; }
  std::vector<double> openings(const Pass& pass) const override;

 private:
  Tensor logits(const Pass& pass) const { return pass.view(logits_, {pass.N(), routing_.logits()}); }
  Tensor d_logits(const Pass& pass) const { return pass.view(d_logits_, {pass.N(), routing_.logits()}); }

  HeadRouting routing_;
  int64_t layers_ = 0;  // that have routed heads: the loss is their mean
  ParamId weight_;      // absent with query_norm
  PartLossId loss_;
  BufferId logits_, d_logits_;
  BufferId result_;  // [N, H D_v]
};

StagePart routed_heads_stage();

}  // namespace sluice
