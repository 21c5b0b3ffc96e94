// An activation function on queries and keys, between their norm and rope, and one on values: the feature maps phi of
// linear attention (core linear), whose weights are products phi(q_i) . phi(k_j). No parameters; any core may have
// them.
//
// Mapped queries and keys are not kept for the backward pass: they are computed again, with a recomputed block already
// when that runs once more, before the backward pass of its MLP.
#pragma once

#include "model/attention/stage.h"
#include "model/config/attention_parts.h"

namespace sluice {

enum class FeatureMap { kNone, kSilu, kRelu };
template <>
struct ChoiceNames<FeatureMap> {
  static constexpr Choice<FeatureMap> kAll[] = {
      {"none", FeatureMap::kNone}, {"silu", FeatureMap::kSilu}, {"relu", FeatureMap::kRelu}};
};

// Of queries and keys, or of values: each is a key of its own.
class FeatureMapOptions final : public StageOptions {
 public:
  explicit FeatureMapOptions(Stage::Seat seat) : seat_(seat) {}

  FeatureMap map = FeatureMap::kNone;

  bool present() const override { return map != FeatureMap::kNone; }
  std::unique_ptr<StageOptions> clone() const override { return std::make_unique<FeatureMapOptions>(*this); }
  void describe(Fields& attention) override;
  std::string text() const override;

 private:
  Stage::Seat seat_;
};

class MappedFeatures final : public Stage {
 public:
  MappedFeatures(const LayerPlace& place, Seat seat, FeatureMap map);

  Seat seat() const override { return seat_; }
  Tensor result(const Pass& pass, const Tensor& in) const override { return pass.view(mapped_, in.shape); }
  void forward(const Pass& pass, const Tensor& in, const StageReads& reads) const override;
  Tensor backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& reads,
                  const Tensor& workspace) const override;
  bool keeps_result() const override { return seat_ == Seat::kValues; }

 private:
  Seat seat_;
  Activation activation_;
  BufferId mapped_;
};

StagePart feature_map_stage();
StagePart value_map_stage();

}  // namespace sluice
