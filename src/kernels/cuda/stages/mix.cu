// Mixes on a GPU. In the backward pass a block has a chunk of rows, and its share of the learned shares' gradients lies
// in the workspace [chunk][x, y].
#include "kernels/ops/stages/mix.h"

#include <algorithm>

#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/reduce.cuh"

namespace sluice::cuda {
namespace {

struct Shares {
  const float *x, *y;  // learned, or null
  float x_fixed, y_fixed;
  __device__ __forceinline__ float of_x() const { return x ? *x : x_fixed; }
  __device__ __forceinline__ float of_y() const { return y ? *y : y_fixed; }
};

Shares shares_of(const MixShares& shares) {
  return {floats(shares.x), floats(shares.y), float(shares.x_fixed), float(shares.y_fixed)};
}

template <class S>
struct Mix {
  Shares shares;
  Rows<S> out, x, y;
  bool vector;
  __device__ void operator()(int64_t row, int64_t col, int count) const {
    const float a = shares.of_x(), b = shares.of_y();
    float v[kPack], w[kPack];
    load(v, x.at(row, col), count, vector);
    load(w, y.at(row, col), count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = a * v[i] + b * w[i];
    store(out.at(row, col), v, count, vector);
  }
};

template <class S>
struct MixGradient {
  Shares shares;
  Rows<S> x, y, d_out, d_x, d_y;
  int64_t rows, cols;
  bool add_to_d_y, vector;

  // Adds d . x and d . y of a pack to sums.
  __device__ __forceinline__ void at(int64_t row, int64_t col, float (&sums)[2]) const {
    const int count = pack_count(cols, col);
    const float a = shares.of_x(), b = shares.of_y();
    float d[kPack], v[kPack], w[kPack];
    load(d, d_out.at(row, col), count, vector);
    load(v, x.at(row, col), count, vector);
    load(w, y.at(row, col), count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) sums[0] += d[i] * v[i], sums[1] += d[i] * w[i];
#pragma unroll
    for (int i = 0; i < kPack; ++i) w[i] = b * d[i], d[i] = a * d[i];
    if (add_to_d_y) {
      load(v, d_y.at(row, col), count, vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) w[i] += v[i];
    }
    store(d_y.at(row, col), w, count, vector);
    store(d_x.at(row, col), d, count, vector);
  }
};

constexpr int kMixWarps = 8;

template <class S>
__global__ void __launch_bounds__(kMixWarps* kWarp) mix_backward_kernel(MixGradient<S> op, float* partial) {
  const int64_t first = op.rows * blockIdx.x / gridDim.x, end = op.rows * (blockIdx.x + 1) / gridDim.x;
  const int64_t packs = (op.cols + kPack - 1) / kPack;
  float sums[2] = {0, 0};
  for (int64_t i = threadIdx.x; i < (end - first) * packs; i += kMixWarps * kWarp) {
    const int64_t row = quotient(i, packs);
    op.at(first + row, (i - row * packs) * kPack, sums);
  }
  if (!partial) return;
  team_sums<kMixWarps>(sums);
  if (threadIdx.x == 0) partial[2 * blockIdx.x] = sums[0], partial[2 * blockIdx.x + 1] = sums[1];
}

}  // namespace

template <>
void on(const MixForward& op, const Queue& queue) {
  const View x = view_of(op.x), y = view_of(op.y), out = view_of(op.out);
  with_element(x.element, [&](auto storage) {
    using S = decltype(storage);
    map(x.rows, x.cols, flat(x) && flat(y) && flat(out), queue.stream,
        Mix<S>{shares_of(op.shares), rows_of<S>(out), rows_of<S>(x), rows_of<S>(y),
               vectorizable(x) && vectorizable(y) && vectorizable(out)});
  });
}

template <>
void on(const MixBackward& op, const Queue& queue) {
  const View x = view_of(op.forward.x), y = view_of(op.forward.y), d_out = view_of(op.d_out);
  const View d_x = view_of(op.d_x), d_y = view_of(op.d_y);
  if (x.rows == 0) return;
  const bool learned = bool(op.forward.shares.x);
  float* partial = learned ? floats(op.workspace) : nullptr;
  const int64_t chunks = std::min(kRowChunks, x.rows);
  with_element(x.element, [&](auto storage) {
    using S = decltype(storage);
    const bool vector =
        vectorizable(x) && vectorizable(y) && vectorizable(d_out) && vectorizable(d_x) && vectorizable(d_y);
    const MixGradient<S> gradient = {shares_of(op.forward.shares),
                                     rows_of<S>(x),
                                     rows_of<S>(y),
                                     rows_of<S>(d_out),
                                     rows_of<S>(d_x),
                                     rows_of<S>(d_y),
                                     x.rows,
                                     x.cols,
                                     op.add_to_d_y,
                                     vector};
    launch(mix_backward_kernel<S>, dim3(unsigned(chunks)), dim3(kMixWarps * kWarp), 0, queue.stream, gradient, partial);
  });
  if (learned)
    add_chunks(floats(op.d_x_share), floats(op.d_y_share), partial, 2, chunks, 1, op.accumulate, queue.stream);
}

}  // namespace sluice::cuda
