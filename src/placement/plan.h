// How a step's tokens and their attention are spread over ranks: four plans of one step.
//
//   fixed          ranks take equal stretches of the row of pieces, as they come
//   variable       each piece goes whole to the rank that has the least work (WLB-LLM, arXiv 2503.17924)
//   per_document   every piece is cut over all ranks, a stretch from its head and one from its tail for each
//   disaggregated  tokens lie as in `fixed`, but for attention rows go to ranks that have less of it than the mean
//                  (core attention disaggregation: DistCA, arXiv 2510.18121)
//
// All do the same work: each row of each piece lies on one rank, and is attended from on one rank.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "placement/work.h"

namespace sluice {

struct RankRows {
  std::vector<Rows> resident;  // whose linear layers the rank computes
  std::vector<Rows> attended;  // whose attention it computes; not used where Plan::at_home
};

struct Plan {
  std::string name, title;
  std::vector<RankRows> ranks;
  bool at_home = true;         // rows are attended from where they lie
  bool gathers = false;        // a rank with rows of a piece gets all its keys, also those it does not read
  bool disaggregated = false;  // attention is a phase of its own, whose exchanges run beside computation (ping-pong)
  int64_t moves = 0;           // stretches of rows that are attended from elsewhere
  int64_t unplaced = 0;        // pieces that went beyond PlanLimits::most_tokens

  const std::vector<Rows>& attended(size_t rank) const { return at_home ? ranks[rank].resident : ranks[rank].attended; }
};

struct PlanLimits {
  int64_t ranks = 0;
  double tolerance = 0.1;   // disaggregated: of the mean, by how much a rank's pairs may differ from it
  int64_t block = 128;      // disaggregated: rows that move at once, from each end
  int64_t most_tokens = 0;  // variable: that a rank holds, while others have room; 0: any number
};

// `pieces` have a multiple of `ranks` rows.
Plan plan_fixed(const Pieces& pieces, const PlanLimits& limits);
Plan plan_variable(const Pieces& pieces, const PlanLimits& limits, const ModelWork& work, const Machine& machine);
Plan plan_per_document(const Pieces& pieces, const PlanLimits& limits);
Plan plan_disaggregated(const Pieces& pieces, const PlanLimits& limits, const ModelWork& work);

// In this order.
std::vector<Plan> make_plans(const Pieces& pieces, const PlanLimits& limits, const ModelWork& work,
                             const Machine& machine);

}  // namespace sluice
