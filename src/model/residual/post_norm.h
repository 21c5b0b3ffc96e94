// Norms behind the sums (post-norm), as in the first transformers (arXiv 1706.03762) and BERT (arXiv 1810.04805): what
// a norm makes of the stream is the stream.
//
//   x_{s+1} = n_s + f_s(n_s),   n_s = norm_s(x_s),   x_0 the embedding, so that norm_0 is BERT's norm of it
//
// The parameters are those of a pre-norm model: norm1 of block 0 is the embedding's norm, norm2 that behind its
// attention, norm1 of block 1 that behind block 0's MLP, and final_norm that behind the last. A norm writes its result
// where the next sum will be, the sublayer reads it there, and the next norm adds in place. Backward, the sum's
// gradient joins the sublayer's at n_s, and goes through the norm.
#pragma once

#include <vector>

#include "model/config/residual_parts.h"
#include "model/residual/residual.h"

namespace sluice {

class PostNorm final : public Residual {
 public:
  explicit PostNorm(const Declarations& d) : width_(d.config.width) {}

  void declare(const Declarations& d, int sublayer) override;
  Tensor start(const Pass& pass) const override { return stream_at(pass, 0); }
  NormInput input(const Pass& pass, int sublayer) const override;
  Tensor normed(const Pass& pass, int sublayer, const Tensor& scratch) const override;
  Tensor output(const Pass& pass, int /*sublayer*/) const override { return view(pass, scratch_); }
  Tensor stream_at(const Pass& pass, int sublayer) const override { return view(pass, sums_[size_t(sublayer)]); }
  Tensor d_output(const Pass& pass, int /*sublayer*/) const override { return view(pass, d_sum_); }
  Slope d_input(const Pass& pass, int sublayer, const Tensor& d_normed) const override;
  Tensor d_start(const Pass& pass) const override { return view(pass, d_sum_); }

 private:
  bool is_last(int sublayer) const { return sublayer + 1 == int(sums_.size()); }  // the head's
  Tensor view(const Pass& pass, BufferId buffer) const { return pass.view(buffer, {pass.N(), width_}); }

  int64_t width_;
  std::vector<BufferId> sums_;  // at each sublayer: first what the norm before made, then with what that put out
  BufferId d_sum_;
};

ResidualPart post_norm_residual();

}  // namespace sluice
