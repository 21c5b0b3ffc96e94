#include "model/block.h"

#include "base/error.h"
#include "model/config/attention_parts.h"
#include "model/config/qk_source.h"

namespace sluice {
namespace {

std::string block_name(int layer) { return "blocks." + std::to_string(layer); }

NormLayer first_norm(const Declarations& d, int layer) {
  const int now = d.timeline.attention(layer);
  return {d,
          block_name(layer) + ".norm1",
          {now, now},
          {d.timeline.mlp_backward(layer), d.timeline.attention_backward(layer)},
          d.recompute == Recompute::kBlock};
}

NormLayer second_norm(const Declarations& d, int layer) {
  const int now = d.timeline.mlp(layer), back = d.timeline.mlp_backward(layer);
  const int last = d.config.parallel_residual ? d.timeline.attention_backward(layer) : back;
  return {d, block_name(layer) + ".norm2", {now, now}, {back, last}, d.recompute == Recompute::kBlock};
}

// The layer's part of the residual is declared before the layer's own.
Residual* declared(Residual& residual, const Declarations& d, int layer) {
  residual.declare(d, d.timeline.attention_sublayer(layer));
  residual.declare(d, d.timeline.mlp_sublayer(layer));
  return &residual;
}

std::unique_ptr<Mixer> mixer_of(const Declarations& d, int layer) {
  const std::string name = block_name(layer) + ".attention";
  const AttentionConfig& config = d.config.attention.of(layer);
  if (config.core_part().has_heads()) return std::make_unique<AttentionLayer>(d, name, layer);
  const HeadSizes heads = d.config.head_sizes();
  return config.core_part().make_mixer({d, name, layer, heads, heads}, config.core_options());
}

bool reads_embedding(const ModelConfig& model, int layer) {
  return model.attention.of(layer).options<QkSourceOptions>().qk_source.type == QkSource::kEmbedding;
}

}  // namespace

int last_reader_of_embedding(const ModelConfig& model) {
  int layer = int(model.layers) - 1;
  while (layer >= 0 && !reads_embedding(model, layer)) --layer;
  return layer;
}

Block::Block(const Declarations& d, int layer, Residual& residual)
    : layer_(layer),
      residual_(declared(residual, d, layer)),
      attends_(d.timeline.attention_sublayer(layer)),
      mlps_(d.timeline.mlp_sublayer(layer)),
      parallel_(d.config.parallel_residual),
      recompute_(d.recompute),
      reads_embedding_(reads_embedding(d.config, layer)),
      first_in_backward_(layer == last_reader_of_embedding(d.config)),
      norm1_(first_norm(d, layer)),
      mixer_(mixer_of(d, layer)),
      norm2_(second_norm(d, layer)),
      mlp_(d, block_name(layer) + ".mlp", layer),
      mixed_dropout_(d, block_name(layer) + ".attention", d.config.dropout.hidden,
                     d.timeline.attention_backward(layer)),
      mlp_dropout_(d, block_name(layer) + ".mlp", d.config.dropout.hidden, d.timeline.mlp_backward(layer)) {}

const AttentionLayer& Block::attention() const {
  check(has_heads(), "attention heads of a layer that has none");
  return *mixer_->attention();
}

MixerInput Block::mixer_input(const Pass& pass, const Tensor& normed, const BlockScratch& scratch) const {
  if (!reads_embedding_) return {normed};
  norm1_.recompute(pass, residual_->start(pass), scratch.embedded);
  pass.show(attends_, Shown::kNormed, scratch.embedded);
  return {normed, scratch.embedded};
}

void Block::forward(const Pass& pass, const BlockScratch& scratch) const {
  const Tensor read = residual_->normed(pass, attends_, scratch.normed);
  residual_->normalise(pass, attends_, norm1_, read);
  const Tensor attended = residual_->output(pass, attends_);
  mixer_->forward(pass, mixer_input(pass, read, scratch), attended);
  mixed_dropout_.forward(pass, attended);
  if (pass.observer) pass.observer->after_attention(pass, layer_, read, attended);
  pass.show(attends_, Shown::kOutput, attended);
  residual_->add(pass, attends_);
  const Tensor mlp_reads = residual_->normed(pass, mlps_, scratch.normed);
  if (parallel_) normalise_parallel(pass, scratch);
  else residual_->normalise(pass, mlps_, norm2_, mlp_reads);
  const Tensor put_out = residual_->output(pass, mlps_);
  mlp_.forward(pass, mlp_reads, put_out);
  mlp_dropout_.forward(pass, put_out);
  if (pass.observer) pass.observer->after_mlp(pass, layer_, mlp_reads, put_out);
  pass.show(mlps_, Shown::kOutput, put_out);
  residual_->add(pass, mlps_);
}

// Of what the MLP would read a parallel block wants the sum alone; output and statistics are those of what attention
// has read.
void Block::normalise_parallel(const Pass& pass, const BlockScratch& scratch) const {
  if (const NormInput in = residual_->input(pass, mlps_); in.x) norm2_.ungated(pass, in, scratch.normed);
  norm2_.recompute(pass, residual_->stream_at(pass, attends_), scratch.normed);
  pass.show(mlps_, Shown::kNormed, scratch.normed);
}

// What the backward pass needs and the forward pass did not keep; leaves the second norm's output in scratch.normed.
// Returns what that has normalised.
Tensor Block::recompute(const Pass& learned, const BlockScratch& scratch) const {
  const Pass pass = learned.once_more();
  const bool whole = recompute_ == Recompute::kBlock;
  if (whole) {
    const Tensor read = residual_->normed(pass, attends_, scratch.normed);
    norm1_.recompute(pass, residual_->stream_at(pass, attends_), read);
    mixer_->forward(pass, mixer_input(pass, read, scratch), residual_->output(pass, attends_));
    mixed_dropout_.forward(pass, residual_->output(pass, attends_));
    residual_->add(pass, attends_);
    if (!parallel_) norm2_.forward(pass, residual_->input(pass, mlps_), scratch.normed);
  }
  const Tensor x = residual_->stream_at(pass, parallel_ ? attends_ : mlps_);
  if (parallel_ || !whole) norm2_.recompute(pass, x, scratch.normed);
  if (recompute_ != Recompute::kNone) mlp_.recompute(pass, scratch.normed);
  return x;
}

void Block::backward(const Pass& pass, const BlockScratch& scratch) const {
  const Tensor mlp_x = recompute(pass, scratch);
  const Tensor d_mlp = mlp_dropout_.backward(pass, residual_->d_output(pass, mlps_));
  mlp_.backward(pass, scratch.d_normed, d_mlp, scratch.normed, scratch.workspace);
  if (parallel_) return backward_parallel(pass, mlp_x, scratch);
  const Residual::Slope mlp_slope = residual_->d_input(pass, mlps_, scratch.d_normed);
  norm2_.backward(pass, mlp_slope.d_stream, mlp_slope.add, scratch.d_normed, mlp_x, scratch.workspace);
  residual_->backward(pass, mlps_, mlp_slope.d_stream);

  const Tensor x = mix_backward(pass, scratch.d_normed, scratch);
  const Residual::Slope slope = residual_->d_input(pass, attends_, scratch.d_normed);
  norm1_.backward(pass, slope.d_stream, slope.add, scratch.d_normed, x, scratch.workspace);
  residual_->backward(pass, attends_, slope.d_stream);
  embedded_backward(pass, scratch);
}

// Returns the stream that the mixer's norm has read; the statistics are those of it again.
Tensor Block::mix_backward(const Pass& pass, const Tensor& d_normed, const BlockScratch& scratch) const {
  const MixerInput in = mixer_input(pass, scratch.normed, scratch);
  const Tensor x = residual_->stream_at(pass, attends_);
  norm1_.recompute(pass, x, scratch.normed);
  const Tensor d_mixed = mixed_dropout_.backward(pass, residual_->d_output(pass, attends_));
  mixer_->backward(pass, {d_normed, scratch.d_embedded}, d_mixed, in, scratch.workspace);
  return x;
}

// The norm's parameters have their gradient from the stream already.
void Block::embedded_backward(const Pass& pass, const BlockScratch& scratch) const {
  if (!reads_embedding_) return;
  Pass more = pass;
  more.accumulate = true;
  const Tensor embedding = residual_->start(pass);
  norm1_.recompute(pass, embedding, scratch.embedded);
  norm1_.backward(more, scratch.d_embedding, !first_in_backward_, scratch.d_embedded, embedding, scratch.workspace);
}

// Neither norm may add to the stream's gradient before both parts have seen that of what they put out. `x` is what both
// have read, and scratch.d_normed the gradient at the second norm's output.
void Block::backward_parallel(const Pass& pass, const Tensor& x, const BlockScratch& scratch) const {
  const Tensor& d_attention_normed = scratch.delta;
  mix_backward(pass, d_attention_normed, scratch);
  const Residual::Slope slope = residual_->d_input(pass, attends_, d_attention_normed);
  norm2_.backward(pass, slope.d_stream, slope.add, scratch.d_normed, x, scratch.workspace);
  norm1_.backward(pass, slope.d_stream, true, d_attention_normed, x, scratch.workspace);
  residual_->backward(pass, attends_, slope.d_stream);
  embedded_backward(pass, scratch);
}

}  // namespace sluice
