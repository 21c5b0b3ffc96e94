// Affine-scaled attention (arXiv 2602.23057): in the place of a head's weights p_ij of row i
//
//   a_i p_ij + (m - a_i) / L_i,   a_i = phi(x_i w_h),   L_i the number of tokens that row i sees, or the context
//
// where m is a moving average of the head's a over the batches of the training, from the step before. With u_i the sum
// of the values that row i sees over L_i, the head's result is a_i y_i + (m - a_i) u_i: one more read of the values, no
// other core.
//
// Parameters: w [H, C]. Beside them the averages [H], which are not trained. A decoder keeps the sums of the values.
// What is no token, a learned key of the core's, has the weight a_i p_ij. Instruments see the weights as above.
#pragma once

#include "kernels/ops/stages/affine.h"
#include "model/attention/stage.h"
#include "model/config/attention_parts.h"

namespace sluice {

enum class AffineType : uint8_t { kNone, kLinear, kSigmoid };
template <>
struct ChoiceNames<AffineType> {
  static constexpr Choice<AffineType> kAll[] = {
      {"none", AffineType::kNone}, {"linear", AffineType::kLinear}, {"sigmoid", AffineType::kSigmoid}};
};

enum class AffineLength : uint8_t { kRow, kContext };
template <>
struct ChoiceNames<AffineLength> {
  static constexpr Choice<AffineLength> kAll[] = {{"row", AffineLength::kRow}, {"context", AffineLength::kContext}};
};

struct AffineConfig {
  AffineType type = AffineType::kNone;
  AffineLength length = AffineLength::kRow;
  double keep = 0.9;   // of the average, by a step
  double initial = 0;  // of the average

  void describe(Fields& fields);
};

struct AffineOptions final : StageOptions {
  AffineConfig affine;

  bool present() const override { return affine.type != AffineType::kNone; }
  std::unique_ptr<StageOptions> clone() const override { return std::make_unique<AffineOptions>(*this); }
  void describe(Fields& attention) override;
  void check_core(const CoreOptions& core, const std::string& path) const override;
  std::string text() const override;
  std::string tied_to_context() const override;
  bool averages_rows() const override { return true; }
  bool causal_only() const override { return true; }  // its mean is over the earlier values
};

class Affine final : public Stage {
 public:
  Affine(const LayerPlace& place, const AffineConfig& config);

  Seat seat() const override { return Seat::kResults; }
  Tensor result(const Pass& pass, const Tensor& in) const override { return pass.view(result_, in.shape); }
  void forward(const Pass& pass, const Tensor& in, const StageReads& reads) const override;
  Tensor backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& reads,
                  const Tensor& workspace) const override;
  void backward_summed(const Pass& pass, const Tensor& d_summed) const override;
  void backward_input(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const override;
  bool keeps_weights() const override { return false; }
  std::unique_ptr<WeightsView> weights(const WeightsView& before) const override;

  // For what instruments see, after a forward run: a [N, H], row by row; m [H]; and L_i, 0 for the tokens of a row.
  std::vector<double> factors(const Pass& pass) const;
  std::vector<double> average(const Pass& pass) const;
  double divisor() const { return divisor_; }
  int64_t heads() const { return sizes_.H_q; }

 private:
  AffineForward arguments(const Pass& pass, const Tensor& in) const;
  Tensor logits(const Pass& pass) const { return pass.view(logits_, {pass.N(), sizes_.H_q}); }
  Tensor d_logits(const Pass& pass) const { return pass.view(d_logits_, {pass.N(), sizes_.H_q}); }
  Tensor mean(const Pass& pass) const { return pass.view(mean_, {pass.N(), sizes_.value_columns()}); }
  Tensor d_mean(const Pass& pass) const { return pass.view(d_mean_, {pass.N(), sizes_.value_columns()}); }

  AffinePhi phi_;
  double divisor_;
  HeadSizes sizes_;  // query heads as they are handed on, values as they are projected
  ParamId weight_;
  AverageId average_;
  BufferId logits_, d_logits_;
  BufferId mean_, d_mean_;  // [N, H_kv D_v]: u
  BufferId result_;         // [N, H_q D_v]
  StateId sums_;            // [1, H_kv D_v]: of a sequence's values
};

StagePart affine_stage();

}  // namespace sluice
