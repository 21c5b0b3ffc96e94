// Dropout in a pass of learning: by what its masks are drawn, and the places where values are dropped. All other passes
// have none: losses, probes, decoding and what an observer is shown are those of the whole model.
#pragma once

#include <string>
#include <vector>

#include "kernels/ops/dropout.h"
#include "model/module/module.h"

namespace sluice {

// A mask depends on the run's seed and its sequence's number alone, not on the micro-batch, the rank or the step at
// which it is drawn again.
struct Draws {
  uint64_t seed = 0;
  int64_t first_sequence = 0;  // number of the micro-batch's first sequence in the training data
};

// The keys of a micro-batch's sequences.
class DropoutKeys {
 public:
  explicit DropoutKeys(const Declarations& d);
  // [B, 2] i32, uploaded; absent in a model that drops nothing.
  Tensor upload(const Pass& pass, const Draws& draws);

 private:
  BufferId keys_;
  std::vector<int32_t> words_;
};

// One place, of which the mask is told by its name.
class DropoutLayer {
 public:
  // Where `back` is given, a tick of the backward pass, gradients are not dropped in place, but go to a buffer [N, C].
  DropoutLayer(const Declarations& d, const std::string& name, double probability, int back = kInPlace);

  // x = m x / (1 - p), [N, C], in a pass that draws.
  void forward(const Pass& pass, const Tensor& x) const;
  // The gradient before it, from that behind it; of a pass that does not draw, d itself.
  Tensor backward(const Pass& pass, const Tensor& d) const;
  // For ops that drop on their own; none in a pass that does not draw.
  DropoutMask mask(const Pass& pass) const;

 private:
  static constexpr int kInPlace = -1;

  double probability_;
  uint32_t place_;
  BufferId d_dropped_;
};

}  // namespace sluice
