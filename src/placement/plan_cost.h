// What a plan costs: seconds, bytes and tokens of each rank, and of the step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "placement/plan.h"

namespace sluice {

struct RankCost {
  int64_t tokens = 0;        // that lie on it: activations of so many are held
  int64_t foreign_keys = 0;  // tokens of others whose keys and values it is sent
  int64_t pairs = 0;         // score pairs
  double linear_seconds = 0, attention_seconds = 0;
  double sent = 0, received = 0;  // bytes, forward and backward

  double busy() const { return linear_seconds + attention_seconds; }
  double bytes() const { return sent > received ? sent : received; }
};

struct PlanCost {
  std::string name, title;
  std::vector<RankCost> ranks;
  int64_t moves = 0, unplaced = 0;
  double step_seconds = 0;  // until the last rank is done; without the optimizer and the exchange of gradients
  double idle_share = 0;    // of the ranks' time in which they compute nothing

  double max_over_mean(double (*of)(const RankCost&)) const;
  double pairs_max_over_mean() const;
  double busy_max_over_mean() const;
  double most_bytes() const;
  int64_t most_tokens() const;
  int64_t most_foreign_keys() const;
};

// Seconds of the step:
//   disaggregated  max(most linear + most attention, most bytes / bandwidth), for one half-batch is exchanged while the
//                  other is computed
//   others         most (linear + attention) of a rank + most bytes / bandwidth
PlanCost cost_of(const Plan& plan, const Pieces& pieces, const ModelWork& work, const Machine& machine);

}  // namespace sluice
