#include "model/fixed_stream.h"

#include <algorithm>

#include "base/error.h"
#include "base/philox.h"
#include "model/config/qk_source.h"

namespace sluice {
namespace {

// What the batch has, and `value` in every row of one more sequence.
const int32_t* followed_by(int32_t value, const int32_t* from, const Batch& batch, std::vector<int32_t>& to) {
  if (!from) return nullptr;
  to.resize(size_t((batch.B + 1) * batch.T));
  std::fill(std::copy_n(from, batch.B * batch.T, to.begin()), to.end(), value);
  return to.data();
}

// The first of what ran.
Pass of_sequences(Pass pass, int64_t B) {
  pass.B = pass.batch.B = B;
  for (Tensor* keys : {&pass.first_key, &pass.last_key})
    if (*keys) *keys = Tensor(keys->data, keys->dtype, {pass.N()});
  return pass;
}

}  // namespace

int64_t FixedStream::sequences_of(const ModelConfig& model) { return fixed_stream_of(model) ? 1 : 0; }

FixedStream::FixedStream(const Declarations& d, const Init& embedding) : sequences_(sequences_of(d.config)) {
  if (sequences_ == 0) return;
  const QkSourceConfig& source = *fixed_stream_of(d.config);
  random_ = source.type == QkSource::kRandom;
  seed_ = source.seed;
  deviation_ = embedding.value;
  text_.assign(source.tokens.begin(), source.tokens.end());
  if (random_)
    rows_ = d.plan.declare("fixed_rows", "constants", {d.config.context, d.config.width}, d.act,
                           {d.timeline.embedding(), d.timeline.end()});
}

void FixedStream::fill(Backend& backend, const MemoryPlan& plan, const Arena& arena) const {
  if (sequences_ == 0) return;
  if (!random_ && text_.empty())
    throw UserError(
        "model.attention.qk_source.tokens are not there: they are the text that all queries and keys are made of");
  if (!random_) return;
  const MemoryPlan::Buffer& rows = plan.buffer(rows_);
  backend.run(RandomNormal{.out = arena.at(rows.offset, rows.dtype, rows.shape),
                           .seed = seed_,
                           .stream = uint64_t(Stream::kFixedRows),
                           .mean = 0,
                           .deviation = deviation_});
}

// Random rows take the place of a token that is some token.
Batch FixedStream::behind(const Batch& batch, int64_t first) {
  if (sequences_ == 0) return batch;
  const Batch out = {.tokens = followed_by(0, batch.tokens, batch, tokens_),
                     .targets = followed_by(kNoTarget, batch.targets, batch, targets_),
                     .B = batch.B + 1,
                     .T = batch.T,
                     .document_starts = followed_by(0, batch.document_starts, batch, starts_),
                     .predictions = batch.predictions};
  if (!random_) std::copy_n(text_.begin() + first, batch.T, tokens_.end() - batch.T);
  return out;
}

void FixedStream::place(const Pass& pass, const Tensor& start, int64_t first, int64_t registers) const {
  if (!random_) return;
  const int64_t count = pass.T - registers;
  const Tensor rows = pass.view(rows_, pass.plan.buffer(rows_).shape);
  pass.backend.run(Copy{.out = start.row_range(pass.N() - count, count), .x = rows.row_range(first, count)});
}

void FixedStream::stop(const Pass& pass, const Tensor& d_start, int64_t registers) const {
  const int64_t count = pass.T - registers;
  if (random_) pass.backend.run(Fill{d_start.row_range(pass.N() - count, count), 0});
}

void FixedStream::clear(const Pass& pass, const Tensor& x) const {
  const int64_t count = sequences_ * pass.T;
  if (count > 0) pass.backend.run(Fill{x.row_range(pass.N() - count, count), 0});
}

Pass FixedStream::without(const Pass& pass) const { return of_sequences(pass, pass.B - sequences_); }

Pass FixedStream::with(const Pass& pass) const { return of_sequences(pass, pass.B + sequences_); }

}  // namespace sluice
