// Causal means on a GPU. A block has 32 columns of a sequence, a lane each, and its warps cut the rows into chunks:
// each sums its own from the last start of a document on, and then walks over it again with what the others carry in.
// The gradient is the same from the last row to the first.
#include "kernels/ops/stages/prefix_mean.h"

#include "kernels/cuda/packs.cuh"
#include "kernels/formulas/prefix_mean.h"

namespace sluice::cuda {
namespace {

constexpr int kWarps = 8;

struct Sequence {
  const int32_t* first_key;  // or null
  int64_t T, first_position;
  double divisor;

  __device__ __forceinline__ int64_t start(int64_t b, int64_t t) const { return first_key ? first_key[b * T + t] : 0; }
  __device__ __forceinline__ float share(int64_t b, int64_t t) const {
    return prefix_share<float>(first_position + t, start(b, t), divisor);
  }
  // Whether nothing of the row above, or of what was before all rows, belongs to row t.
  __device__ __forceinline__ bool starts(int64_t b, int64_t t) const {
    return t == 0 ? first_position == 0 : start(b, t) == t;
  }
};

// What a warp carries on to those behind it: a column's sum from the last start on, and whether there was one.
struct Carry {
  float sum[kWarps][kWarp];
  bool cut[kWarps];
};

template <class S>
struct Forward {
  Sequence in;
  Rows<S> x, out;
  float* sums;  // [B, C], or null
  int64_t C;

  __device__ __forceinline__ int64_t row(int64_t i) const { return i; }
  __device__ __forceinline__ bool starts(int64_t b, int64_t t) const { return in.starts(b, t); }
  __device__ __forceinline__ float term(int64_t b, int64_t t, int64_t c) const {
    return load_one(x.at(b * in.T + t, c));
  }
  __device__ __forceinline__ float before(int64_t b, int64_t c) const {
    return in.first_position > 0 ? sums[b * C + c] : 0.0f;
  }
  __device__ __forceinline__ void put(int64_t b, int64_t t, int64_t c, float sum) const {
    store_one(out.at(b * in.T + t, c), in.share(b, t) * sum);
  }
  __device__ __forceinline__ void after(int64_t b, int64_t c, float sum) const {
    if (sums) sums[b * C + c] = sum;
  }
};

template <class S>
struct Backward {
  Sequence in;
  Rows<S> d_out, d_x;
  int64_t C;

  __device__ __forceinline__ int64_t row(int64_t i) const { return in.T - 1 - i; }
  // From behind: row t is the last of its document.
  __device__ __forceinline__ bool starts(int64_t b, int64_t t) const { return t == in.T - 1 || in.starts(b, t + 1); }
  __device__ __forceinline__ float term(int64_t b, int64_t t, int64_t c) const {
    return in.share(b, t) * load_one(d_out.at(b * in.T + t, c));
  }
  __device__ __forceinline__ float before(int64_t, int64_t) const { return 0.0f; }
  __device__ __forceinline__ void put(int64_t b, int64_t t, int64_t c, float sum) const {
    S* to = d_x.at(b * in.T + t, c);
    store_one(to, load_one(to) + sum);
  }
  __device__ __forceinline__ void after(int64_t, int64_t, float) const {}
};

// blockIdx.x counts sequences and, within one, strips of columns.
template <class Op>
__global__ void __launch_bounds__(kWarps* kWarp) scan_kernel(int64_t strips, Op op) {
  __shared__ Carry carry;
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  const int64_t T = op.in.T, b = blockIdx.x / strips, c = (blockIdx.x - b * strips) * kWarp + lane;
  const int64_t first = T * warp / kWarps, end = T * (warp + 1) / kWarps;
  const bool valid = c < op.C;
  float sum = 0, carried = valid ? op.before(b, c) : 0.0f;
  bool cut = false;
#pragma unroll 4
  for (int64_t i = first; i < end; ++i) {
    const int64_t t = op.row(i);
    if (op.starts(b, t)) sum = 0, cut = true;
    if (valid) sum += op.term(b, t, c);
  }
  carry.sum[warp][lane] = sum;
  if (lane == 0) carry.cut[warp] = cut;
  __syncthreads();
  for (int w = 0; w < warp; ++w) carried = carry.cut[w] ? carry.sum[w][lane] : carried + carry.sum[w][lane];
  if (!valid) return;
#pragma unroll 4
  for (int64_t i = first; i < end; ++i) {
    const int64_t t = op.row(i);
    if (op.starts(b, t)) carried = 0;
    carried += op.term(b, t, c);
    op.put(b, t, c, carried);
  }
  if (warp == kWarps - 1) op.after(b, c, carried);
}

template <class Op>
void scan(int64_t rows, cudaStream_t stream, const Op& op) {
  const int64_t strips = (op.C + kWarp - 1) / kWarp, blocks = rows / op.in.T * strips;
  if (blocks > 0) launch(scan_kernel<Op>, dim3(unsigned(blocks)), dim3(kWarps * kWarp), 0, stream, strips, op);
}

}  // namespace

template <>
void on(const PrefixMean& op, const Queue& queue) {
  with_element(view_of(op.x).element, [&](auto storage) {
    using S = decltype(storage);
    const Sequence sequence = {op.first_key.as<int32_t>(), op.T, op.first_position, op.divisor};
    scan(op.x.rows(), queue.stream,
         Forward<S>{sequence, rows_of<S>(op.x), rows_of<S>(op.out), floats(op.sums), op.x.cols()});
  });
}

template <>
void on(const PrefixMeanBackward& op, const Queue& queue) {
  with_element(view_of(op.d_out).element, [&](auto storage) {
    using S = decltype(storage);
    const Sequence sequence = {op.first_key.as<int32_t>(), op.T, 0, op.divisor};
    scan(op.d_out.rows(), queue.stream,
         Backward<S>{sequence, rows_of<S>(op.d_out), rows_of<S>(op.d_x), op.d_out.cols()});
  });
}

}  // namespace sluice::cuda
