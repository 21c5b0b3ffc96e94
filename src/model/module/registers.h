// Register tokens (arXiv 2309.16588): learned rows before every sequence's tokens.
#pragma once

#include <vector>

#include "base/batch.h"
#include "model/module/module.h"

namespace sluice {

class Registers {
 public:
  // Declares a parameter [R, C] that begins as embeddings do, unless the model has none.
  Registers(const Declarations& d, const Init& initial);

  int64_t count() const { return count_; }
  ParamId rows() const { return rows_; }  // [R, C]
  // The batch with room for them before every sequence: negative tokens, nothing to predict. Valid until the next call.
  Batch before(const Batch& batch);

 private:
  int64_t count_;
  ParamId rows_;
  std::vector<int32_t> tokens_, targets_;
};

}  // namespace sluice
