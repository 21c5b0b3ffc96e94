// Attention weights themselves, for pictures and statistics: the one place where a matrix of them is made.
#pragma once

#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "kernels/formulas/scores/score.h"
#include "model/attention/weights_view.h"

namespace sluice {

// One head of one sequence, in host memory. Rows of q and k lie `stride` floats apart.
struct HeadScores {
  const AttentionSpec& spec;
  const float* q;
  int64_t q_stride;
  const float* k;
  int64_t k_stride;
  const float* key_bias = nullptr;     // [D]: one more key that every query sees
  LearnedOfHead<double> learned = {};  // of the score function
  const int32_t* first_key = nullptr;  // [positions]: where each row's document begins; null: 0
};

// The weights of the first `positions` queries on their keys, in double precision from the formulas of the score
// function.
HeadWeights head_weights(const HeadScores& scores, int64_t positions);

// A copy in host memory of what a run's weights come from.
std::unique_ptr<HostWeights> read_tile_weights(Backend& backend, const AttentionForward& run);

// Whether the score function's weights are shares of one whole: see WeightsView.
bool is_normalised(ScoreKind kind);

}  // namespace sluice
