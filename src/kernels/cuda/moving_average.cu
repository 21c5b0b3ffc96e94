// MovingAverage on a GPU.
#include "kernels/ops/moving_average.h"

#include "kernels/cuda/packs.cuh"

namespace sluice::cuda {
namespace {

struct Average {
  float* average;
  const float* x;
  float keep, add;
  bool vector;
  __device__ void operator()(int64_t, int64_t at, int count) const {
    float old[kPack], now[kPack];
    load(old, average + at, count, vector);
    load(now, x + at, count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) old[i] = keep * old[i] + add * now[i];
    store(average + at, old, count, vector);
  }
};

}  // namespace

template <>
void on(const MovingAverage& op, const Queue& queue) {
  map(1, op.average.elements(), true, queue.stream,
      Average{floats(op.average), floats(op.x), float(op.keep), float(1 - op.keep),
              aligned(op.average.data) && aligned(op.x.data)});
}

}  // namespace sluice::cuda
