#include "model/transformer.h"

namespace sluice {

Declarations Transformer::declarations() {
  return {config_, backend_, options_.act, options_.max_batch, Timeline{int(config_.layers)}, params_, plan_};
}

Transformer::Transformer(Backend& backend, const ModelConfig& config, const TransformerOptions& options)
    : backend_(backend), config_(config), options_(options) {
  const Declarations d = declarations();
  const Timeline& time = d.timeline;
  const int64_t C = config_.width, N = d.max_tokens();
  const Init embedding = config_.init == "gpt2" ? Init::normal(config_.init_std) : Init::normal(1);
  token_embedding_ =
      params_.declare("embedding.token.weight", {config_.vocab_size, C}, embedding, DecayGroup::kEmbedding);
  if (config_.position == "learned")
    position_embedding_ =
        params_.declare("embedding.position.weight", {config_.context, C}, embedding, DecayGroup::kEmbedding);

  const Lifetime always = {0, time.end()};
  tokens_ = plan_.declare("tokens", "batch", {N}, DType::kI32, always);
  targets_ = plan_.declare("targets", "batch", {N}, DType::kI32, always);
  losses_ = plan_.declare("losses", "batch", {N}, d.acc(), always);
  for (int layer = 0; layer < int(config_.layers); ++layer) blocks_.emplace_back(d, layer);
  head_.emplace(d, config_.tied_head ? token_embedding_ : ParamId{});
  final_residual_ = plan_.declare("final_residual", "residual", {N, C}, options_.act, {time.head(), time.head()});
  d_residual_ = plan_.declare("d_residual", "gradients", {N, C}, options_.act, {time.head(), time.end()});
  d_normed_ = plan_.declare("d_normed", "gradients", {N, C}, options_.act, {time.head(), time.end()});
  normed_ = plan_.declare("normed", "scratch", {N, C}, options_.act, always);
  delta_ = plan_.declare("delta", "scratch", {N, C}, options_.act, {0, time.head()});
  const int64_t widest = std::max({C, config_.mlp_width, (config_.heads + 2 * config_.kv_heads) * config_.head_size()});
  workspace_ =
      plan_.declare("workspace", "scratch", {backend_.norm_workspace(widest)}, DType::kF32, {time.head(), time.end()});

  plan_.plan();
  params_.allocate(backend_, options_.act, options_.decayed, options_.training);
  arena_ = Arena(backend_, plan_.total_bytes());
}

Pass Transformer::make_pass(int64_t B, int64_t T, bool accumulate) const {
  check_le(B, options_.max_batch, "a micro-batch larger than planned");
  check_le(T, config_.context, "a sequence longer than the context");
  return {backend_, params_, plan_, arena_, B, T, accumulate};
}

BlockScratch Transformer::scratch(const Pass& pass) const {
  const Shape shape = {pass.N(), config_.width};
  return {pass.view(normed_, shape), pass.view(delta_, shape), pass.view(d_normed_, shape),
          pass.view(workspace_, plan_.buffer(workspace_).shape)};
}

Tensor Transformer::final_residual(const Pass& pass) const {
  return pass.view(final_residual_, {pass.N(), config_.width});
}

Tensor Transformer::upload_tokens(const Pass& pass, BufferId buffer, const int32_t* from) {
  const Tensor out = pass.view(buffer, {pass.N()});
  backend_.upload(out, from);
  return out;
}

void Transformer::run_forward(const Pass& pass, const int32_t* tokens) {
  const BlockScratch shared = scratch(pass);
  Tensor x = blocks_.empty() ? final_residual(pass) : blocks_.front().input(pass);
  backend_.embedding_forward(x, upload_tokens(pass, tokens_, tokens), params_.value(token_embedding_),
                             params_.value(position_embedding_), pass.T);
  bool add_delta = false;
  for (const Block& block : blocks_) {
    block.forward(pass, x, add_delta, shared);
    x = block.mid(pass);
    add_delta = true;
  }
  head_->norm().forward(pass, x, shared.delta, final_residual(pass), shared.normed);
}

void Transformer::run_backward(const Pass& pass) {
  const BlockScratch shared = scratch(pass);
  const Tensor d_residual = pass.view(d_residual_, {pass.N(), config_.width});
  head_->norm().backward(pass, d_residual, false, shared.d_normed, final_residual(pass), shared.workspace);
  for (size_t layer = blocks_.size(); layer-- > 0;) blocks_[layer].backward(pass, d_residual, shared);
  // A tied head has written the table's gradient already.
  backend_.embedding_backward(params_.grad(token_embedding_), params_.grad(position_embedding_), d_residual,
                              pass.view(tokens_, {pass.N()}), pass.T, pass.accumulate || config_.tied_head, pass.accumulate);
}

double Transformer::forward_backward(const int32_t* tokens, const int32_t* targets, int64_t B, int64_t T,
                                     double grad_scale, bool accumulate) {
  const Pass pass = make_pass(B, T, accumulate);
  const BlockScratch shared = scratch(pass);
  const Tensor losses = pass.view(losses_, {pass.N()});
  run_forward(pass, tokens);
  head_->loss(pass, losses, shared.d_normed, shared.normed, upload_tokens(pass, targets_, targets), grad_scale);
  run_backward(pass);
  return backend_.sum(losses);
}

double Transformer::loss(const int32_t* tokens, const int32_t* targets, int64_t B, int64_t T) {
  const Pass pass = make_pass(B, T, false);
  const Tensor losses = pass.view(losses_, {pass.N()});
  run_forward(pass, tokens);
  head_->loss(pass, losses, Tensor{}, scratch(pass).normed, upload_tokens(pass, targets_, targets), 0);
  return backend_.sum(losses);
}

Pass Transformer::forward(const int32_t* tokens, int64_t B, int64_t T) {
  const Pass pass = make_pass(B, T, false);
  run_forward(pass, tokens);
  return pass;
}

}  // namespace sluice
