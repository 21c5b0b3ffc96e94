// A block: attention, then the MLP, each behind a norm of its own. What they read and where they put out says the
// residual; with `add`: mid = x + attention(norm1(x)),  out = mid + mlp(norm2(mid)).
//
// Kept for the backward pass: what the residual, attention and MLP keep, and the norms' statistics; the normalised
// inputs are computed again. Recompute says what else is.
//
// With parallel_residual both read what attention reads: out = x + attention(norm1(x)) + mlp(norm2(x)).
//
// In attention's place there may be another mixer. One whose queries and keys are made of the token embedding e is
// given norm1(e) as well, by the same norm; what comes back there is added to BlockScratch::d_embedding.
#pragma once

#include <memory>

#include "model/attention/layer.h"
#include "model/module/dropout.h"
#include "model/module/norm.h"
#include "model/residual/residual.h"
#include "model/sublayers/mlp.h"

namespace sluice {

// Buffers that all blocks share, [N, C] each but the last.
struct BlockScratch {
  Tensor normed;  // a norm's output
  Tensor delta;   // Residual::set_scratch; scratch in the backward pass
  Tensor d_normed;
  Tensor workspace;  // norm_workspace(max width) f32
  // Where some layer makes queries and keys of the embedding, else absent: norm1 of it, the gradient there, and that at
  // the embedding, from the last such layer's backward pass on.
  Tensor embedded = {}, d_embedded = {}, d_embedding = {};
};

// The last layer that makes queries and keys of the embedding; -1: none does.
int last_reader_of_embedding(const ModelConfig& model);

class Block {
 public:
  // The residual must outlive the block.
  Block(const Declarations& d, int layer, Residual& residual);

  // Between the embedding, or the block before, and the next: the residual has what they put out.
  void forward(const Pass& pass, const BlockScratch& scratch) const;
  void backward(const Pass& pass, const BlockScratch& scratch) const;

  bool has_heads() const { return mixer_->attention() != nullptr; }
  const AttentionLayer& attention() const;  // of a layer that has heads
  const Mixer& mixer() const { return *mixer_; }

 private:
  // What the mixer reads, norm1(x) being `normed`: where it reads the embedding, norm1 of that is made. Its
  // statistics are then those of the norm.
  MixerInput mixer_input(const Pass& pass, const Tensor& normed, const BlockScratch& scratch) const;
  Tensor mix_backward(const Pass& pass, const Tensor& d_normed, const BlockScratch& scratch) const;
  void embedded_backward(const Pass& pass, const BlockScratch& scratch) const;
  void normalise_parallel(const Pass& pass, const BlockScratch& scratch) const;
  Tensor recompute(const Pass& pass, const BlockScratch& scratch) const;
  void backward_parallel(const Pass& pass, const Tensor& x, const BlockScratch& scratch) const;

  int64_t layer_;
  const Residual* residual_;
  int attends_, mlps_;  // the two sublayers
  bool parallel_;
  Recompute recompute_;
  bool reads_embedding_, first_in_backward_;  // the latter: of the layers that do
  NormLayer norm1_;
  std::unique_ptr<Mixer> mixer_;
  NormLayer norm2_;
  Mlp mlp_;
  DropoutLayer mixed_dropout_, mlp_dropout_;  // of what the mixer and the MLP put out
};

}  // namespace sluice
