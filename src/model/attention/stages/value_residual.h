// Value residual (ResFormer, arXiv 2410.17897): the values of every layer but the first are mixed with the first
// layer's before they are attended to,
//
//   v_l <- own v_l + first v_0,   v_l and v_0 as they are projected.
//
// The two numbers are fixed, or learned in each layer. The first layer keeps a copy of its values for the others,
// whether it is of such a kind itself or not, and gathers the gradient from them. A decoder's cache has what was mixed.
#pragma once

#include "kernels/ops/stages/mix.h"
#include "model/attention/stage.h"
#include "model/config/attention_parts.h"

namespace sluice {

enum class ValueResidualType : uint8_t { kNone, kFixed, kLearned };
template <>
struct ChoiceNames<ValueResidualType> {
  static constexpr Choice<ValueResidualType> kAll[] = {{"none", ValueResidualType::kNone},
                                                       {"fixed", ValueResidualType::kFixed},
                                                       {"learned", ValueResidualType::kLearned}};
};

struct ValueResidualConfig {
  ValueResidualType type = ValueResidualType::kNone;
  double own = 0.5, first = 0.5;  // of learned ones: at the start

  void describe(Fields& fields);
};

struct ValueResidualOptions final : StageOptions {
  ValueResidualConfig value_residual;

  bool present() const override { return value_residual.type != ValueResidualType::kNone; }
  std::unique_ptr<StageOptions> clone() const override { return std::make_unique<ValueResidualOptions>(*this); }
  void describe(Fields& attention) override;
  void resolve(const ModelConfig& model, const std::string& path) const override;
  std::string text() const override;
  std::string idle(const ModelConfig& model, const std::string& path) const override;
};

// Of the first layer: keeps its values and passes them on as they are.
class FirstValues final : public Stage {
 public:
  // `last`: the last layer that mixes them.
  FirstValues(const LayerPlace& place, int last);

  Seat seat() const override { return Seat::kValues; }
  Tensor result(const Pass& /*pass*/, const Tensor& in) const override { return in; }
  void forward(const Pass& pass, const Tensor& in, const StageReads& reads) const override;
  // Takes up what the layers that mix them have gathered.
  Tensor backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& reads,
                  const Tensor& workspace) const override;

 private:
  BufferId values_, d_values_;  // [N, H_kv, D_v], of the whole pass
};

// Of every other layer.
class ValueResidual final : public Stage {
 public:
  // `is_last`: no later layer mixes, so that its gradient is the first.
  ValueResidual(const LayerPlace& place, const ValueResidualConfig& config, bool is_last);

  Seat seat() const override { return Seat::kValues; }
  Tensor result(const Pass& pass, const Tensor& in) const override { return pass.view(result_, in.shape); }
  void forward(const Pass& pass, const Tensor& in, const StageReads& reads) const override;
  Tensor backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& reads,
                  const Tensor& workspace) const override;

 private:
  MixForward arguments(const Pass& pass, const Tensor& in) const;

  ValueResidualConfig config_;
  bool is_last_;
  ParamId own_, first_;         // [1] each, where learned
  BufferId values_, d_values_;  // the first layer's
  BufferId result_;             // [N, H_kv D_v]
};

StagePart value_residual_stage();

}  // namespace sluice
