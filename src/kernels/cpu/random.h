// Filling host tensors with a constant or with counted random numbers (base/philox.h).
//
// Element i takes word i % 4 of the draw at position i / 4; a normal number takes its pair of words, (0, 1) or (2, 3),
// and is the cosine or the sine partner of it. So a value depends on (seed, stream, i) alone.
#pragma once

#include "kernels/types/tensor.h"

namespace sluice {

void cpu_fill(const Tensor& out, double value);
void cpu_random_uniform(const Tensor& out, uint64_t seed, uint64_t stream, double low, double high);
void cpu_random_normal(const Tensor& out, uint64_t seed, uint64_t stream, double mean, double deviation);

}  // namespace sluice
