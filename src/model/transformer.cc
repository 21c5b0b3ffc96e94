#include "model/transformer.h"

#include <algorithm>
#include <atomic>

#include "base/machine_memory.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/product_workspace.h"
#include "kernels/host_copy.h"
#include "model/config/residual_parts.h"
#include "model/module/rope_table.h"

namespace sluice {
namespace {

int64_t next_id() {
  static std::atomic<int64_t> count{0};
  return ++count;
}

}  // namespace

Declarations Transformer::declarations() {
  return {config_,
          backend_,
          options_.act,
          options_.max_batch + FixedStream::sequences_of(config_),
          Timeline{int(config_.layers)},
          params_,
          plan_,
          states_,
          averages_,
          losses_of_parts_,
          options_.recompute,
          rope_table_};
}

Transformer::Transformer(Backend& backend, const ModelConfig& config, const TransformerOptions& options)
    : backend_(backend), config_(config), options_(options), id_(next_id()) {
  const Lifetime always = {0, Timeline{int(config_.layers)}.end()};
  if (config_.position == Position::kRope)
    rope_table_ = plan_.declare("rope_table", "constants", {config_.rows(), config_.head_size()},
                                accumulator_of(options_.act), always);
  const Declarations d = declarations();
  const Timeline& time = d.timeline;
  const int64_t C = config_.width, N = d.max_tokens();
  const Init embedding = Init::normal(config_.init == InitialValues::kPytorch ? 1 : config_.init_std);
  token_embedding_ =
      params_.declare("embedding.token.weight", {config_.vocab_size, C}, embedding, DecayGroup::kEmbedding);
  if (config_.position == Position::kLearned)
    position_embedding_ =
        params_.declare("embedding.position.weight", {config_.context, C}, embedding, DecayGroup::kEmbedding);
  if (config_.segment_embedding)
    segment_embedding_ = params_.declare("embedding.segment.weight", {1, C}, embedding, DecayGroup::kEmbedding);
  registers_.emplace(d, embedding);
  stream_.emplace(d, embedding);
  dropout_keys_.emplace(d);
  embedding_dropout_.emplace(d, "embedding", config_.dropout.embedding);

  tokens_ = plan_.declare("tokens", "batch", {N}, DType::kI32, always);
  predictions_.emplace(d);
  losses_ = plan_.declare("losses", "batch", {N}, d.acc(), always);
  document_starts_ = plan_.declare("document_starts", "batch", {N}, DType::kI32, always);
  last_keys_.emplace(d);
  residual_ = config_.residual.part().make(d, config_.residual.options());
  for (int layer = 0; layer < int(config_.layers); ++layer) {
    params_.begin_section();
    blocks_.emplace_back(d, layer, *residual_);
  }
  params_.begin_section();
  head_.emplace(d, config_.tied_head ? token_embedding_ : ParamId{});
  residual_->declare(d, time.head_sublayer());
  d_normed_ = plan_.declare("d_normed", "gradients", {N, C}, options_.act, {time.head(), time.end()});
  normed_ = plan_.declare("normed", "scratch", {N, C}, options_.act, always);
  const bool delta_in_backward = options_.recompute == Recompute::kBlock || config_.parallel_residual;
  delta_ = plan_.declare("delta", "scratch", {N, C}, options_.act, {0, delta_in_backward ? time.end() : time.head()});
  residual_->set_scratch(delta_);
  int64_t widest = std::max({C, config_.mlp_up_width(), config_.head_bias ? config_.vocab_size : 0});
  for (const Block& block : blocks_) widest = std::max(widest, block.mixer().widest());
  workspace_ = plan_.declare("workspace", "scratch", {backend_.workspace<NormBackward>({widest})}, DType::kF32,
                             {time.head(), time.end()});

  if (const int last = last_reader_of_embedding(config_); last >= 0) {
    embedded_ = plan_.declare("embedded", "scratch", {N, C}, options_.act, always);
    const Lifetime back = {time.attention_backward(last), time.end()};
    d_embedded_ = plan_.declare("d_embedded", "gradients", {N, C}, options_.act, back);
    d_embedding_ = plan_.declare("d_embedding", "gradients", {N, C}, options_.act, back);
  }

  check(fixed_sequences() == 0 || (averages_.empty() && losses_of_parts_.list().empty()),
        "means over a micro-batch with a fixed stream: some part's averages_rows() does not say that it takes them");
  losses_of_parts_.declare_buffer(plan_, d.acc(), always);
  params_.lay_out(options_.decayed, options_.gradients);
  if (options_.gradients.passing) passing_gradients_.declare(plan_, params_, gradient_uses(time), d.acc());
  plan_.plan();
  if (!options_.allocate) return;
  if (backend_.traits().host_memory) require_memory(memory_need(), available_memory());
  using Grads = Params::Grads;
  params_.allocate(backend_, options_.act,
                   !options_.training           ? Grads::kNone
                   : options_.gradients.passing ? Grads::kAside
                                                : Grads::kOwn);
  averages_.allocate(backend_, d.acc());
  arena_ = Arena(backend_, plan_.total_bytes());
  if (rope_table_) {
    const MemoryPlan::Buffer& table = plan_.buffer(rope_table_);
    fill_rope_table(backend_, arena_.at(table.offset, table.dtype, table.shape), config_);
  }
  stream_->fill(backend_, plan_, arena_);
  passing_gradients_.place(plan_, arena_, params_);
}

MemoryNeed Transformer::memory_need() const {
  const DType acc = accumulator_of(options_.act);
  double bytes = double(size_of(acc)) + options_.state_per_parameter;
  if (options_.training && !options_.gradients.passing) bytes += double(size_of(acc));
  if (options_.act != acc) bytes += double(size_of(options_.act));
  MemoryNeed need = sluice::memory_need(params_, plan_, bytes, options_.batch_key);
  need.parameters += 2 * uint64_t(averages_.padded_count()) * size_of(acc);
  if (backend_.traits().host_memory) need.kernels = kPreparedProductBytes + product_workspace_bytes();
  return need;
}

std::vector<Lifetime> Transformer::gradient_uses(const Timeline& time) const {
  const int embedding = time.embedding_backward();
  std::vector<Lifetime> uses = {{config_.tied_head ? time.head() : embedding, embedding}};
  for (int layer = 0; layer < int(config_.layers); ++layer)
    uses.push_back({time.mlp_backward(layer), time.attention_backward(layer)});
  uses.push_back({time.head(), time.head()});
  return uses;
}

Pass Transformer::begin_pass(const Batch& tokens, bool accumulate, double grad_scale, const DecoderState* state) {
  check_le(tokens.B, options_.max_batch, "a micro-batch larger than planned");
  check_le(tokens.T, config_.context, "a sequence longer than the context");
  const int64_t earlier = state ? state->length() : 0;
  const Batch all = stream_->behind(tokens, std::max<int64_t>(earlier - registers_->count(), 0));
  const Batch batch = earlier > 0 ? all : registers_->before(all);
  Pass pass{.backend = backend_,
            .params = params_,
            .plan = plan_,
            .arena = arena_,
            .averages = averages_,
            .losses = losses_of_parts_,
            .batch = batch,
            .B = batch.B,
            .T = batch.T,
            .accumulate = accumulate,
            .hook = hook_,
            .state = state,
            .first_position = earlier,
            .share = grad_scale * double(tokens.predicted())};
  upload(pass, tokens_, batch.tokens);
  predictions_->upload(stream_->without(pass));
  if (batch.document_starts) {
    upload(pass, document_starts_, batch.document_starts);
    pass.first_key = per_token(pass, document_starts_);
  }
  pass.last_key = last_keys_->upload(pass);
  return pass;
}

void Transformer::begin_sums(const Pass& pass) {
  if (pass.accumulate) return;
  if (const BufferId losses = losses_of_parts_.buffer())
    backend_.run(Fill{pass.view(losses, plan_.buffer(losses).shape), 0});
  if (!averages_.empty()) backend_.run(Fill{averages_.all_observed(), 0});
}

BlockScratch Transformer::scratch(const Pass& pass) const {
  const auto of_tokens = [&](BufferId id) { return id ? pass.view(id, {pass.N(), config_.width}) : Tensor{}; };
  return {of_tokens(normed_),     of_tokens(delta_),
          of_tokens(d_normed_),   pass.view(workspace_, plan_.buffer(workspace_).shape),
          of_tokens(embedded_),   of_tokens(d_embedded_),
          of_tokens(d_embedding_)};
}

Tensor Transformer::stream_before(const Pass& pass, int64_t layer) const {
  return residual_->stream_at(pass, timeline().attention_sublayer(int(layer)));
}

void Transformer::upload(const Pass& pass, BufferId buffer, const int32_t* from) {
  backend_.upload(per_token(pass, buffer), from);
}

// Of the tokens of a sequence, [T - R, C] from the first one's position on, or absent.
Tensor Transformer::positions(const Pass& pass) const {
  const Tensor table = params_.value(position_embedding_);
  if (!table) return table;
  const int64_t first = std::max<int64_t>(pass.first_position - registers_->count(), 0);
  return table.row_range(first, pass.T - register_rows(registers(pass)));
}

// [R, C], absent where none come now.
Tensor Transformer::registers(const Pass& pass) const {
  return pass.first_position == 0 ? params_.value(registers_->rows()) : Tensor{};
}

void Transformer::run_forward(const Pass& pass, const AfterBlock& after_block) {
  const BlockScratch shared = scratch(pass);
  backend_.run(EmbeddingForward{residual_->start(pass), per_token(pass, tokens_), params_.value(token_embedding_),
                                positions(pass), pass.T, registers(pass), params_.value(segment_embedding_)});
  const int64_t first = std::max<int64_t>(pass.first_position - registers_->count(), 0);
  stream_->place(pass, residual_->start(pass), first, register_rows(registers(pass)));
  embedding_dropout_->forward(pass, residual_->start(pass));
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    blocks_[layer].forward(pass, shared);
    if (after_block) after_block(stream_->without(pass), int64_t(layer));
  }
  residual_->normalise(pass, timeline().head_sublayer(), head_->norm(), shared.normed);
}

template <class Body>
void Transformer::backward(const Pass& pass, Body body) const {
  const BlockScratch shared = scratch(pass);
  body(head_section(), [&] {
    const int head = timeline().head_sublayer();
    const Residual::Slope slope = residual_->d_input(pass, head, shared.d_normed);
    head_->norm().backward(pass, slope.d_stream, slope.add, shared.d_normed, residual_->stream_at(pass, head),
                           shared.workspace);
    residual_->backward(pass, head, slope.d_stream);
  });
  for (int layer = int(blocks_.size()); layer-- > 0;)
    body(layer + 1, [&] { blocks_[size_t(layer)].backward(pass, shared); });
  body(kEmbeddingSection, [&] { embedding_backward(pass); });
}

// A tied head has written the table's gradient already.
void Transformer::embedding_backward(const Pass& pass) const {
  const Tensor d_start = residual_->d_start(pass);
  if (d_embedding_) backend_.run(Accumulate{.out = d_start, .x = scratch(pass).d_embedding});
  stream_->stop(pass, d_start, register_rows(registers(pass)));
  embedding_dropout_->backward(pass, d_start);
  backend_.run(EmbeddingBackward{params_.grad(token_embedding_), params_.grad(position_embedding_), d_start,
                                 per_token(pass, tokens_), pass.T, pass.accumulate || config_.tied_head,
                                 pass.accumulate, params_.grad(registers_->rows())});
  if (segment_embedding_)
    backend_.run(BiasGradient{params_.grad(segment_embedding_), d_start, pass.accumulate, scratch(pass).workspace});
}

// A listener does work of its own between the sections, which no record holds.
void Transformer::learn_with(GradientListener& listener, const Pass& pass, const std::string& key,
                             const std::function<void()>& head_loss) {
  backend_.replay(key + " forward", [&] {
    begin_sums(pass);
    run_forward(pass);
  });
  // A tied table's gradient begins with the head's product.
  const auto is_begun = [&](int section) {
    return section == head_section() || (section == kEmbeddingSection && config_.tied_head);
  };
  for (const int section : {head_section(), kEmbeddingSection})
    if (is_begun(section)) listener.open(section);
  backend_.replay(key + " head", head_loss);
  backward(pass, [&](int section, const auto& ops) {
    if (!is_begun(section)) listener.open(section);
    backend_.replay(fmt::format("{} section {}", key, section), ops);
    listener.close(section);
  });
}

double Transformer::forward_backward(const Batch& batch, double grad_scale, bool accumulate, GradientListener* listener,
                                     const Draws& draws) {
  check(!hook_, "forward_backward: gradients are those of the model without a hook");
  Pass pass = begin_pass(batch, accumulate, grad_scale);
  pass.dropout_keys = dropout_keys_->upload(pass, draws);
  const Tensor losses = per_token(predictions_->of_head(stream_->without(pass)), losses_);
  const std::string key = fmt::format("model {} {}x{} of {} {} {} {}", id_, batch.B, losses.elements(), batch.T,
                                      grad_scale, accumulate, batch.document_starts != nullptr);
  const auto head = [&] { head_loss(pass, grad_scale); };
  if (listener) {
    learn_with(*listener, pass, key, head);
  } else {
    backend_.replay(key, [&] {
      begin_sums(pass);
      run_forward(pass);
      head();
      backward(pass, [](int, const auto& ops) { ops(); });
    });
  }
  return backend_.run(Sum{losses});
}

Tensor Transformer::head_loss(const Pass& pass, double grad_scale) {
  const Pass of_batch = stream_->without(pass), of_head = predictions_->of_head(of_batch);
  const BlockScratch shared = scratch(of_batch);
  const Tensor losses = per_token(of_head, losses_);
  const Tensor d_normed = grad_scale == 0 ? Tensor{} : shared.d_normed;
  head_->loss(of_head, losses, predictions_->gradient(of_batch, d_normed),
              predictions_->gather(of_batch, shared.normed), predictions_->targets(of_batch), grad_scale,
              shared.workspace);
  predictions_->spread(of_batch, d_normed);
  if (d_normed) stream_->clear(pass, scratch(pass).d_normed);
  return losses;
}

double Transformer::loss(const Batch& batch) { return backend_.run(Sum{head_loss(forward_pass(batch), 0)}); }

std::vector<double> Transformer::token_losses(const Batch& batch) {
  const Pass pass = forward_pass(batch);
  const std::vector<double> of_rows =
      predictions_->at_rows(stream_->without(pass), host_numbers(backend_, head_loss(pass, 0)));
  const auto rows = [&](int64_t b) { return of_rows.begin() + b * (batch.T + config_.registers); };
  std::vector<double> out;
  for (int64_t b = 0; b < batch.B; ++b) out.insert(out.end(), rows(b) + config_.registers, rows(b + 1));
  return out;
}

std::vector<double> Transformer::part_losses() const {
  if (!losses_of_parts_.buffer()) return {};
  const MemoryPlan::Buffer& all = plan_.buffer(losses_of_parts_.buffer());
  return host_numbers(backend_, arena_.at(all.offset, all.dtype, all.shape));
}

double Transformer::observe(const Batch& batch, double grad_scale, PassObserver& observer) {
  check(!hook_ || grad_scale == 0, "observe: gradients are those of the model without a hook");
  Pass pass = begin_pass(batch, false, grad_scale);
  BatchObserver of_batch(observer, *stream_);
  pass.observer = &of_batch;
  begin_sums(pass);
  run_forward(pass, [&](const Pass& now, int64_t layer) { observer.after_block(now, layer); });
  of_batch.after_forward(pass);
  const Tensor losses = head_loss(pass, grad_scale);
  if (grad_scale != 0) backward(pass, [](int, const auto& ops) { ops(); });
  return backend_.run(Sum{losses});
}

Pass Transformer::forward_pass(const Batch& batch, const AfterBlock& after_block) {
  const Pass pass = begin_pass(batch);
  run_forward(pass, after_block);
  return pass;
}

Pass Transformer::forward(const Batch& batch, const AfterBlock& after_block) {
  return stream_->without(forward_pass(batch, after_block));
}

Pass Transformer::extend(const Batch& batch, DecoderState& state) {
  check(config_.causal, "extend: rows that see both sides");
  check_eq(batch.B + fixed_sequences(), state.sequences(), "extend: sequences");
  check_le(std::max(state.length(), config_.registers) + batch.T, state.capacity(),
           "extend: tokens beyond the context");
  check(batch.T == 1 || state.length() == 0, "extend: several tokens at once go into an empty state only");
  const Pass pass = begin_pass(batch, false, 0, &state);
  run_forward(pass);
  state.extend(pass.T);
  return stream_->without(pass);
}

}  // namespace sluice
