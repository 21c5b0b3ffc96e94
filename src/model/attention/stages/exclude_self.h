// Exclusive self-attention (XSA, arXiv 2603.09078): every head's result without what it has along its row's own value,
//
//   y_i <- y_i - (y_i . v_i) / |v_i|^2 v_i,   v_i the value as it is projected, of the head's group.
//
// No parameters. The first row, which sees itself alone, gives zero. Instruments see the core's weights: what is taken
// out is the row's own value, nobody else's.
#pragma once

#include "model/attention/stage.h"
#include "model/config/attention_parts.h"

namespace sluice {

struct ExcludeSelfOptions final : StageOptions {
  bool on = false;

  bool present() const override { return on; }
  std::unique_ptr<StageOptions> clone() const override { return std::make_unique<ExcludeSelfOptions>(*this); }
  void describe(Fields& attention) override;
  std::string text() const override { return "without what lies along the own value"; }
};

class ExcludeSelf final : public Stage {
 public:
  explicit ExcludeSelf(const LayerPlace& place);

  Seat seat() const override { return Seat::kResults; }
  Tensor result(const Pass& pass, const Tensor& in) const override { return pass.view(result_, in.shape); }
  void forward(const Pass& pass, const Tensor& in, const StageReads& reads) const override;
  Tensor backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& reads,
                  const Tensor& workspace) const override;
  bool reads_values() const override { return true; }
  void backward_values(const Pass& pass, const Tensor& d_v, const Tensor& v, const Tensor& workspace) const override;

 private:
  Tensor d_own(const Pass& pass) const { return pass.view(d_own_, {pass.N(), sizes_.value_columns()}); }

  HeadSizes sizes_;
  BufferId result_;  // [N, H_q D_v]
  BufferId d_own_;   // [N, H_kv D_v]: the gradient of the row's own value, until it is added to the others
};

StagePart exclude_self_stage();

}  // namespace sluice
