// Attention weights themselves, for pictures: the one place where a matrix of them is made.
#pragma once

#include <vector>

#include "kernels/backend.h"

namespace sluice {

// Rows i < positions of the first sequence: the weights of query i on keys 0 .. i, in double precision from the
// formulas of the score function. A key bias takes part in the normalisation and is not shown.
std::vector<std::vector<double>> attention_weights(Backend& backend, const AttentionForward& run, int64_t head,
                                                   int64_t positions);

}  // namespace sluice
