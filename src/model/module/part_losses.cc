#include "model/module/part_losses.h"

#include <algorithm>

#include "base/error.h"

namespace sluice {

PartLossId PartLosses::declare(const std::string& name, double weight) {
  const auto same = std::find_if(list_.begin(), list_.end(), [&](const Loss& loss) { return loss.name == name; });
  if (same == list_.end()) {
    list_.push_back({name, weight});
    return {int(list_.size()) - 1};
  }
  check(same->weight == weight, "a part's loss is declared with two weights");
  return {int(same - list_.begin())};
}

void PartLosses::declare_buffer(MemoryPlan& plan, DType acc, Lifetime step) {
  if (!list_.empty()) buffer_ = plan.declare("part_losses", "batch", {int64_t(list_.size())}, acc, step);
}

}  // namespace sluice
