// Of rows that see both sides (model.causal = false): the last that each one sees, which its document's end says.
#pragma once

#include <vector>

#include "model/module/module.h"

namespace sluice {

class LastKeys {
 public:
  explicit LastKeys(const Declarations& d);
  // Of the pass's batch, [N] i32, uploaded; absent where the model is causal. See AttentionForward::last_key.
  Tensor upload(const Pass& pass);

 private:
  BufferId buffer_;
  std::vector<int32_t> keys_;
};

}  // namespace sluice
