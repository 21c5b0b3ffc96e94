// A pre-norm block: mid = x + attention(norm(x)),  out = mid + mlp(norm(mid)).
//
// Residual additions are fused into the norms that follow them: a block receives (x, delta) with its input x + delta, and
// hands on (mid, mlp's output). Kept for the backward pass: the two sums, what attention and MLP keep, and the norms'
// statistics; the normalised inputs are computed again. Recompute says what else is.
//
// With parallel_residual: out = x + attention(norm1(x)) + mlp(norm2(x)); mid = x + attention(norm1(x)) all the same.
#pragma once

#include "model/attention/layer.h"
#include "model/mlp.h"
#include "model/norm.h"

namespace sluice {

// Buffers that all blocks share, [N, C] each but the last.
struct BlockScratch {
  Tensor normed;      // a norm's output
  Tensor delta;       // what the next norm adds to the residual stream; scratch in the backward pass
  Tensor d_normed;
  Tensor workspace;   // norm_workspace(max width) f32
};

class Block {
 public:
  Block(const Declarations& d, int layer);

  // The block's input is x + scratch.delta (x alone for the first block, whose input is already whole). Leaves mid in
  // `mid(pass)` and the MLP's output in scratch.delta.
  void forward(const Pass& pass, const Tensor& x, bool add_delta, const BlockScratch& scratch) const;
  // d_residual: gradient at the block's output in, at its input out.
  void backward(const Pass& pass, const Tensor& d_residual, const BlockScratch& scratch) const;

  Tensor input(const Pass& pass) const;  // [N, C]: x + delta, the previous block's output
  Tensor mid(const Pass& pass) const;
  const AttentionLayer& attention() const { return attention_; }

 private:
  void recompute(const Pass& pass, const BlockScratch& scratch) const;
  void backward_parallel(const Pass& pass, const Tensor& d_residual, const BlockScratch& scratch) const;
  Tensor mlp_reads(const Pass& pass) const { return parallel_ ? input(pass) : mid(pass); }  // before its norm

  int64_t width_;
  bool parallel_;
  Recompute recompute_;
  BufferId input_, mid_;
  NormLayer norm1_;
  AttentionLayer attention_;
  NormLayer norm2_;
  Mlp mlp_;
};

}  // namespace sluice
