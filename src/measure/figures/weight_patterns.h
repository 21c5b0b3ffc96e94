// The shape of a head's attention matrix A, T rows (arXiv 2510.11602): concentration, its Frobenius norm, from
// sqrt(1 + 1/2 + .. + 1/T) of uniform softmax attention to sqrt(T) of rows that look at one key each; and local focus
// at distance N, 0 to 3: the mean over the rows i >= N of a_(i, i-N). Weights are shares of their rows
// (WeightRows::unit); a row of zeros counts.
#pragma once

#include "measure/figures/figure.h"

namespace sluice {

std::vector<HeadFigure> weight_patterns();

}  // namespace sluice
