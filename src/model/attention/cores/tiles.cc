#include "model/attention/cores/tiles.h"

#include <algorithm>

#include "base/error.h"
#include "model/attention/cores/host_attention.h"
#include "model/attention/cores/tile_weights.h"
#include "model/attention/cores/tiles_options.h"

namespace sluice {
namespace {

AttentionShape shape_of(const HeadSizes& sizes, int64_t B, int64_t T) {
  if (std::max(sizes.D_qk, sizes.D_v) > kMaxHeadSize)
    throw UserError(
        "model.attention.core = tiles takes heads of at most {} features, but here a query has {} and a value {}",
        kMaxHeadSize, sizes.D_qk, sizes.D_v);
  return {.B = B, .T = T, .H = sizes.H_q, .KV = sizes.H_kv, .D_qk = sizes.D_qk, .D_v = sizes.D_v};
}

}  // namespace

Tiles::Tiles(const LayerPlace& place, const TilesOptions& options)
    : sizes_(place.projected), sublayer_(place.d.timeline.attention_sublayer(place.layer)) {
  const Declarations& d = place.d;
  const auto& [H, KV, D, D_v, H_q2] = sizes_;
  spec_.shape = shape_of(sizes_, d.max_batch, d.config.rows());
  spec_.score = options.score.kind();
  spec_.constants = options.score.constants({.context = d.config.context, .features = D});
  spec_.scale = options.score.scale(D);
  spec_.window = options.window;

  if (options.has_bias_key())
    key_bias_ = d.params.declare(place.name + ".key_bias", {KV, D}, Init::normal(0.02), DecayGroup::kVector);
  if (options.key_value_bias)
    value_bias_ = d.params.declare(place.name + ".value_bias", {KV, D_v}, Init::normal(0.02), DecayGroup::kVector);
  for (size_t i = 0; const LearnedPerHead& learned : options.score.learned())
    learned_[i++] =
        d.params.declare(place.name + "." + learned.name, {H}, Init::constant(learned.initial), DecayGroup::kVector);

  stats_ = d.attention_activation(place.layer, place.name + ".stats", "statistics",
                                  {2, d.max_batch, H, d.config.rows()}, d.acc());
  const int back = d.timeline.attention_backward(place.layer);
  workspace_ =
      d.plan.declare(place.name + ".workspace", "scratch",
                     {d.backend.workspace<AttentionBackward>({spec_.shape, d.act})}, DType::kF32, {back, back});
  rows_ = d.states.declare({d.config.rows(), sizes_.key_columns() + sizes_.value_columns()}, d.act);
  d.states.share_workspace([&backend = d.backend, act = d.act, shape = spec_.shape](int64_t sequences) {
    AttentionShape decoded = shape;
    decoded.B = sequences;
    return backend.workspace<AttentionDecode>({decoded, act});
  });
}

AttentionForward Tiles::arguments(const Pass& pass, const Heads& heads) const {
  AttentionForward args;
  args.spec = spec_;
  args.spec.shape.B = pass.B;
  args.spec.shape.T = pass.T;
  args.q = heads.q;
  args.k = heads.k;
  args.v = heads.v;
  args.key_bias = pass.params.value(key_bias_);
  args.value_bias = pass.params.value(value_bias_);
  for (int i = 0; i < kMostLearned; ++i) args.learned.at[i] = pass.params.value(learned_[i]);
  args.first_key = pass.first_key;
  args.out = heads.out;
  args.stats = pass.view(stats_, {2, pass.B, sizes_.H_q, pass.T});
  return args;
}

void Tiles::forward(const Pass& pass, const Heads& heads) const {
  const AttentionForward run = arguments(pass, heads);
  if (pass.activations()) attention_on_host(pass, sublayer_, run);
  else pass.backend.run(run);
}

void Tiles::backward(const Pass& pass, const Heads& heads, const Heads& d) const {
  AttentionBackward args;
  args.forward = arguments(pass, heads);
  args.d_out = d.out;
  args.d_q = d.q;
  args.d_k = d.k;
  args.d_v = d.v;
  args.d_key_bias = pass.params.grad(key_bias_);
  args.d_value_bias = pass.params.grad(value_bias_);
  for (int i = 0; i < kMostLearned; ++i) args.d_learned.at[i] = pass.params.grad(learned_[i]);
  args.accumulate = pass.accumulate;
  args.workspace = pass.view(workspace_, pass.plan.buffer(workspace_).shape);
  pass.backend.run(args);
}

void Tiles::extend(const Pass& pass, const Heads& heads) const {
  const Tensor rows = pass.state->view(rows_);
  const Tensor keys = rows.columns(0, sizes_.key_columns());
  const Tensor values = rows.columns(sizes_.key_columns(), sizes_.value_columns());
  pass.state->append(keys, heads.k);
  pass.state->append(values, heads.v);
  if (pass.first_position == 0) return forward(pass, heads);
  AttentionDecode step;
  step.spec = spec_;
  step.spec.shape.B = pass.B;
  step.spec.shape.T = pass.state->capacity();
  step.length = pass.first_position + 1;
  step.q = heads.q;
  step.k = keys;
  step.v = values;
  step.key_bias = pass.params.value(key_bias_);
  step.value_bias = pass.params.value(value_bias_);
  for (int i = 0; i < kMostLearned; ++i) step.learned.at[i] = pass.params.value(learned_[i]);
  step.out = heads.out;
  step.workspace = pass.state->workspace();
  pass.backend.run(step);
}

// ---- for instruments ------------------------------------------------------------------------------------------------

bool Tiles::normalised() const { return is_normalised(spec_.score); }

void Tiles::probe(const Pass& pass, const Heads& heads, const Tensor& first_weight, const Tensor& first_gap) const {
  pass.backend.run(
      AttentionProbe{.forward = arguments(pass, heads), .sink_attention = first_weight, .sink_logit_gap = first_gap});
}

std::unique_ptr<HostWeights> Tiles::read(const Pass& pass, const Heads& heads) const {
  return read_tile_weights(pass.backend, arguments(pass, heads));
}

// ---- in the list ----------------------------------------------------------------------------------------------------

CorePart tiles_core() {
  return {.name = "tiles",
          .summary = "dot products of queries and keys, made weights by a score function",
          .options = []() -> std::unique_ptr<CoreOptions> { return std::make_unique<TilesOptions>(); },
          .make = [](const LayerPlace& place, const CoreOptions& options) -> std::unique_ptr<Core> {
            return std::make_unique<Tiles>(place, static_cast<const TilesOptions&>(options));
          },
          .in_python = true,
          .example = R"({"attention": {"core": "tiles"}})"};
}

}  // namespace sluice
