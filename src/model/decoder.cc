#include "model/decoder.h"

#include <algorithm>

namespace sluice {

Decoder::Decoder(Transformer& model, int64_t sequences)
    : model_(model),
      sequences_(sequences),
      state_(model.backend(), model.states(), sequences + model.fixed_sequences(), model.config().rows()),
      logits_(model.backend(), size_t(sequences * model.config().vocab_size) * size_of(accumulator_of(model.act()))) {}

Tensor Decoder::prefill(const int32_t* tokens, int64_t T) {
  state_.clear();
  return logits_of(model_.extend({tokens, nullptr, sequences_, T}, state_));
}

Tensor Decoder::step(const int32_t* tokens) {
  return logits_of(model_.extend({tokens, nullptr, sequences_, 1}, state_));
}

int64_t Decoder::length() const { return std::max<int64_t>(state_.length() - model_.config().registers, 0); }

Tensor Decoder::logits_of(const Pass& pass) {
  const Tensor logits = logits_.at(0, accumulator_of(model_.act()), {pass.B, model_.config().vocab_size});
  model_.for_last_logits(pass, [&](int64_t first, const Tensor& chunk) {
    model_.backend().run(Copy{logits.row_range(first, chunk.rows()), chunk});
  });
  return logits;
}

}  // namespace sluice
