// Gradients that lie among a step's buffers, each bucket's from its first use until the next one closes: memory for all
// of them is never there at once.
#pragma once

#include <vector>

#include "kernels/arena.h"
#include "model/module/params.h"

namespace sluice {

class PassingGradients {
 public:
  // After Params::lay_out(). uses: of every section, from the first op that writes one of its gradients to the last.
  void declare(MemoryPlan& plan, const Params& params, const std::vector<Lifetime>& uses, DType acc);
  // After plan.plan() and Params::allocate().
  void place(const MemoryPlan& plan, const Arena& arena, Params& params) const;

 private:
  std::vector<BufferId> buffers_;  // of each bucket
};

}  // namespace sluice
