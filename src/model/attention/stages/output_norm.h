// A norm of the results. Of every head by itself, with one learned gain [D_v] for all heads (arXiv 2605.06611):
//
//   O_h <- c gain O_h / sqrt(mean over its features of O_h^2 + epsilon)
//
// c is 1, or 0.2 + 0.6 e^(-0.3 layer) as in Diff V1 (arXiv 2410.05258), there written 1 - lambda_init. Or of all heads
// together, over all H D_v features (arXiv 2307.14995): O / sqrt(mean O^2 + epsilon) without a gain, or LayerNorm with
// a gain and a bias for each.
#pragma once

#include "model/attention/stage.h"
#include "model/config/attention_parts.h"

namespace sluice {

enum class OutputNormKind { kNone, kRmsNorm, kRmsNormByDepth, kRmsNormOfAll, kLayerNormOfAll };
template <>
struct ChoiceNames<OutputNormKind> {
  static constexpr Choice<OutputNormKind> kAll[] = {{"none", OutputNormKind::kNone},
                                                    {"rmsnorm", OutputNormKind::kRmsNorm},
                                                    {"rmsnorm_by_depth", OutputNormKind::kRmsNormByDepth},
                                                    {"simple_rmsnorm_of_all", OutputNormKind::kRmsNormOfAll},
                                                    {"layernorm_of_all", OutputNormKind::kLayerNormOfAll}};
};

struct OutputNormOptions final : StageOptions {
  OutputNormKind kind = OutputNormKind::kNone;

  bool present() const override { return kind != OutputNormKind::kNone; }
  std::unique_ptr<StageOptions> clone() const override { return std::make_unique<OutputNormOptions>(*this); }
  void describe(Fields& attention) override;
  std::string text() const override;
};

class OutputNorm final : public Stage {
 public:
  OutputNorm(const LayerPlace& place, OutputNormKind kind);

  Seat seat() const override { return Seat::kResults; }
  Tensor result(const Pass& pass, const Tensor& in) const override { return pass.view(result_, in.shape); }
  void forward(const Pass& pass, const Tensor& in, const StageReads& reads) const override;
  Tensor backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& reads,
                  const Tensor& workspace) const override;

 private:
  HeadNormForward arguments(const Pass& pass, const Tensor& in) const;

  double epsilon_, scale_;
  ParamId gain_;
  BufferId result_;  // [N, H_q D_v]
};

// Of all heads together.
class OutputNormOfAll final : public Stage {
 public:
  OutputNormOfAll(const LayerPlace& place, Norm kind);

  Seat seat() const override { return Seat::kResults; }
  Tensor result(const Pass& pass, const Tensor& in) const override { return pass.view(result_, in.shape); }
  void forward(const Pass& pass, const Tensor& in, const StageReads& reads) const override;
  Tensor backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& reads,
                  const Tensor& workspace) const override;

 private:
  NormForward arguments(const Pass& pass, const Tensor& in) const;

  Norm kind_;
  double epsilon_;
  ParamId gain_, bias_;  // [H_q D_v]; LayerNorm's
  BufferId stats_;       // [N, 2]
  BufferId result_;      // like the results
};

// 0.8 - 0.6 e^(-0.3 layer), as differential attention has it; layers count from 0.
double lambda_init(int layer);

StagePart output_norm_stage();

}  // namespace sluice
