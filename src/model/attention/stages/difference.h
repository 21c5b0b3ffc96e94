// Differential attention: of every head's result is taken what another head makes of the same values,
//
//   O_h = O'_h - f_h O''_(h / signal)
//
//   projected   f_h = sigmoid(w_h . x), w [H, C]: a factor for each row and head (Diff V2)
//   scalar      f = e^(q1 . k1) - e^(q2 . k2) + l0, l0 = 0.8 - 0.6 e^(-0.3 layer): one for the layer (Diff V1,
//               arXiv 2410.05258; grouped, arXiv 2510.06949)
//   clamped     f_h = min(max(lambda_h, 0), 1), lambda_h at first 0.5: a number of each head (TDA, arXiv 2601.12145)
//
// `signal` heads share one noise head. With shared keys both are heads of one key/value group, side by side: `signal`
// heads, then the one that is taken from them. With keys of their own all noise heads follow all others, and a second
// set of keys those of the first; values are shared in either case.
#pragma once

#include "kernels/backend.h"
#include "model/attention/stage.h"
#include "model/config/attention_parts.h"

namespace sluice {

enum class DifferenceLambda { kNone, kProjected, kScalar, kClamped };
template <>
struct ChoiceNames<DifferenceLambda> {
  static constexpr Choice<DifferenceLambda> kAll[] = {{"none", DifferenceLambda::kNone},
                                                      {"projected", DifferenceLambda::kProjected},
                                                      {"scalar", DifferenceLambda::kScalar},
                                                      {"clamped", DifferenceLambda::kClamped}};
};

enum class NoiseKeys { kShared, kOwn };
template <>
struct ChoiceNames<NoiseKeys> {
  static constexpr Choice<NoiseKeys> kAll[] = {{"shared", NoiseKeys::kShared}, {"own", NoiseKeys::kOwn}};
};

struct DifferenceConfig {
  DifferenceLambda lambda = DifferenceLambda::kNone;
  int64_t signal = 1;  // 0: all that share a key/value head
  NoiseKeys keys = NoiseKeys::kShared;

  void describe(Fields& fields);
  // Of a layer that hands on H_q heads, each H_q / H_kv of which share a key/value head.
  int64_t signals(int64_t H_q, int64_t H_kv) const { return signal > 0 ? signal : H_q / H_kv; }
};

struct DifferenceOptions final : StageOptions {
  DifferenceConfig difference;

  bool present() const override { return difference.lambda != DifferenceLambda::kNone; }
  std::unique_ptr<StageOptions> clone() const override { return std::make_unique<DifferenceOptions>(*this); }
  void describe(Fields& attention) override;
  void resolve(const ModelConfig& model, const std::string& path) const override;
  std::string text() const override;
  HeadSizes asks(const HeadSizes& handed_on) const override;
};

class Difference final : public Stage {
 public:
  Difference(const LayerPlace& place, const DifferenceConfig& config);

  Seat seat() const override { return Seat::kResults; }
  Tensor result(const Pass& pass, const Tensor& in) const override;
  void forward(const Pass& pass, const Tensor& in, const StageReads& reads) const override;
  Tensor backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& reads,
                  const Tensor& workspace) const override;
  void backward_input(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const override;
  bool keeps_weights() const override { return false; }
  std::unique_ptr<WeightsView> weights(const WeightsView& before) const override;

 private:
  DifferenceForward arguments(const Pass& pass, const Tensor& in) const;
  std::vector<double> factors(const Pass& pass) const;
  Tensor lambda(const Pass& pass) const;
  Tensor d_lambda(const Pass& pass) const { return pass.view(d_lambda_, {pass.N(), heads()}); }
  int64_t heads() const { return layout_.heads; }

  DifferenceLayout layout_;
  int64_t D_;  // of a result's head
  DifferenceLambda kind_;
  double initial_;                       // of the one factor
  ParamId weight_, vectors_, of_heads_;  // [H, C]; [4, D_qk]: q1, k1, q2, k2; lambda [H]
  BufferId lambda_, d_lambda_;           // logits [N, H], or the one factor [1]; [N, H]
  BufferId d_sums_;                      // [H] acc: over the rows
  BufferId result_, d_in_;               // [N, H D_v]; [N, (H + H / signal) D_v]
  BufferId probed_;                      // [2, B, H + H / signal, T] acc, for instruments
};

StagePart difference_stage();

}  // namespace sluice
