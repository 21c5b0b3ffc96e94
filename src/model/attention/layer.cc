#include "model/attention/layer.h"

#include <cmath>

#include "model/key_value_cache.h"

namespace sluice {

AttentionLayer::AttentionLayer(const Declarations& d, const std::string& name, int layer) : layer_(layer) {
  const ModelConfig& model = d.config;
  const AttentionConfig& attention = model.attention;
  const int64_t C = model.width, H = model.heads, KV = model.kv_heads, D = model.head_size(), N = d.max_tokens();
  spec_.shape = {d.max_batch, model.context, H, KV, D};
  spec_.score = attention.score.kind();
  spec_.constants = attention.score.constants(model.context);
  spec_.scale = 1.0 / std::sqrt(double(D));

  rope_table_ = d.rope_table;
  epsilon_ = model.norm_epsilon;
  qkv_ = d.linear(name + ".qkv", (H + 2 * KV) * D, C, false, {H * D, KV * D, KV * D});
  qkv_bias_ = d.linear_bias(name + ".qkv", (H + 2 * KV) * D, C, model.qkv_bias());
  output_ = d.linear(name + ".output", C, H * D, true, {C});
  output_bias_ = d.linear_bias(name + ".output", C, H * D, model.attention_output_bias());
  if (model.qk_norm) {
    q_gain_ = d.params.declare(name + ".q_norm.weight", {D}, Init::constant(1), DecayGroup::kNorm);
    k_gain_ = d.params.declare(name + ".k_norm.weight", {D}, Init::constant(1), DecayGroup::kNorm);
  }
  if (attention.key_bias || attention.key_value_bias)
    key_bias_ = d.params.declare(name + ".key_bias", {KV, D}, Init::normal(0.02), DecayGroup::kVector);
  if (attention.key_value_bias)
    value_bias_ = d.params.declare(name + ".value_bias", {KV, D}, Init::normal(0.02), DecayGroup::kVector);
  for (size_t i = 0; const LearnedPerHead& learned : attention.score.learned())
    learned_[i++] = d.params.declare(name + "." + learned.name, {H}, Init::constant(learned.initial), DecayGroup::kVector);
  if (attention.gate.present()) gate_.emplace(d, name + ".gate", layer);

  const auto kept = [&](const char* what, Shape shape) {
    return d.attention_activation(layer, name + what, "activations", shape, d.act);
  };
  const int back = d.timeline.attention_backward(layer);
  const auto scratch = [&](const char* what, Shape shape) {
    return d.plan.declare(name + what, "scratch", shape, d.act, {back, back});
  };
  qkv_buffer_ = kept(".qkv", {N, (H + 2 * KV) * D});
  // Normalised queries and keys are computed again for the backward pass: with a recomputed block already when it runs once
  // more, before the backward pass of its MLP.
  if (model.qk_norm) {
    const int again = d.recompute == Recompute::kBlock ? d.timeline.mlp_backward(layer) : back;
    normed_ = d.plan.declare(name + ".normed", "activations", {N, (H + KV) * D}, d.act,
                             {d.timeline.attention(layer), d.timeline.mlp(layer)}, Lifetime{again, back});
  }
  d_qkv_ = scratch(".d_qkv", {N, (H + 2 * KV) * D});
  heads_out_ = kept(".heads", {N, H * D});
  d_heads_ = scratch(".d_heads", {N, H * D});
  if (gate_ && gate_->at_source()) gated_values_ = kept(".gated_values", {N, KV * D});
  if (gate_ && !gate_->at_source()) gated_ = kept(".gated", {N, H * D});
  stats_ = d.attention_activation(layer, name + ".stats", "statistics", {2, d.max_batch, H, model.context}, d.acc());
  attention_workspace_ =
      d.plan.declare(name + ".workspace", "scratch", {d.backend.workspace<AttentionBackward>({spec_.shape, d.act})},
                     DType::kF32, {back, back});
}

Tensor AttentionLayer::qkv(const Pass& pass) const {
  const auto [B, T, H, KV, D] = spec_.shape;
  return pass.view(qkv_buffer_, {pass.N(), (H + 2 * KV) * D});
}

Tensor AttentionLayer::heads(const Pass& pass) const {
  const auto [B, T, H, KV, D] = spec_.shape;
  return normed_ ? pass.view(normed_, {pass.N(), (H + KV) * D}) : qkv(pass).columns(0, (H + KV) * D);
}

Tensor AttentionLayer::values(const Pass& pass) const {
  const auto [B, T, H, KV, D] = spec_.shape;
  return qkv(pass).columns((H + KV) * D, KV * D);
}

AttentionForward AttentionLayer::attention(const Pass& pass) const {
  const auto [B, T, H, KV, D] = spec_.shape;
  AttentionForward args;
  args.spec = spec_;
  args.spec.shape.B = pass.B;
  args.spec.shape.T = pass.T;
  args.q = heads(pass).columns(0, H * D);
  args.k = heads(pass).columns(H * D, KV * D);
  args.v = gated_values_ ? pass.view(gated_values_, {pass.N(), KV * D}) : values(pass);
  args.key_bias = pass.params.value(key_bias_);
  args.value_bias = pass.params.value(value_bias_);
  for (int i = 0; i < kMostLearned; ++i) args.learned.at[i] = pass.params.value(learned_[i]);
  args.first_key = pass.first_key;
  args.out = pass.view(heads_out_, {pass.N(), H * D});
  args.stats = pass.view(stats_, {2, pass.B, H, pass.T});
  return args;
}

Tensor AttentionLayer::gated(const Pass& pass) const {
  return pass.view(gated_ ? gated_ : heads_out_, {pass.N(), spec_.shape.H * spec_.shape.D});
}

// Rotary positions of queries and keys, which lie side by side. The learned key of a bias slot has neither norm nor position.
void AttentionLayer::turn(const Pass& pass, const Tensor& heads, bool inverse) const {
  if (!rope_table_) return;
  pass.backend.run(Rope{.x = heads,
                        .table = pass.view(rope_table_, pass.plan.buffer(rope_table_).shape),
                        .T = pass.T,
                        .first_position = pass.first_position,
                        .inverse = inverse});
}

void AttentionLayer::prepare_heads(const Pass& pass) const {
  const auto [B, T, H, KV, D] = spec_.shape;
  const Tensor to = heads(pass);
  if (normed_) {
    const auto normalise = [&](ParamId gain, int64_t first, int64_t count) {
      pass.backend.run(HeadNormForward{.epsilon = epsilon_,
                                       .x = qkv(pass).columns(first, count),
                                       .out = to.columns(first, count),
                                       .gain = pass.params.value(gain)});
    };
    normalise(q_gain_, 0, H * D);
    normalise(k_gain_, H * D, KV * D);
  }
  turn(pass, to, false);
}

void AttentionLayer::prepare_heads_backward(const Pass& pass, const Tensor& d_heads, const Tensor& workspace) const {
  const auto [B, T, H, KV, D] = spec_.shape;
  turn(pass, d_heads, true);
  if (!normed_) return;
  const auto differentiate = [&](ParamId gain, int64_t first, int64_t count) {
    const Tensor d = d_heads.columns(first, count);
    pass.backend.run(HeadNormBackward{.forward = {.epsilon = epsilon_,
                                                  .x = qkv(pass).columns(first, count),
                                                  .out = {},
                                                  .gain = pass.params.value(gain)},
                                      .d_out = d,
                                      .d_x = d,
                                      .d_gain = pass.params.grad(gain),
                                      .accumulate = pass.accumulate,
                                      .workspace = workspace});
  };
  differentiate(q_gain_, 0, H * D);
  differentiate(k_gain_, H * D, KV * D);
}

// Keys and values go into the cache as they are attended to: turned, gated at the source.
void AttentionLayer::attend(const Pass& pass, const AttentionForward& args) const {
  if (pass.cache) pass.cache->store(layer_, args.k, args.v);
  if (!pass.cache || pass.first_position == 0) return pass.backend.run(args);
  AttentionDecode step;
  step.spec = args.spec;
  step.spec.shape.T = pass.cache->capacity();
  step.length = pass.first_position + 1;
  step.q = args.q;
  step.k = pass.cache->keys(layer_);
  step.v = pass.cache->values(layer_);
  step.key_bias = args.key_bias;
  step.value_bias = args.value_bias;
  step.learned = args.learned;
  step.out = args.out;
  step.workspace = pass.cache->workspace();
  pass.backend.run(step);
}

void AttentionLayer::forward(const Pass& pass, const Tensor& x, const Tensor& out) const {
  const AttentionForward args = attention(pass);
  pass.linear(qkv(pass), x, qkv_, qkv_bias_);
  prepare_heads(pass);
  if (gate_) gate_->compute(pass, x, values(pass));
  if (gated_values_) gate_->apply(pass, args.v, values(pass));
  attend(pass, args);
  if (gated_) gate_->apply(pass, gated(pass), args.out);
  output(pass, out);
}

void AttentionLayer::output(const Pass& pass, const Tensor& out) const {
  pass.linear(out, gated(pass), output_, output_bias_);
}

void AttentionLayer::show_gradient(const Pass& pass, const Tensor& d_values, bool whole) const {
  if (pass.observer) pass.observer->value_gradient(pass, layer_, d_values, whole);
}

void AttentionLayer::backward(const Pass& pass, const Tensor& d_x, const Tensor& d_out, const Tensor& x,
                              const Tensor& workspace) const {
  const auto [B, T, H, KV, D] = spec_.shape;
  AttentionBackward args;
  args.forward = attention(pass);
  const Tensor d_qkv = pass.view(d_qkv_, {pass.N(), (H + 2 * KV) * D});
  const Tensor d_values = d_qkv.columns((H + KV) * D, KV * D);
  args.d_out = pass.view(d_heads_, {pass.N(), H * D});
  args.d_q = d_qkv.columns(0, H * D);
  args.d_k = d_qkv.columns(H * D, KV * D);
  args.d_v = d_values;
  args.d_key_bias = pass.params.grad(key_bias_);
  args.d_value_bias = pass.params.grad(value_bias_);
  for (int i = 0; i < kMostLearned; ++i) args.d_learned.at[i] = pass.params.grad(learned_[i]);
  args.accumulate = pass.accumulate;
  args.workspace = pass.view(attention_workspace_, {pass.plan.buffer(attention_workspace_).shape.elements()});

  if (normed_) prepare_heads(pass);
  pass.linear_backward(args.d_out, false, d_out, gated(pass), output_, output_bias_, workspace);
  if (gated_) gate_->backward(pass, args.d_out, args.d_out, args.forward.out);
  pass.backend.run(args);
  prepare_heads_backward(pass, d_qkv.columns(0, (H + KV) * D), workspace);
  if (gated_values_) gate_->backward(pass, d_values, d_values, values(pass));
  if (gate_ && gate_->reads_values()) {
    show_gradient(pass, d_values, false);
    gate_->backward_input(pass, d_values, values(pass), workspace);
  }
  show_gradient(pass, d_values, true);
  pass.linear_backward(d_x, false, d_qkv, x, qkv_, qkv_bias_, workspace);
  if (gate_ && !gate_->reads_values()) gate_->backward_input(pass, d_x, x, workspace);
}

}  // namespace sluice
