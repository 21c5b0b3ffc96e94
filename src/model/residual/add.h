// The residual stream as it is in most models: a running sum to which every sublayer adds.
//
// The additions are fused into the norms that follow them. The sums at attention and head stay, those at MLPs until the
// backward pass has read them; with Recompute::kBlock the latter are made again. One gradient runs down through all
// sublayers, and each norm adds its part to it. With an outlier loss (TWEO, arXiv 2511.23225),
//
//   mean over blocks, tokens and features of (x / limit)^4,   x what a block leaves in the stream,
//
// adds its part as well, where the next block's attention, or the head, has read x.
#pragma once

#include <vector>

#include "model/config/residual_parts.h"
#include "model/residual/residual.h"

namespace sluice {

class Add final : public Residual {
 public:
  Add(const Declarations& d, double outlier_weight, double outlier_limit);

  void declare(const Declarations& d, int sublayer) override;
  Tensor start(const Pass& pass) const override { return stream_at(pass, 0); }
  NormInput input(const Pass& pass, int sublayer) const override;
  Tensor output(const Pass& pass, int /*sublayer*/) const override { return view(pass, scratch_); }
  Tensor stream_at(const Pass& pass, int sublayer) const override { return view(pass, sums_[size_t(sublayer)]); }
  Tensor d_output(const Pass& pass, int /*sublayer*/) const override { return view(pass, d_sum_); }
  Slope d_input(const Pass& pass, int sublayer, const Tensor& d_normed) const override;
  void backward(const Pass& pass, int sublayer, const Tensor& d_stream) const override;
  Tensor d_start(const Pass& pass) const override { return view(pass, d_sum_); }

 private:
  Tensor view(const Pass& pass, BufferId buffer) const { return pass.view(buffer, {pass.N(), width_}); }

  int64_t width_, layers_;
  PartLossId outliers_;  // none without such a loss
  double outlier_limit_;
  std::vector<BufferId> sums_;  // at each sublayer
  BufferId d_sum_;
};

ResidualPart add_residual();

}  // namespace sluice
