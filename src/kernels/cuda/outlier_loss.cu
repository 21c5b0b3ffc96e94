// OutlierLoss on a GPU: blocks take the rows in turn, and one more block adds their sums up in order.
#include <algorithm>

#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/formulas/outlier_loss.h"
#include "kernels/ops/outlier_loss.h"

namespace sluice::cuda {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp;

template <class S>
__global__ void __launch_bounds__(kThreads) rows_kernel(float* partial, Rows<S> x, Rows<S> d_x, int64_t N, int64_t C,
                                                        float inverse, float grad_scale, bool vector) {
  float sum[1] = {};
  for (int64_t n = blockIdx.x; n < N; n += gridDim.x)
    for (int64_t c = int64_t(threadIdx.x) * kPack; c < C; c += int64_t(kThreads) * kPack) {
      const int count = pack_count(C, c);
      float value[kPack], d[kPack];
      load(value, x.at(n, c), count, vector);
      load(d, d_x.at(n, c), count, vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        if (i < count) sum[0] += outlier_value(value[i], inverse);
        d[i] += grad_scale * outlier_slope(value[i], inverse);
      }
      store(d_x.at(n, c), d, count, vector);
    }
  team_sums<kWarps>(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum[0];
}

}  // namespace

template <>
void on(const OutlierLoss& op, const Queue& queue) {
  const int64_t N = op.x.rows(), C = op.x.cols(), blocks = std::min(N, kMostPartialSums);
  if (blocks == 0) return;
  float* partial = static_cast<float*>(queue.scratch);
  with_element(view_of(op.x).element, [&](auto storage) {
    using S = decltype(storage);
    launch(rows_kernel<S>, dim3(unsigned(blocks)), dim3(kThreads), 0, queue.stream, partial, rows_of<S>(op.x),
           rows_of<S>(op.d_x), N, C, float(1 / op.limit), float(op.grad_scale),
           vectorizable(view_of(op.x)) && vectorizable(view_of(op.d_x)));
  });
  add_total(op.loss.as<float>(), partial, blocks, op.value_scale, queue.stream);
}

}  // namespace sluice::cuda
