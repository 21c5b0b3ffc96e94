// A view of everything that a forward run makes, for those who simulate what it would be in few digits: each tensor is
// shown when it is whole and before anything reads it, and may be changed in place.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/types/tensor.h"

namespace sluice {

struct Pass;

enum class Shown : uint8_t {
  kStream,  // what a sublayer's norm reads, with what the one before has put out
  kNormed,  // what the norm makes of it
  kQueries,
  kKeys,
  kValues,  // as the core takes them
  kScores,
  kWeights,  // of the core's rows on the keys they see, on the host
  kResults,  // of the core
  kActive,   // of an MLP's activation function, or that of the head's transform
  kOutput,   // what a sublayer puts out, or the head's transform
};

struct ActivationPlace {
  int sublayer;  // Timeline's
  Shown what;
  auto operator<=>(const ActivationPlace&) const = default;
};

class ActivationHook {
 public:
  virtual ~ActivationHook() = default;
  // [N, C] of the activations' type, strided.
  virtual void tensor(const Pass& pass, const ActivationPlace& place, const Tensor& x) = 0;
  // Of one row of one head; one thread asks at a time, rows in their order.
  virtual void row(const Pass& pass, const ActivationPlace& place, std::span<double> x) = 0;
};

}  // namespace sluice
