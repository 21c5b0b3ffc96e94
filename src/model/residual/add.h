// The residual stream as it is in most models: a running sum to which every sublayer adds.
//
// The additions are fused into the norms that follow them. The sums at attention and head stay, those at MLPs until the
// backward pass has read them; with Recompute::kBlock the latter are made again. One gradient runs down through all
// sublayers, and each norm adds its part to it.
#pragma once

#include <vector>

#include "model/config/residual_parts.h"
#include "model/residual/residual.h"

namespace sluice {

class Add final : public Residual {
 public:
  explicit Add(const Declarations& d) : width_(d.config.width) {}

  void declare(const Declarations& d, int sublayer) override;
  Tensor start(const Pass& pass) const override { return stream_at(pass, 0); }
  NormInput input(const Pass& pass, int sublayer) const override;
  Tensor output(const Pass& pass, int /*sublayer*/) const override { return view(pass, scratch_); }
  Tensor stream_at(const Pass& pass, int sublayer) const override { return view(pass, sums_[size_t(sublayer)]); }
  Tensor d_output(const Pass& pass, int /*sublayer*/) const override { return view(pass, d_sum_); }
  Slope d_input(const Pass& pass, int sublayer) const override;
  Tensor d_start(const Pass& pass) const override { return view(pass, d_sum_); }

 private:
  Tensor view(const Pass& pass, BufferId buffer) const { return pass.view(buffer, {pass.N(), width_}); }

  int64_t width_;
  std::vector<BufferId> sums_;  // at each sublayer
  BufferId d_sum_;
};

ResidualPart add_residual();

}  // namespace sluice
