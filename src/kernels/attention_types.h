// What an attention op needs to know: sizes, the score function and its constants.
#pragma once

#include <cstdint>

namespace sluice {

// The score functions in the order of the registry (kernels/formulas/scores/registry.h).
enum class ScoreKind : uint8_t {
  kSoftmax, kSoftmaxPlusOne, kSinkLogit, kSigmoid, kRelu, kClippedSoftmax, kSoftpick, kCount
};

// Constants of a score function; each function reads its own.
struct ScoreConstants {
  double bias = 0;                   // sigmoid: added to every score
  bool bias_minus_log_length = false;  // sigmoid: also adds -log(i + 1) at row i
  double gamma = 0, zeta = 1;        // clipped_softmax: the stretch
  double epsilon = 1e-8;             // softpick: added to the denominator
};

inline constexpr int64_t kMaxHeadSize = 256;

struct AttentionShape {
  int64_t B = 0, T = 0, H = 0, KV = 0, D = 0;  // batch, positions, query heads, key/value heads (KV divides H), head size
};

struct AttentionSpec {
  AttentionShape shape;
  ScoreKind score = ScoreKind::kSoftmax;
  ScoreConstants constants;
  double scale = 1;  // s_ij = scale * q_i . k_j, 1/sqrt(D) as a rule
};

}  // namespace sluice
