#include "model/block.h"

namespace sluice {
namespace {

std::string block_name(int layer) { return "blocks." + std::to_string(layer); }

}  // namespace

Block::Block(const Declarations& d, int layer)
    : width_(d.config.width),
      input_(d.plan.declare(block_name(layer) + ".input", "residual", {d.max_tokens(), d.config.width}, d.act,
                            {layer == 0 ? d.timeline.embedding() : d.timeline.attention(layer),
                             d.timeline.attention_backward(layer)})),
      mid_(d.plan.declare(block_name(layer) + ".mid", "residual", {d.max_tokens(), d.config.width}, d.act,
                          {d.timeline.mlp(layer), d.timeline.mlp_backward(layer)})),
      norm1_(d, block_name(layer) + ".norm1", {d.timeline.attention(layer), d.timeline.attention_backward(layer)}),
      attention_(d, block_name(layer) + ".attention", layer),
      norm2_(d, block_name(layer) + ".norm2", {d.timeline.mlp(layer), d.timeline.mlp_backward(layer)}),
      mlp_(d, block_name(layer) + ".mlp", layer) {}

Tensor Block::input(const Pass& pass) const { return pass.view(input_, {pass.N(), width_}); }
Tensor Block::mid(const Pass& pass) const { return pass.view(mid_, {pass.N(), width_}); }

void Block::forward(const Pass& pass, const Tensor& x, bool add_delta, const BlockScratch& scratch) const {
  const Tensor in = input(pass);
  norm1_.forward(pass, x, add_delta ? scratch.delta : Tensor{}, add_delta ? in : Tensor{}, scratch.normed);
  attention_.forward(pass, scratch.normed, scratch.delta);
  norm2_.forward(pass, in, scratch.delta, mid(pass), scratch.normed);
  mlp_.forward(pass, scratch.normed, scratch.delta);
}

void Block::backward(const Pass& pass, const Tensor& d_residual, const BlockScratch& scratch) const {
  norm2_.recompute(pass, mid(pass), scratch.normed);
  mlp_.backward(pass, scratch.d_normed, d_residual, scratch.normed, scratch.workspace);
  norm2_.backward(pass, d_residual, true, scratch.d_normed, mid(pass), scratch.workspace);

  norm1_.recompute(pass, input(pass), scratch.normed);
  attention_.backward(pass, scratch.d_normed, d_residual, scratch.normed, scratch.workspace);
  norm1_.backward(pass, d_residual, true, scratch.d_normed, input(pass), scratch.workspace);
}

}  // namespace sluice
