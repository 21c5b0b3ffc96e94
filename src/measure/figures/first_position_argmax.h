// The share of queries whose largest attention weight is on position 0: how often a head does nothing but look at the
// sink, whatever the weight (arXiv 2410.10781 looks at the mean weight instead). Queries that see position 0 alone are
// left out, and so are those whose window does not reach it and rows without any weight; a larger weight on a key that
// is no token is not on position 0.
#pragma once

#include "measure/figures/figure.h"

namespace sluice {

HeadFigure first_position_argmax();

}  // namespace sluice
