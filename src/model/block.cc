#include "model/block.h"

namespace sluice {
namespace {

std::string block_name(int layer) { return "blocks." + std::to_string(layer); }

NormLayer first_norm(const Declarations& d, int layer) {
  const int now = d.timeline.attention(layer);
  return {d, block_name(layer) + ".norm1", {now, now}, {d.timeline.mlp_backward(layer), d.timeline.attention_backward(layer)},
          d.recompute == Recompute::kBlock};
}

NormLayer second_norm(const Declarations& d, int layer) {
  const int now = d.timeline.mlp(layer), back = d.timeline.mlp_backward(layer);
  const int last = d.config.parallel_residual ? d.timeline.attention_backward(layer) : back;
  return {d, block_name(layer) + ".norm2", {now, now}, {back, last}, d.recompute == Recompute::kBlock};
}

// The next block, or the final norm, reads it one tick later.
BufferId declare_mid(const Declarations& d, int layer) {
  const int now = d.timeline.mlp(layer), back = d.timeline.mlp_backward(layer);
  const Shape shape = {d.max_tokens(), d.config.width};
  if (d.config.parallel_residual)  // no norm of this block reads it
    return d.plan.declare(block_name(layer) + ".mid", "residual", shape, d.act, {now, now + 1});
  return d.activation(block_name(layer) + ".mid", "residual", shape, d.act, {now, now + 1}, {back, back},
                      d.recompute == Recompute::kBlock);
}

}  // namespace

Block::Block(const Declarations& d, int layer)
    : width_(d.config.width), parallel_(d.config.parallel_residual), recompute_(d.recompute),
      input_(d.plan.declare(block_name(layer) + ".input", "residual", {d.max_tokens(), d.config.width}, d.act,
                            {layer == 0 ? d.timeline.embedding() : d.timeline.attention(layer),
                             d.timeline.attention_backward(layer)})),
      mid_(declare_mid(d, layer)),
      norm1_(first_norm(d, layer)),
      attention_(d, block_name(layer) + ".attention", layer),
      norm2_(second_norm(d, layer)),
      mlp_(d, block_name(layer) + ".mlp", layer) {}

Tensor Block::input(const Pass& pass) const { return pass.view(input_, {pass.N(), width_}); }
Tensor Block::mid(const Pass& pass) const { return pass.view(mid_, {pass.N(), width_}); }

void Block::forward(const Pass& pass, const Tensor& x, bool add_delta, const BlockScratch& scratch) const {
  const Tensor in = input(pass);
  norm1_.forward(pass, x, add_delta ? scratch.delta : Tensor{}, add_delta ? in : Tensor{}, scratch.normed);
  attention_.forward(pass, scratch.normed, scratch.delta);
  norm2_.forward(pass, in, scratch.delta, mid(pass), scratch.normed);
  // Of that a parallel block wants the sum alone; output and statistics are those of its input.
  if (parallel_) norm2_.forward(pass, in, Tensor{}, Tensor{}, scratch.normed);
  mlp_.forward(pass, scratch.normed, scratch.delta);
}

// What the backward pass needs and the forward pass did not keep; leaves the second norm's output in scratch.normed.
void Block::recompute(const Pass& pass, const BlockScratch& scratch) const {
  if (recompute_ == Recompute::kBlock) {
    norm1_.recompute(pass, input(pass), scratch.normed);
    attention_.forward(pass, scratch.normed, scratch.delta);
    if (!parallel_) norm2_.forward(pass, input(pass), scratch.delta, mid(pass), scratch.normed);
  }
  if (parallel_ || recompute_ != Recompute::kBlock) norm2_.recompute(pass, mlp_reads(pass), scratch.normed);
  if (recompute_ != Recompute::kNone) mlp_.recompute(pass, scratch.normed);
}

void Block::backward(const Pass& pass, const Tensor& d_residual, const BlockScratch& scratch) const {
  recompute(pass, scratch);
  if (parallel_) return backward_parallel(pass, d_residual, scratch);
  mlp_.backward(pass, scratch.d_normed, d_residual, scratch.normed, scratch.workspace);
  norm2_.backward(pass, d_residual, true, scratch.d_normed, mid(pass), scratch.workspace);

  norm1_.recompute(pass, input(pass), scratch.normed);
  attention_.backward(pass, scratch.d_normed, d_residual, scratch.normed, scratch.workspace);
  norm1_.backward(pass, d_residual, true, scratch.d_normed, input(pass), scratch.workspace);
}

// Both parts are given the gradient at the block's output, so that neither norm may add to it before both have run.
void Block::backward_parallel(const Pass& pass, const Tensor& d_residual, const BlockScratch& scratch) const {
  const Tensor& d_attention_normed = scratch.delta;
  mlp_.backward(pass, scratch.d_normed, d_residual, scratch.normed, scratch.workspace);
  norm1_.recompute(pass, input(pass), scratch.normed);
  attention_.backward(pass, d_attention_normed, d_residual, scratch.normed, scratch.workspace);
  norm2_.backward(pass, d_residual, true, scratch.d_normed, input(pass), scratch.workspace);
  norm1_.backward(pass, d_residual, true, d_attention_normed, input(pass), scratch.workspace);
}

}  // namespace sluice
