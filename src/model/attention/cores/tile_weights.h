// Attention weights themselves, for pictures and statistics: the one place where a matrix of them is made.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "kernels/formulas/scores/score.h"
#include "model/attention/weights_view.h"

namespace sluice {

// Windows of a permutation: two positions see one another where their slots are less than `reach` apart. Without slots
// all do.
struct SlotWindows {
  const std::vector<int32_t>* slots = nullptr;
  int64_t reach = 0;
  bool join(int64_t i, int64_t j) const {
    return !slots || std::abs((*slots)[size_t(i)] - (*slots)[size_t(j)]) < reach;
  }
};

// One head of one sequence, in host memory. Rows of q and k lie `stride` numbers apart.
struct HeadScores {
  const AttentionSpec& spec;
  const double* q;
  int64_t q_stride;
  const double* k;
  int64_t k_stride;
  const double* key_bias = nullptr;    // [D]: one more key that every query sees
  LearnedOfHead<double> learned = {};  // of the score function
  const int32_t* first_key = nullptr;  // [positions]: the first key of each row's document; null: 0
  const int32_t* last_key = nullptr;   // and the last; null: the row's own
  SlotWindows slots = {};              // of the keys from the first on a row sees those that these join with it
  // The first key that a row sees: of its document, and of its window.
  int64_t first_of(int64_t row) const {
    const int64_t document = first_key ? first_key[row] : 0;
    return spec.window > 0 ? std::max(document, row - spec.window + 1) : document;
  }
  // Behind the last one.
  int64_t end_of(int64_t row) const {
    if (!last_key) return row + 1;
    return spec.window > 0 ? std::min<int64_t>(last_key[row] + 1, row + spec.window) : last_key[row] + 1;
  }
};

// A copy in host memory of what a run's scores and weights come from.
class HostTiles {
 public:
  // `run` has its rows in their sequences' order, whatever order the kernels are given them in for `slots`.
  HostTiles(Backend& backend, const AttentionForward& run, const SlotWindows& slots = {});
  HeadScores head(int64_t sequence, int64_t head) const;  // as long as this lives
  int64_t positions() const { return spec_.shape.T; }

 private:
  AttentionSpec spec_;
  SlotWindows slots_;
  std::vector<double> q_, k_, key_bias_;
  std::vector<double> learned_[kMostLearned];  // [H], or empty
  std::vector<int32_t> first_key_, last_key_;  // [N]
};

// The scores of the first `positions` queries on the keys from their first on, where their weights will be.
HeadWeights head_scores(const HeadScores& head, int64_t positions);
// Of row i of these: the numbers of the keys that it sees, and such numbers into it, with 0 on what it does not see.
std::vector<double> seen_of(const HeadScores& head, const double* row, int64_t i);
void put_seen(const HeadScores& head, const std::vector<double>& seen, double* row, int64_t i);
// From them the weights, in double precision from the formulas of the score function; 0 on what a row does not see.
void weigh(const HeadScores& head, int64_t positions, HeadWeights& scores);

std::unique_ptr<HostWeights> read_tile_weights(Backend& backend, const AttentionForward& run,
                                               const SlotWindows& slots = {});

// Whether the score function's weights are shares of one whole: see WeightsView.
bool is_normalised(ScoreKind kind);

}  // namespace sluice
