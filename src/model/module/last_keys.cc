#include "model/module/last_keys.h"

namespace sluice {

LastKeys::LastKeys(const Declarations& d) {
  if (!d.config.causal)
    buffer_ = d.plan.declare("document_ends", "batch", {d.max_tokens()}, DType::kI32, {0, d.timeline.end()});
}

// From the end: where a row begins a document, the row before it is another's last.
Tensor LastKeys::upload(const Pass& pass) {
  if (!buffer_) return {};
  const int32_t* starts = pass.batch.document_starts;
  keys_.resize(size_t(pass.N()));
  for (int64_t n = pass.N(), last = 0; n-- > 0; keys_[size_t(n)] = int32_t(last)) {
    const int64_t i = n % pass.T;
    if (i == pass.T - 1 || (starts && starts[n + 1] == i + 1)) last = i;
  }
  const Tensor out = pass.view(buffer_, {pass.N()});
  pass.backend.upload(out, keys_.data());
  return out;
}

}  // namespace sluice
