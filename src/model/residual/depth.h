// Residuals that mix over depth: a sublayer reads the embedding and what those before it have put out, each with a
// weight of its own for every token (attention residuals, arXiv 2603.15031; delta attention residuals).
//
//   r = sum_m alpha_m V_m,   alpha = softmax over m of query . RMSNorm(V_m; gain)
//
//                blocks 0: V are                          blocks n: V are
//   attention    the embedding, every earlier output      the embedding, sums of finished blocks, this block's so far
//                a sublayer reads r, and so does the head
//   delta        the embedding, every earlier output      the embedding, sums of finished blocks
//                a sublayer reads x + r, the head x, with x the sum of the embedding and all outputs
//
// States are the embedding and, behind every sublayer, what it has put out, with blocks the sum of its block so far.
// They are kept, a token's beside one another; what is read of them is mixed again for the backward pass. A source's
// gradient is added up over all sublayers that read it, the last one first; that of a block's sum is one with those of
// the sums on the way to it. x is not kept: it is the sum of the sources.
//
// Parameters query and gain [C] belong to every sublayer with more than one source to weigh: blocks.0.route1
// (attention), blocks.0.route2 (MLP), final_route.
#pragma once

#include <vector>

#include "kernels/ops/residual/depth_route.h"
#include "model/config/residual_parts.h"
#include "model/residual/residual.h"

namespace sluice {

struct DepthOptions final : ResidualOptions {
  static constexpr double kFormsOwn = -1;  // init_std
  int64_t blocks = 0;
  double init_std = kFormsOwn;

  std::unique_ptr<ResidualOptions> clone() const override { return std::make_unique<DepthOptions>(*this); }
  void describe(Fields& group) override;
  void resolve(const ModelConfig& model, const std::string& path) const override;
  std::string text() const override;
};

class DepthResidual final : public Residual {
 public:
  enum class Form : uint8_t { kAttention, kDelta };
  DepthResidual(const Declarations& d, Form form, const DepthOptions& options);

  void declare(const Declarations& d, int sublayer) override;
  Tensor start(const Pass& pass) const override { return state(pass, 0); }
  NormInput input(const Pass& pass, int sublayer) const override;
  Tensor output(const Pass& pass, int sublayer) const override { return state(pass, sublayer + 1); }
  void add(const Pass& pass, int sublayer) const override;
  Tensor stream_at(const Pass& pass, int sublayer) const override;
  Tensor d_output(const Pass& pass, int sublayer) const override;
  Slope d_input(const Pass& pass, int /*sublayer*/, const Tensor& /*d_normed*/) const override {
    return {view(pass, d_mix_, 1), false};
  }
  void backward(const Pass& pass, int sublayer, const Tensor& d_stream) const override;
  Tensor d_start(const Pass& pass) const override { return view(pass, d_sources_, d_count_).columns(0, width_); }

 private:
  struct Routing {
    int64_t routed = 0;  // sources with a weight of their own
    ParamId query, gain;
  };

  bool reads(int sublayer) const { return !parallel_ || sublayer % 2 == 0; }
  int64_t routed_at(int sublayer) const;
  DepthRouteForward route(const Pass& pass, int sublayer) const;
  Tensor view(const Pass& pass, BufferId buffer, int64_t states) const {
    return pass.view(buffer, {pass.N(), states * width_});
  }
  Tensor state(const Pass& pass, int64_t index) const {
    return view(pass, states_, last_ + 1).columns(index * width_, width_);
  }

  Form form_;
  int64_t width_, last_;  // the head's sublayer, and the last state
  int64_t step_;          // sublayers of a block
  int64_t d_count_;       // sources of the last sublayer: places of gradients
  double epsilon_, init_std_;
  bool parallel_;
  BufferId states_, d_sources_;  // [N, states * C]
  BufferId mix_, d_mix_;         // [N, C]
  BufferId workspace_;
  std::vector<Routing> routings_;
};

ResidualPart attention_residual();
ResidualPart delta_residual();

}  // namespace sluice
