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

// How the features of attention's rows are cut into heads. Numbers, and nobody takes one of them for another: a stage
// may ask for more query heads than the model has, values may have another width than keys.
struct HeadSizes {
  int64_t H_q = 0, H_kv = 0;  // query heads; heads of keys and values, each shared by H_q / H_kv query heads
  int64_t D_qk = 0, D_v = 0;  // features of a query or a key, of a value
  // Query heads of a second set, which has H_kv keys of its own and the values of the first; it follows the first in
  // queries, keys and results. 0: there is none.
  int64_t H_q2 = 0;

  int64_t query_columns() const { return (H_q + H_q2) * D_qk; }
  int64_t key_columns() const { return (H_q2 > 0 ? 2 : 1) * H_kv * D_qk; }
  int64_t value_columns() const { return H_kv * D_v; }
  int64_t result_columns() const { return (H_q + H_q2) * D_v; }
  int64_t projected_columns() const { return query_columns() + key_columns() + value_columns(); }
};

struct AttentionShape {
  int64_t B = 0, T = 0, H = 0, KV = 0;  // batch, positions, query heads, key/value heads (KV divides H)
  int64_t D_qk = 0, D_v = 0;            // features of a query or key, of a value; neither above kMaxHeadSize

  HeadSizes heads() const { return {.H_q = H, .H_kv = KV, .D_qk = D_qk, .D_v = D_v}; }
};

// What attention is told of its rows where they are not in their sequence's order (AttentionForward::order).
enum class OrderPlane : uint8_t {
  kPlace,   // at which place of its sequence the row's token is
  kFirst,   // the first place that the row may see: where its document begins
  kBegin,   // the rows of its window, its own among them: from kBegin on,
  kEnd,     // up to, but not, kEnd. Neither ever decreases
  kLength,  // how many keys it sees
  kRow,     // of the token at this place: its row
  kSlot,    // of the token at this place: its slot in the permutation of all places (WindowOrder)
};
inline constexpr int64_t kOrderPlanes = 7;

struct AttentionSpec {
  AttentionShape shape;
  ScoreKind score = ScoreKind::kSoftmax;
  ScoreConstants constants;
  double scale = 1;    // s_ij = scale * q_i . k_j, 1/sqrt(D_qk) as a rule
  int64_t window = 0;  // row i sees keys j > i - window alone, its own always; 0: all up to its own
};

}  // namespace sluice
