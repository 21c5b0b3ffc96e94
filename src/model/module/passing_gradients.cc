#include "model/module/passing_gradients.h"

#include <algorithm>
#include <string>

namespace sluice {

// A bucket's exchange goes on while the next one is computed.
void PassingGradients::declare(MemoryPlan& plan, const Params& params, const std::vector<Lifetime>& uses, DType acc) {
  std::vector<Lifetime> open(params.buckets().size(), uses.front());
  std::vector<bool> seen(open.size(), false);
  for (size_t section = 0; section < uses.size(); ++section) {
    const size_t bucket = size_t(params.bucket_of(int(section)));
    Lifetime& all = open[bucket];
    if (!seen[bucket]) all = uses[section];
    all = {std::min(all.first, uses[section].first), std::max(all.last, uses[section].last)};
    seen[bucket] = true;
  }
  for (size_t i = 0; i < open.size(); ++i)
    buffers_.push_back(plan.declare("gradients." + std::to_string(i), "gradients of parameters",
                                    {params.buckets()[i].size()}, acc,
                                    {open[i].first, i == 0 ? open[i].last : open[i - 1].last}));
}

void PassingGradients::place(const MemoryPlan& plan, const Arena& arena, Params& params) const {
  for (size_t i = 0; i < buffers_.size(); ++i) {
    const MemoryPlan::Buffer& buffer = plan.buffer(buffers_[i]);
    params.place_grads(int(i), arena.at(buffer.offset, buffer.dtype, buffer.shape));
  }
}

}  // namespace sluice
