// What a model would take, compared with what the machine has before anything is allocated: a size that cannot fit is
// told with the buffer that is largest and the keys that set its size.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/arena.h"
#include "model/module/params.h"

namespace sluice {

struct MemoryNeed {
  uint64_t parameters = 0, buffers = 0;  // bytes: what has the parameters' sizes; what a step computes
  uint64_t kernels = 0;                  // what generates kernels keeps for itself
  std::string largest;                   // "block_0.mlp.hidden [8192,3072]", in the larger of the two
  double largest_bytes = 0;
  std::string keys;  // that set its size: "train.micro_batch, model.context or model.mlp_width"
  uint64_t bytes() const { return parameters + buffers + kernels; }
};

// `per_parameter`: bytes of a parameter with its gradient, state and copies. `batch_key` says what sets the sequences
// of a pass: "train.micro_batch", "--batch"; empty where nothing does. The plan must be made.
MemoryNeed memory_need(const Params& params, const MemoryPlan& plan, double per_parameter,
                       const std::string& batch_key);

// UserError where `processes` that need as much each find less than that `available`; 0: unknown.
void require_memory(const MemoryNeed& need, uint64_t available, int processes = 1);

}  // namespace sluice
