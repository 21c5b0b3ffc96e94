// A pre-norm block: attention, then the MLP, each behind a norm of its own. What they read and where they put out says
// the residual; with `add`: mid = x + attention(norm1(x)),  out = mid + mlp(norm2(mid)).
//
// Kept for the backward pass: what the residual, attention and MLP keep, and the norms' statistics; the normalised
// inputs are computed again. Recompute says what else is.
//
// With parallel_residual both read what attention reads: out = x + attention(norm1(x)) + mlp(norm2(x)).
#pragma once

#include "model/attention/layer.h"
#include "model/mlp.h"
#include "model/module/norm.h"
#include "model/residual/residual.h"

namespace sluice {

// Buffers that all blocks share, [N, C] each but the last.
struct BlockScratch {
  Tensor normed;  // a norm's output
  Tensor delta;   // Residual::set_scratch; scratch in the backward pass
  Tensor d_normed;
  Tensor workspace;  // norm_workspace(max width) f32
};

class Block {
 public:
  // The residual must outlive the block.
  Block(const Declarations& d, int layer, Residual& residual);

  // Between the embedding, or the block before, and the next: the residual has what they put out.
  void forward(const Pass& pass, const BlockScratch& scratch) const;
  void backward(const Pass& pass, const BlockScratch& scratch) const;

  const AttentionLayer& attention() const { return attention_; }

 private:
  void normalise_parallel(const Pass& pass, const BlockScratch& scratch) const;
  Tensor recompute(const Pass& pass, const BlockScratch& scratch) const;
  void backward_parallel(const Pass& pass, const Tensor& x, const BlockScratch& scratch) const;

  int64_t layer_;
  const Residual* residual_;
  int attends_, mlps_;  // the two sublayers
  bool parallel_;
  Recompute recompute_;
  NormLayer norm1_;
  AttentionLayer attention_;
  NormLayer norm2_;
  Mlp mlp_;
};

}  // namespace sluice
