// MovingAverage: one update of an exponential moving average, of what parts of a model keep without training it.
// Conventions: kernels/ops.h.
#pragma once

#include "kernels/types/tensor.h"

namespace sluice {

// average = keep * average + (1 - keep) * x
struct MovingAverage {
  static constexpr const char* kName = "moving_average";
  Tensor average;  // [n] acc
  Tensor x;        // [n] acc
  double keep = 0;
  void for_tensors(auto f) { f(average), f(x); }
  void check() const;
};

}  // namespace sluice
