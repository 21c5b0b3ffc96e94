#include "model/attention/cores/tiles.h"

#include <algorithm>

#include "base/error.h"
#include "model/attention/cores/gated_windows.h"
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

Tiles::Tiles(const LayerPlace& place, const TilesOptions& options, bool permuted, const Tiles* keeper)
    : sizes_(place.projected),
      sublayer_(place.d.timeline.attention_sublayer(place.layer)),
      dropout_(place.d, place.name + ".weights", place.d.config.dropout.attention) {
  const Declarations& d = place.d;
  const auto& [H, KV, D, D_v, H_q2] = sizes_;
  spec_.shape = shape_of(sizes_, d.max_batch, d.config.rows());
  spec_.score = options.score.kind();
  spec_.constants = options.score.constants({.context = d.config.context, .features = D});
  spec_.scale = options.score.scale(D);
  spec_.window = permuted ? 0 : options.window;

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
  keeps_rows_ = !keeper;
  rows_ = keeper ? keeper->rows_
                 : d.states.declare({d.config.rows(), sizes_.key_columns() + sizes_.value_columns()}, d.act);
  if (permuted) permuted_ = std::make_unique<PermutedRows>(place, options.slot_reach(), options.permutation_seed);
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
  args.last_key = pass.last_key;
  args.dropout = dropout_.mask(pass);
  args.out = heads.out;
  args.stats = pass.view(stats_, {2, pass.B, sizes_.H_q, pass.T});
  return args;
}

void Tiles::forward(const Pass& pass, const Heads& heads) const {
  if (pass.activations()) return attention_on_host(pass, sublayer_, arguments(pass, heads), slots());
  if (!permuted_) return pass.backend.run(arguments(pass, heads));
  permuted_->find_order(pass);
  const AttentionForward run = in_order(pass, heads, false);
  pass.backend.run(run);
  permuted_->put_back(pass, heads.out, run.out);
}

// The same of rows in their permuted order, in buffers of its own; of those that have run, their results too.
AttentionForward Tiles::in_order(const Pass& pass, const Heads& heads, bool has_run) const {
  AttentionForward args = arguments(pass, permuted_->ordered(pass, heads, has_run));
  args.first_key = {};
  args.order = permuted_->order(pass);
  return args;
}

void Tiles::backward(const Pass& pass, const Heads& heads, const Heads& d) const {
  AttentionBackward args;
  args.forward = permuted_ ? in_order(pass, heads, true) : arguments(pass, heads);
  const Heads gradients = permuted_ ? permuted_->ordered_gradients(pass, d.out) : d;
  args.d_out = gradients.out;
  args.d_q = gradients.q;
  args.d_k = gradients.k;
  args.d_v = gradients.v;
  args.d_key_bias = pass.params.grad(key_bias_);
  args.d_value_bias = pass.params.grad(value_bias_);
  for (int i = 0; i < kMostLearned; ++i) args.d_learned.at[i] = pass.params.grad(learned_[i]);
  args.accumulate = pass.accumulate;
  args.workspace = pass.view(workspace_, pass.plan.buffer(workspace_).shape);
  pass.backend.run(args);
  if (!permuted_) return;
  permuted_->put_back(pass, d.q, args.d_q);
  permuted_->put_back(pass, d.k, args.d_k);
  permuted_->put_back(pass, d.v, args.d_v);
}

void Tiles::extend(const Pass& pass, const Heads& heads) const {
  const Tensor rows = pass.state->view(rows_);
  const Tensor keys = rows.columns(0, sizes_.key_columns());
  const Tensor values = rows.columns(sizes_.key_columns(), sizes_.value_columns());
  if (keeps_rows_) {
    pass.state->append(keys, heads.k);
    pass.state->append(values, heads.v);
  }
  if (pass.first_position == 0) return forward(pass, heads);
  const PermutedRows::Kept all = {keys, values, pass.state->capacity()};
  if (!permuted_) return decode(pass, heads, all, pass.first_position + 1);
  const PermutedRows::Kept seen = permuted_->seen(pass, all);
  decode(pass, heads, seen, seen.rows);
}

// One token a sequence after `length` - 1 others, of the rows of each.
void Tiles::decode(const Pass& pass, const Heads& heads, const PermutedRows::Kept& kept, int64_t length) const {
  AttentionDecode step;
  step.spec = spec_;
  step.spec.shape.B = pass.B;
  step.spec.shape.T = kept.rows;
  step.length = length;
  step.q = heads.q;
  step.k = kept.k;
  step.v = kept.v;
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
  pass.backend.run(AttentionProbe{.forward = permuted_ ? in_order(pass, heads, true) : arguments(pass, heads),
                                  .sink_attention = first_weight,
                                  .sink_logit_gap = first_gap});
  if (!permuted_) return;
  permuted_->put_numbers_back(pass, first_weight);
  permuted_->put_numbers_back(pass, first_gap);
}

std::unique_ptr<HostWeights> Tiles::read(const Pass& pass, const Heads& heads) const {
  return read_tile_weights(pass.backend, arguments(pass, heads), slots());
}

// ---- in the list ----------------------------------------------------------------------------------------------------

CorePart tiles_core() {
  return {.name = "tiles",
          .summary = "dot products of queries and keys, made weights by a score function",
          .options = []() -> std::unique_ptr<CoreOptions> { return std::make_unique<TilesOptions>(); },
          .make = [](const LayerPlace& place, const CoreOptions& options) -> std::unique_ptr<Core> {
            const auto& tiles = static_cast<const TilesOptions&>(options);
            if (tiles.permuted == PermutedWindows::kGated) return std::make_unique<GatedWindows>(place, tiles);
            return std::make_unique<Tiles>(place, tiles, tiles.permuted == PermutedWindows::kAlone);
          },
          .in_python = true,
          .example = R"({"attention": {"core": "tiles"}})"};
}

}  // namespace sluice
