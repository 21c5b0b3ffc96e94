// What an attention op needs to know: sizes, the score function and its constants.
#pragma once

#include <cstdint>

namespace sluice {

// A score function, by its place in the list (kernels/formulas/scores/registry.h): softmax is the first.
enum class ScoreKind : uint8_t { kSoftmax };

// The constants of a score function in its own form, Score::Constants<double>: a block that whoever hands it on need
// not understand (pack_constants, constants_of in kernels/formulas/scores/score.h). Zeros for a function that has none.
struct ScoreConstants {
  alignas(8) unsigned char bytes[32] = {};
};

// A score function may learn up to so many numbers for each head.
inline constexpr int kMostLearned = 2;
// What the i-th of them is called; null where the function learns fewer.
const char* learned_name(ScoreKind kind, int i);

inline constexpr int64_t kMaxHeadSize = 256;

struct AttentionShape {
  int64_t B = 0, T = 0, H = 0, KV = 0,
          D = 0;  // batch, positions, query heads, key/value heads (KV divides H), head size
};

struct AttentionSpec {
  AttentionShape shape;
  ScoreKind score = ScoreKind::kSoftmax;
  ScoreConstants constants;
  double scale = 1;  // s_ij = scale * q_i . k_j, 1/sqrt(D) as a rule
};

}  // namespace sluice
