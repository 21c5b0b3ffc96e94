#include "model/attention/layer.h"

#include <algorithm>

#include "model/attention/two_sets.h"
#include "model/config/attention_parts.h"

namespace sluice {
namespace {

using Stages = std::vector<std::unique_ptr<Stage>>;

// Where stage `count` finds what it works on: what those before it made of `in`.
Tensor through(const Stages& stages, const Pass& pass, Tensor in, size_t count) {
  for (size_t i = 0; i < count; ++i) in = stages[i]->result(pass, in);
  return in;
}

Tensor through(const Stages& stages, const Pass& pass, const Tensor& in) {
  return through(stages, pass, in, stages.size());
}

void run(const Stages& stages, const Pass& pass, Tensor in, const StageReads& reads, size_t first = 0) {
  for (size_t i = 0; i < stages.size(); ++i) {
    if (i >= first) stages[i]->forward(pass, in, reads);
    in = stages[i]->result(pass, in);
  }
}

// From the gradient at the last one's result that at `in`.
Tensor run_back(const Stages& stages, const Pass& pass, Tensor d, const Tensor& in, const StageReads& reads,
                const Tensor& workspace) {
  for (size_t i = stages.size(); i-- > 0;)
    d = stages[i]->backward(pass, d, through(stages, pass, in, i), reads, workspace);
  return d;
}

// What each stage of the list hands on, in a layer whose output projection reads what `sizes` says; the projections'
// last.
std::vector<HeadSizes> sizes_along(const AttentionConfig& config, HeadSizes sizes) {
  std::vector<HeadSizes> out(attention_stages().size() + 1);
  for (size_t i = attention_stages().size(); i-- > 0;) {
    out[i] = sizes;
    const StageOptions* options = config.stage_options(i);
    if (options && options->present()) sizes = options->asks(sizes);
  }
  out.back() = sizes;
  return out;
}

}  // namespace

AttentionLayer::AttentionLayer(const Declarations& d, const std::string& name, int layer)
    : layer_(layer),
      sublayer_(d.timeline.attention_sublayer(layer)),
      projections_(d, name, layer, sizes_along(d.config.attention.of(layer), d.config.head_sizes()).back(),
                   d.config.head_sizes().result_columns(),
                   d.config.attention.of(layer).options<QkSourceOptions>().qk_source.type),
      heads_(d.config.heads),
      output_columns_(d.config.head_sizes().result_columns()) {
  make_parts(d, name, d.config.attention.of(layer));
  const int64_t N = d.max_tokens();
  const int back = d.timeline.attention_backward(layer);
  results_ = d.attention_activation(layer, name + ".heads", "activations", {N, sizes().result_columns()}, d.act);
  d_results_ = d.plan.declare(name + ".d_heads", "scratch", {N, output_columns_}, d.act, {back, back});
}

// In an order that never changes: parameters lie in memory, and their gradients are summed, as they are declared.
void AttentionLayer::make_parts(const Declarations& d, const std::string& name, const AttentionConfig& config) {
  const std::vector<HeadSizes> along = sizes_along(config, d.config.head_sizes());
  const auto make_stages = [&](bool on_queries_and_keys) {
    for (size_t i = 0; i < attention_stages().size(); ++i) {
      const StagePart& part = attention_stages()[i];
      if (part.on_queries_and_keys != on_queries_and_keys) continue;
      std::unique_ptr<Stage> stage = part.make({d, name, layer_, sizes(), along[i]}, config.stage_options(i));
      if (stage) stages_at(stage->seat()).push_back(std::move(stage));
    }
  };
  make_stages(true);
  const LayerPlace place = {d, name, layer_, sizes(), sizes()};
  core_ = sizes().H_q2 > 0 ? std::make_unique<TwoSets>(place, config.core_part(), config.core_options())
                           : config.core_part().make(place, config.core_options());
  make_stages(false);
  find_weights();
}

void AttentionLayer::find_weights() {
  weights_ = core_->weights();
  for_each_stage([&](const Stage& stage) {
    if (!weights_ || stage.keeps_weights()) return;
    views_.push_back(stage.weights(*weights_));
    weights_ = views_.back().get();
  });
}

AttentionLayer::Stages& AttentionLayer::stages_at(Stage::Seat seat) {
  return seat == Stage::Seat::kQueriesAndKeys ? on_queries_and_keys_
         : seat == Stage::Seat::kValues       ? on_values_
                                              : on_results_;
}

Heads AttentionLayer::heads(const Pass& pass) const {
  const Tensor qk = through(on_queries_and_keys_, pass, projections_.queries_and_keys(pass));
  return {.q = qk.columns(0, sizes().query_columns()),
          .k = qk.columns(sizes().query_columns(), sizes().key_columns()),
          .v = through(on_values_, pass, values(pass)),
          .out = pass.view(results_, {pass.N(), sizes().result_columns()})};
}

Heads AttentionLayer::gradients(const Pass& pass) const {
  const Tensor qk = projections_.d_queries_and_keys(pass);
  return {.q = qk.columns(0, sizes().query_columns()),
          .k = qk.columns(sizes().query_columns(), sizes().key_columns()),
          .v = projections_.d_values(pass),
          .out = {}};
}

Tensor AttentionLayer::results(const Pass& pass) const { return through(on_results_, pass, heads(pass).out); }

void AttentionLayer::forward(const Pass& pass, const MixerInput& in, const Tensor& out) const {
  const Tensor& x = in.x;
  projections_.forward(pass, in);
  run(on_queries_and_keys_, pass, projections_.queries_and_keys(pass), reads(pass, x));
  run(on_values_, pass, values(pass), reads(pass, x));
  Heads heads = this->heads(pass);
  heads.x = x;
  pass.show(sublayer_, Shown::kQueries, heads.q);
  pass.show(sublayer_, Shown::kKeys, heads.k);
  pass.show(sublayer_, Shown::kValues, heads.v);
  if (pass.state) core_->extend(pass, heads);
  else core_->forward(pass, heads);
  pass.show(sublayer_, Shown::kResults, heads.out);
  run(on_results_, pass, heads.out, reads(pass, x));
  projections_.output(pass, out, results(pass));
}

// From the first stage on whose result is gone.
void AttentionLayer::run_again(const Pass& pass, const Tensor& x) const {
  const auto gone = std::find_if(on_queries_and_keys_.begin(), on_queries_and_keys_.end(),
                                 [](const auto& stage) { return !stage->keeps_result(); });
  run(on_queries_and_keys_, pass.once_more(), projections_.queries_and_keys(pass), reads(pass, x),
      size_t(gone - on_queries_and_keys_.begin()));
}

void AttentionLayer::show_gradient(const Pass& pass, bool whole) const {
  if (pass.observer) pass.observer->value_gradient(pass, layer_, projections_.d_values(pass), whole);
}

void AttentionLayer::backward(const Pass& pass, const MixerInput& d_in, const Tensor& d_out, const MixerInput& in,
                              const Tensor& workspace) const {
  const Tensor &x = in.x, &d_x = d_in.x;
  run_again(pass, x);
  const StageReads read = reads(pass, x);
  const Heads heads = this->heads(pass);
  Heads d = gradients(pass);
  const Tensor d_results = pass.view(d_results_, {pass.N(), output_columns_});
  projections_.output_backward(pass, d_results, d_out, results(pass), workspace);
  d.out = run_back(on_results_, pass, d_results, heads.out, read, workspace);
  core_->backward(pass, heads, d);
  for_each_stage([&](const Stage& stage) {
    stage.backward_summed(pass, d.v);
    stage.backward_queries(pass, d.q, heads.q);
  });
  run_back(on_queries_and_keys_, pass, projections_.d_queries_and_keys(pass), projections_.queries_and_keys(pass), read,
           workspace);
  run_back(on_values_, pass, d.v, values(pass), read, workspace);

  if (reads_values()) show_gradient(pass, false);
  for_each_stage([&](const Stage& stage) { stage.backward_values(pass, d.v, values(pass), workspace); });
  show_gradient(pass, true);
  projections_.backward(pass, d_in, in, workspace);
  core_->backward_input(pass, d_x, x, workspace);
  for_each_stage([&](const Stage& stage) { stage.backward_input(pass, d_x, x, workspace); });
  if (pass.observer) pass.observer->input_gradient(pass, layer_, d_x);
}

const Stage* AttentionLayer::opener() const {
  const Stage* found = nullptr;
  for_each_stage([&](const Stage& stage) {
    const int64_t groups = stage.opening_groups();
    if (!found && groups > 0 && heads_ % groups == 0) found = &stage;
  });
  return found;
}

bool AttentionLayer::reads_values() const {
  bool found = false;
  for_each_stage([&](const Stage& stage) { found |= stage.reads_values(); });
  return found;
}

}  // namespace sluice
