#include "model/module/dropout.h"

#include "base/name_hash.h"
#include "kernels/formulas/dropout.h"

namespace sluice {

DropoutKeys::DropoutKeys(const Declarations& d) {
  if (!d.config.dropout.any()) return;
  words_.resize(size_t(2 * d.max_batch));
  keys_ = d.plan.declare("dropout_keys", "batch", {d.max_batch, 2}, DType::kI32, {0, d.timeline.end()});
}

Tensor DropoutKeys::upload(const Pass& pass, const Draws& draws) {
  if (!keys_) return {};
  for (int64_t b = 0; b < pass.B; ++b) {
    const uint64_t key = dropout_key(draws.seed, uint64_t(draws.first_sequence + b));
    words_[size_t(2 * b)] = int32_t(uint32_t(key));
    words_[size_t(2 * b + 1)] = int32_t(uint32_t(key >> 32));
  }
  const Tensor keys = pass.view(keys_, {pass.B, 2});
  pass.backend.upload(keys, words_.data());
  return keys;
}

DropoutLayer::DropoutLayer(const Declarations& d, const std::string& name, double probability, int back)
    : probability_(probability), place_(name_hash(name)) {
  if (probability_ > 0 && back != kInPlace)
    d_dropped_ =
        d.plan.declare(name + ".d_dropped", "gradients", {d.max_tokens(), d.config.width}, d.act, {back, back});
}

DropoutMask DropoutLayer::mask(const Pass& pass) const {
  if (probability_ == 0 || !pass.dropout_keys) return {};
  return {pass.dropout_keys, place_, probability_};
}

void DropoutLayer::forward(const Pass& pass, const Tensor& x) const {
  if (const DropoutMask drawn = mask(pass)) pass.backend.run(Dropout{.out = x, .x = x, .mask = drawn});
}

Tensor DropoutLayer::backward(const Pass& pass, const Tensor& d) const {
  const DropoutMask drawn = mask(pass);
  if (!drawn) return d;
  const Tensor out = d_dropped_ ? pass.view(d_dropped_, {pass.N(), d.cols()}) : d;
  pass.backend.run(Dropout{.out = out, .x = d, .mask = drawn});
  return out;
}

}  // namespace sluice
