// A fixed sequence that runs beside those of every batch, as the last of a pass: its queries and keys are those of all
// sequences in layers whose attention.qk_source says so (stages/queries_and_keys/qk_source.h). It begins with random
// rows or with the tokens of a text, and nothing is predicted there. Who looks at a pass from outside the model sees
// the batch's sequences alone.
#pragma once

#include <vector>

#include "base/batch.h"
#include "model/module/module.h"

namespace sluice {

class FixedStream {
 public:
  // Declares the random rows, which are distributed as `embedding` says; nothing in a model without a stream.
  FixedStream(const Declarations& d, const Init& embedding);
  // How many sequences there are behind a batch's, of a model: 0 or 1.
  static int64_t sequences_of(const ModelConfig& model);

  // Draws the random rows. UserError where a text has no tokens.
  void fill(Backend& backend, const MemoryPlan& plan, const Arena& arena) const;
  // The batch with the stream's rows of the same positions behind it; `first` is that of the batch's first token. Valid
  // until the next call.
  Batch behind(const Batch& batch, int64_t first);
  // Random rows in the place of the stream's tokens at `start` [N, C], from position `first` on and behind `registers`
  // rows; and no gradient there.
  void place(const Pass& pass, const Tensor& start, int64_t first, int64_t registers) const;
  void stop(const Pass& pass, const Tensor& d_start, int64_t registers) const;
  // Zeros in the stream's rows of x [N, C].
  void clear(const Pass& pass, const Tensor& x) const;

  // The pass as the batch has it, and as it ran.
  Pass without(const Pass& pass) const;
  Pass with(const Pass& pass) const;

 private:
  int64_t sequences_;
  double deviation_ = 0;
  uint64_t seed_ = 0;
  bool random_ = false;
  std::vector<int32_t> text_;
  BufferId rows_;  // [context, C], of a random stream
  std::vector<int32_t> tokens_, targets_, starts_;
};

// Shows an observer the batch's sequences.
class BatchObserver final : public PassObserver {
 public:
  BatchObserver(PassObserver& to, const FixedStream& stream) : to_(to), stream_(stream) {}

  void after_block(const Pass& pass, int64_t layer) override { to_.after_block(stream_.without(pass), layer); }
  void after_attention(const Pass& pass, int64_t layer, const Tensor& normed, const Tensor& output) override {
    const Pass shown = stream_.without(pass);
    to_.after_attention(shown, layer, rows(shown, normed), rows(shown, output));
  }
  void after_mlp(const Pass& pass, int64_t layer, const Tensor& normed, const Tensor& output) override {
    const Pass shown = stream_.without(pass);
    to_.after_mlp(shown, layer, rows(shown, normed), rows(shown, output));
  }
  void after_forward(const Pass& pass) override { to_.after_forward(stream_.without(pass)); }
  void value_gradient(const Pass& pass, int64_t layer, const Tensor& d_values, bool whole) override {
    const Pass shown = stream_.without(pass);
    to_.value_gradient(shown, layer, rows(shown, d_values), whole);
  }
  void input_gradient(const Pass& pass, int64_t layer, const Tensor& d_input) override {
    const Pass shown = stream_.without(pass);
    to_.input_gradient(shown, layer, rows(shown, d_input));
  }

 private:
  static Tensor rows(const Pass& shown, const Tensor& x) { return x.row_range(0, shown.N()); }

  PassObserver& to_;
  const FixedStream& stream_;
};

}  // namespace sluice
