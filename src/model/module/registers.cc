#include "model/module/registers.h"

#include <algorithm>

#include "base/error.h"

namespace sluice {
namespace {

constexpr int32_t kNone = kNoTarget;  // as a token, too: none

// Every T values of `from`, behind `count` that are none.
const int32_t* behind(int64_t count, const int32_t* from, const Batch& batch, std::vector<int32_t>& to) {
  if (!from) return nullptr;
  const int64_t rows = count + batch.T;
  to.assign(size_t(batch.B * rows), kNone);
  for (int64_t b = 0; b < batch.B; ++b) std::copy_n(from + b * batch.T, batch.T, to.begin() + b * rows + count);
  return to.data();
}

}  // namespace

Registers::Registers(const Declarations& d, const Init& initial) : count_(d.config.registers) {
  if (count_ > 0)
    rows_ = d.params.declare("embedding.register.weight", {count_, d.config.width}, initial, DecayGroup::kEmbedding);
}

Batch Registers::before(const Batch& batch) {
  if (count_ == 0) return batch;
  check(!batch.document_starts, "registers before masked documents");
  return {behind(count_, batch.tokens, batch, tokens_),
          behind(count_, batch.targets, batch, targets_),
          batch.B,
          count_ + batch.T,
          nullptr,
          batch.predictions};
}

}  // namespace sluice
