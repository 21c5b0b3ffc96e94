// Sinks at other positions than the first, and how many a sequence has: what ACT (ICML 2024) calls attention sinks, a
// position k of a head with a mean weight alpha_k above 0.1, over the rows that see it. Counted over k <= T/2, as the
// sink rates are (sink_candidates).
#pragma once

#include "measure/figures/figure.h"

namespace sluice {

inline constexpr double kLaterSinkThreshold = 0.1;

std::vector<HeadFigure> later_sinks();

}  // namespace sluice
