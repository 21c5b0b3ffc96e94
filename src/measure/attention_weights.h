// Attention weights themselves, for pictures and statistics: the one place where a matrix of them is made.
#pragma once

#include <vector>

#include "kernels/backend.h"
#include "kernels/formulas/scores/score.h"

namespace sluice {

// One head of one sequence, in host memory. Rows of q and k lie `stride` floats apart.
struct HeadScores {
  const AttentionSpec& spec;
  const float* q;
  int64_t q_stride;
  const float* k;
  int64_t k_stride;
  const float* key_bias = nullptr;  // [D]: one more key that every query sees
  LearnedOfHead<double> learned = {};  // of the score function
  const int32_t* first_key = nullptr;  // [positions]: the first key that each row sees; null: 0
};

struct HeadWeights {
  std::vector<double> rows;      // [T, T], zeros above the diagonal and on keys that a row does not see
  std::vector<double> key_bias;  // [T]: the weight on the extra key; empty without one
};

// The weights of the first `positions` queries on their keys, in double precision from the formulas of the score function.
HeadWeights head_weights(const HeadScores& scores, int64_t positions);

// What the score function learned for each head, on the host.
class LearnedOnHost {
 public:
  LearnedOnHost(Backend& backend, const LearnedTensors& learned);
  LearnedOfHead<double> of(int64_t head) const;

 private:
  std::vector<float> values_[kMostLearned];  // [H], or empty
};

// Rows i < positions of the first sequence: the weights of query i on keys 0 .. i. A key bias takes part in the
// normalisation and is not shown.
std::vector<std::vector<double>> attention_weights(Backend& backend, const AttentionForward& run, int64_t head,
                                                   int64_t positions);

// Whether a row's weights are shares of one whole (the score function's kNormalised). Where each depends on its own score
// alone, metrics that speak of shares take |a_ij| / sum_j |a_ij| instead (arXiv 2410.10781).
bool is_normalised(ScoreKind kind);

}  // namespace sluice
