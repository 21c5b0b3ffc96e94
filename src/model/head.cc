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

}  // namespace

Head::Head(const Declarations& d, ParamId tied)
    : norm_(d, "final_norm", {d.timeline.head(), d.timeline.head()}, {d.timeline.head(), d.timeline.head()}, false),
      weight_(tied ? tied : d.linear("head", d.config.vocab_size, d.config.width)),
      vocab_(d.config.vocab_size),
      stride_((d.config.vocab_size + 31) / 32 * 32),  // whole cache lines a row
      chunk_rows_(rows_per_chunk(d.max_tokens(), stride_ * int64_t(size_of(d.act)), d.backend.traits().chunk_bytes)),
      logits_(d.plan.declare("head.logits", "logits", {chunk_rows_, stride_}, d.act,
                             {d.timeline.head(), d.timeline.head()})) {}

Tensor Head::chunk(const Pass& pass, int64_t rows) const {
  return pass.view(logits_, {rows, stride_}).columns(0, vocab_);
}

void Head::loss(const Pass& pass, const Tensor& losses, const Tensor& d_normed, const Tensor& normed,
                const Tensor& targets, double grad_scale) const {
  bool add = pass.accumulate;
  for_logits(pass, normed, [&](int64_t first, const Tensor& logits) {
    const int64_t rows = logits.rows();
    const auto part = [&](const Tensor& x) {
      return x.reshaped({x.elements(), 1}).row_range(first, rows).reshaped({rows});
    };
    pass.backend.run(CrossEntropy{part(losses), logits, part(targets), grad_scale});
    if (grad_scale == 0) return;
    pass.backend.run(
        Matmul{.out = d_normed.row_range(first, rows), .a = logits, .b = pass.params.weight(weight_), .bias = {}});
    pass.backend.run(Matmul{.out = pass.params.grad(weight_),
                            .a = logits,
                            .b = normed.row_range(first, rows),
                            .transpose_a = true,
                            .accumulate = add,
                            .bias = {}});
    add = true;
  });
}

}  // namespace sluice
