#include "model/head.h"

#include <algorithm>

namespace sluice {
namespace {

// Rows of a chunk: as many as fit `chunk_bytes`, in equal chunks of whole 64s.
int64_t rows_per_chunk(int64_t tokens, int64_t row_bytes, int64_t chunk_bytes) {
  const int64_t most = std::max<int64_t>(64, chunk_bytes / row_bytes);
  const int64_t chunks = (tokens + most - 1) / most;
  const int64_t rows = (tokens + chunks - 1) / chunks;
  return std::min(tokens, (rows + 63) / 64 * 64);
}

// Rows of whole cache lines, unless products want no gaps between them.
int64_t logits_stride(const Declarations& d) {
  const bool gapless = d.act == DType::kBF16 && d.backend.traits().gapless_bf16;
  return gapless ? d.config.vocab_size : (d.config.vocab_size + 31) / 32 * 32;
}

}  // namespace

Head::Head(const Declarations& d, ParamId tied)
    : norm_(d, "final_norm", {d.timeline.head(), d.timeline.head()}, {d.timeline.head(), d.timeline.head()}, false),
      weight_(tied ? tied : d.linear("head", d.config.vocab_size, d.config.width)),
      vocab_(d.config.vocab_size),
      stride_(logits_stride(d)),
      chunk_rows_(rows_per_chunk(d.max_tokens(), stride_ * int64_t(size_of(d.act)), d.backend.traits().chunk_bytes)),
      logits_(d.plan.declare("head.logits", "logits", {chunk_rows_, stride_}, d.act,
                             {d.timeline.head(), d.timeline.head()})) {
  if (d.config.head_bias)
    bias_ = d.params.declare("head.bias", {d.config.vocab_size}, Init::constant(0), DecayGroup::kVector);
  if (d.config.head_transform) transform_.emplace(d);
}

Tensor Head::chunk(const Pass& pass, int64_t rows) const {
  return pass.view(logits_, {rows, stride_}).columns(0, vocab_);
}

void Head::loss(const Pass& pass, const Tensor& losses, const Tensor& d_normed, const Tensor& normed,
                const Tensor& targets, double grad_scale, const Tensor& workspace) const {
  const Tensor x = input(pass, normed), d_x = transform_ ? transform_->d_result(pass) : d_normed;
  bool add = pass.accumulate;
  for_logits(pass, x, [&](int64_t first, const Tensor& logits) {
    const int64_t rows = logits.rows();
    const auto part = [&](const Tensor& of_rows) {
      return of_rows.reshaped({of_rows.elements(), 1}).row_range(first, rows).reshaped({rows});
    };
    pass.backend.run(CrossEntropy{part(losses), logits, part(targets), grad_scale});
    if (grad_scale == 0) return;
    pass.backend.run(
        Matmul{.out = d_x.row_range(first, rows), .a = logits, .b = pass.params.weight(weight_), .bias = {}});
    pass.backend.run(Matmul{.out = pass.params.grad(weight_),
                            .a = logits,
                            .b = x.row_range(first, rows),
                            .transpose_a = true,
                            .accumulate = add,
                            .bias = {}});
    if (bias_)
      pass.backend.run(
          BiasGradient{.d_bias = pass.params.grad(bias_), .d_out = logits, .accumulate = add, .workspace = workspace});
    add = true;
  });
  if (transform_ && grad_scale != 0) transform_->backward(pass, d_normed, normed, workspace);
}

}  // namespace sluice
