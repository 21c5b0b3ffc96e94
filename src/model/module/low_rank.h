// A linear layer that may have a low rank: x W^T, or silu(x D^T) U^T with as many rows of D as the rank says, or (x
// D^T) U^T. Gates have their logits by it.
#pragma once

#include "model/module/module.h"

namespace sluice {

// A buffer's ticks in the forward and the backward pass, and whether it is recomputed or kept in between.
struct BufferUses {
  Lifetime forward, backward;
  bool recomputed;
};

class LowRankLinear {
 public:
  LowRankLinear() = default;
  // Parameters NAME.weight [columns, inputs], or for a rank above 0 NAME.down.weight [rank, inputs] and NAME.up.weight
  // [columns, rank]. `uses` of what lies between them.
  LowRankLinear(const Declarations& d, const std::string& name, int64_t columns, int64_t inputs, int64_t rank,
                const BufferUses& uses, bool silu = true);

  void forward(const Pass& pass, const Tensor& out, const Tensor& x, ParamId bias) const;
  // d_x += the gradient at x.
  void backward(const Pass& pass, const Tensor& d_x, const Tensor& d_out, const Tensor& x, ParamId bias,
                const Tensor& workspace) const;

 private:
  Tensor of_rank(const Pass& pass, BufferId id) const { return pass.view(id, {pass.N(), rank_}); }

  int64_t rank_ = 0;
  ParamId weight_;  // of the result: W or U
  ParamId down_;
  bool silu_ = true;
  BufferId hidden_, active_, d_hidden_;  // [N, rank]: x D^T, its silu if there is one, the gradients of both in turn
};

}  // namespace sluice
