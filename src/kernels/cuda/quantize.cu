// Simulated quantization, elementwise, and the ranges of rows, a warp each.
#include "kernels/formulas/quantize.h"

#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/ops/quantize.h"

namespace sluice::cuda {
namespace {

template <class S>
struct QuantizeRows {
  Rows<S> out, x;
  const float* scale;
  bool per_row, vector;
  float low, high;
  __device__ void operator()(int64_t row, int64_t col, int count) const {
    const QuantizationGrid<float> grid = quantization_grid(scale[per_row ? row : 0], low, high);
    float v[kPack];
    load(v, x.at(row, col), count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = fake_quantized(v[i], grid);
    store(out.at(row, col), v, count, vector);
  }
};

constexpr int kRangeThreads = 256;

// x - x is 0 for finite x and NaN for all others: their sum spoils both ends.
template <class S>
__global__ void __launch_bounds__(kRangeThreads)
    row_ranges_kernel(float* out, Rows<S> x, int64_t rows, int64_t cols, bool vector) {
  const int64_t row = (int64_t(blockIdx.x) * kRangeThreads + threadIdx.x) / kWarp;
  const int lane = int(threadIdx.x % kWarp);
  const bool valid = row < rows;
  float least = 0, greatest = 0, spoilt = 0;
  if (valid) {
    least = greatest = load_one(x.at(row, 0));
    for (int64_t col = int64_t(lane) * kPack; col < cols; col += kWarp * kPack) {
      float v[kPack];
      const int count = pack_count(cols, col);
      load(v, x.at(row, col), count, vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        if (i >= count) continue;
        least = v[i] < least ? v[i] : least;
        greatest = v[i] > greatest ? v[i] : greatest;
        spoilt += v[i] - v[i];
      }
    }
  }
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const float low = __shfl_xor_sync(kAllLanes, least, step), high = __shfl_xor_sync(kAllLanes, greatest, step);
    least = low < least ? low : least;
    greatest = high > greatest ? high : greatest;
  }
  spoilt = warp_sum(spoilt);
  if (!valid || lane > 0) return;
  out[2 * row] = least + spoilt;
  out[2 * row + 1] = greatest + spoilt;
}

}  // namespace

template <>
void on(const FakeQuantize& op, const Queue& queue) {
  const View x = view_of(op.x), out = view_of(op.out);
  const bool per_row = op.scale.elements() > 1;
  with_element(x.element, [&](auto storage) {
    using S = decltype(storage);
    map(x.rows, x.cols, !per_row && flat(x) && flat(out), queue.stream,
        QuantizeRows<S>{rows_of<S>(out), rows_of<S>(x), floats(op.scale), per_row, vectorizable(x) && vectorizable(out),
                        float(op.low), float(op.high)});
  });
}

template <>
void on(const RowRanges& op, const Queue& queue) {
  const View x = view_of(op.x);
  const int64_t blocks = (x.rows * kWarp + kRangeThreads - 1) / kRangeThreads;
  if (blocks == 0) return;
  with_element(x.element, [&](auto storage) {
    using S = decltype(storage);
    launch(row_ranges_kernel<S>, dim3(unsigned(blocks)), dim3(kRangeThreads), 0, queue.stream, floats(op.out),
           rows_of<S>(x), x.rows, x.cols, vectorizable(x));
  });
}

}  // namespace sluice::cuda
