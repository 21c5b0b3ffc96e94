// Losses that parts of a model add to the language model's: a balance of routed heads, a bound on large activations.
//
// Each has a name and a weight. What is learned is the sum of all; each is logged by itself, without its weight.
#pragma once

#include <string>
#include <vector>

#include "kernels/arena.h"

namespace sluice {

struct PartLossId {
  int index = -1;
  explicit operator bool() const { return index >= 0; }
};

class PartLosses {
 public:
  struct Loss {
    std::string name;
    double weight;
  };

  // Parts that give the same name (those of several layers) have one loss: their values add up. std::logic_error where
  // their weights differ.
  PartLossId declare(const std::string& name, double weight);
  // After all were declared: where a step's values lie.
  void declare_buffer(MemoryPlan& plan, DType acc, Lifetime step);

  const std::vector<Loss>& list() const { return list_; }
  double weight(PartLossId id) const { return list_[size_t(id.index)].weight; }
  BufferId buffer() const { return buffer_; }  // [losses] acc; absent where there are none

 private:
  std::vector<Loss> list_;
  BufferId buffer_;
};

}  // namespace sluice
