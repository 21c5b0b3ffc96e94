// What stands between the final norm and the output matrix of a masked language model (BERT, arXiv 1810.04805): a
// linear layer [C, C], the MLP's activation, and a norm.
#pragma once

#include "model/module/norm.h"

namespace sluice {

class HeadTransform {
 public:
  explicit HeadTransform(const Declarations& d);

  Tensor forward(const Pass& pass, const Tensor& x) const;  // [N, C]
  // Where the gradient of that is to be put; d_x is overwritten, x as forward() had it.
  Tensor d_result(const Pass& pass) const { return view(pass, d_out_); }
  void backward(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const;

 private:
  Tensor view(const Pass& pass, BufferId buffer) const { return pass.view(buffer, {pass.N(), width_}); }

  Activation activation_;
  int64_t width_;
  int sublayer_;  // the head's
  ParamId weight_, bias_;
  NormLayer norm_;
  BufferId pre_, active_, out_, d_out_;
};

}  // namespace sluice
