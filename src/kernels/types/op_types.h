// The choices and numbers that ops take besides tensors.
#pragma once

#include <cstdint>

namespace sluice {

enum class Norm : uint8_t { kLayerNorm, kRmsNorm };
enum class Activation : uint8_t { kRelu, kGelu, kReluSquared, kGeluErf, kSilu };  // gelu: the tanh form of GPT-2
enum class GateGrain : uint8_t { kHead, kElement };
enum class GateActivation : uint8_t { kSigmoid, kNone };

struct AdamWStep {
  double lr, beta1, beta2, epsilon;
  int64_t step;           // 1 for the first update: bias correction
  double grad_scale = 1;  // clipping
};

struct SgdStep {
  double lr, momentum;
  double grad_scale = 1;
};

}  // namespace sluice
