// What is done to query and key heads before attention: a norm of each head, and rotary positions.
//
// A head of D <= 256 columns belongs to a team of eight lanes, each with one, two or four packs of it in registers. The
// gain's gradient: a block takes a chunk of heads, whose teams sum in registers, then over the teams in order through
// shared memory; the chunks are added in order. How heads are cut into chunks follows from the shape alone.
#include <algorithm>
#include <type_traits>

#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/formulas/norm.h"
#include "kernels/formulas/rope.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/norm.h"

namespace sluice::cuda {
namespace {

struct HeadNormArgs {
  View x;
  const float* gain;  // [D]; null: heads get the length 1
  int64_t D;
  float epsilon, scale, divisor;  // divisor: of the sum of squares, D or 1 without a gain
};

HeadNormArgs args_of(const HeadNormForward& op) {
  return {view_of(op.x), floats(op.gain), op.D(), float(op.epsilon), float(op.scale), op.gain ? float(op.D()) : 1.0f};
}

constexpr int kLanes = 8, kTeams = 32, kThreads = kTeams * kLanes, kPackColumns = kLanes * kPack;

// The first column of the thread's pack p.
__device__ __forceinline__ int column(int p) { return (p * kLanes + int(threadIdx.x) % kLanes) * kPack; }

// A thread's part of a head.
template <class S, int kPacks>
struct Head {
  float x[kPacks][kPack];
  float rstd;

  // All threads of a warp call; a head that is not `valid` is zero.
  __device__ Head(const HeadNormArgs& args, int64_t row, int64_t first, bool valid, bool vector) {
    const Rows<S> rows = rows_of<S>(args.x);
    float squares = 0;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int count = valid ? pack_count(args.D, column(p)) : 0;
#pragma unroll
      for (int i = 0; i < kPack; ++i) x[p][i] = 0;
      if (count > 0) load(x[p], rows.at(row, first + column(p)), count, vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) squares += x[p][i] * x[p][i];
    }
    rstd = 1.0f / sqrt_of(warp_sum<kLanes>(squares) / args.divisor + args.epsilon);
  }
};

template <class S, int kPacks>
__global__ void __launch_bounds__(kThreads)
    head_norm_kernel(HeadNormArgs args, Rows<S> out, int64_t heads, bool vector) {
  const int64_t index = int64_t(blockIdx.x) * kTeams + threadIdx.x / kLanes;
  const int64_t row = quotient(index, heads), first = (index - row * heads) * args.D;
  const bool valid = row < args.x.rows;
  const Head<S, kPacks> head(args, row, first, valid, vector);
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int count = valid ? pack_count(args.D, column(p)) : 0;
    if (count == 0) continue;
    float gain[kPack];
    load_gain(gain, args.gain, column(p), count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) gain[i] *= args.scale * normalised(head.x[p][i], 0.0f, head.rstd);
    store(out.at(row, first + column(p)), gain, count, vector);
  }
}

// Heads [count blockIdx.x / gridDim.x, ...): partial[blockIdx.x][D] receives their part of the gain's gradient.
template <class S, int kPacks>
__global__ void __launch_bounds__(kThreads) head_norm_backward_kernel(HeadNormArgs args, Rows<S> d_out, Rows<S> d_x,
                                                                      float* partial, int64_t heads, bool vector) {
  __shared__ float sums[kPacks * kPackColumns];
  const int64_t all = args.x.rows * heads, end = all * (blockIdx.x + 1) / gridDim.x;
  const int team = int(threadIdx.x) / kLanes;
  float d_gain[kPacks][kPack] = {}, gain[kPacks][kPack] = {};
#pragma unroll
  for (int p = 0; p < kPacks; ++p)
    if (const int count = pack_count(args.D, column(p))) load_gain(gain[p], args.gain, column(p), count, vector);

  for (int64_t start = all * blockIdx.x / gridDim.x; start < end; start += kTeams) {
    const int64_t index = start + team, row = quotient(index, heads), first = (index - row * heads) * args.D;
    const bool valid = index < end;
    const Head<S, kPacks> head(args, row, first, valid, vector);
    float d[kPacks][kPack] = {}, sum = 0;  // d_out, scaled
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int count = valid ? pack_count(args.D, column(p)) : 0;
      if (count > 0) load(d[p], d_out.at(row, first + column(p)), count, vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        d[p][i] *= args.scale;
        const float d_xhat = d[p][i] * normalised(head.x[p][i], 0.0f, head.rstd);
        d_gain[p][i] += d_xhat;
        sum += d_xhat * gain[p][i];
      }
    }
    const float mean_e_xhat = warp_sum<kLanes>(sum) / args.divisor;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int count = valid ? pack_count(args.D, column(p)) : 0;
      if (count == 0) continue;
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        const float xhat = normalised(head.x[p][i], 0.0f, head.rstd);
        d[p][i] = norm_input_gradient(d[p][i] * gain[p][i], xhat, 0.0f, mean_e_xhat, head.rstd);
      }
      store(d_x.at(row, first + column(p)), d[p], count, vector);
    }
  }

  if (!args.gain) return;
  for (int t = 0; t < kTeams; ++t) {
    if (team == t) {
      float* to = t == kTeams - 1 ? partial + blockIdx.x * args.D : sums;
#pragma unroll
      for (int p = 0; p < kPacks; ++p)
#pragma unroll
        for (int i = 0; i < kPack; ++i) {
          const int c = column(p) + i;
          if (c < args.D) to[c] = t == 0 ? d_gain[p][i] : sums[c] + d_gain[p][i];
        }
    }
    __syncthreads();
  }
}

// body(storage, packs) with the type and the packs that a lane holds of a head, as a type.
template <class Body>
void with_head(const HeadNormArgs& args, Body body) {
  with_element(args.x.element, [&](auto storage) {
    if (args.D <= kPackColumns) body(storage, std::integral_constant<int, 1>{});
    else if (args.D <= 2 * kPackColumns) body(storage, std::integral_constant<int, 2>{});
    else body(storage, std::integral_constant<int, 4>{});
  });
}

// --- rotary positions

// A thread turns a pack of pairs; a row's columns are counted in packs of half heads.
template <class S>
struct Turn {
  Rows<S> x;
  Rows<float> table;
  int64_t half, packs, T, first_position;  // packs of half a head
  bool inverse, vector;
  __device__ void operator()(int64_t row, int64_t col, int) const {
    const int64_t pack = col / kPack, head = quotient(pack, packs), i = (pack - head * packs) * kPack;
    const int count = pack_count(half, i);
    const int64_t position = first_position + row - quotient(row, T) * T;
    S *first = x.at(row, head * 2 * half + i), *second = first + half;
    float a[kPack], b[kPack], cosine[kPack], sine[kPack];
    load(a, first, count, vector);
    load(b, second, count, vector);
    load(cosine, table.at(position, i), count, vector);
    load(sine, table.at(position, half + i), count, vector);
#pragma unroll
    for (int k = 0; k < kPack; ++k) rotate(a[k], b[k], cosine[k], inverse ? -sine[k] : sine[k]);
    store(first, a, count, vector);
    store(second, b, count, vector);
  }
};

}  // namespace

template <>
void on(const HeadNormForward& op, const Queue& queue) {
  const HeadNormArgs args = args_of(op);
  const View out = view_of(op.out);
  const int64_t heads = args.x.cols / args.D, blocks = (args.x.rows * heads + kTeams - 1) / kTeams;
  if (blocks == 0) return;
  const bool vector = vectorizable(args.x) && vectorizable(out) && vectorizable(args.gain) && args.D % kPack == 0;
  with_head(args, [&](auto storage, auto packs) {
    using S = decltype(storage);
    launch(head_norm_kernel<S, packs.value>, dim3(unsigned(blocks)), dim3(kThreads), 0, queue.stream, args,
           rows_of<S>(out), heads, vector);
  });
}

template <>
void on(const HeadNormBackward& op, const Queue& queue) {
  const HeadNormArgs args = args_of(op.forward);
  const View d_out = view_of(op.d_out), d_x = view_of(op.d_x);
  float* workspace = floats(op.workspace);
  const int64_t heads = args.x.cols / args.D;
  const int64_t chunks = std::clamp<int64_t>((args.x.rows * heads + kTeams - 1) / kTeams, 1, kRowChunks);
  const bool vector = vectorizable(args.x) && vectorizable(d_out) && vectorizable(d_x) && vectorizable(args.gain) &&
                      args.D % kPack == 0;
  with_head(args, [&](auto storage, auto packs) {
    using S = decltype(storage);
    launch(head_norm_backward_kernel<S, packs.value>, dim3(unsigned(chunks)), dim3(kThreads), 0, queue.stream, args,
           rows_of<S>(d_out), rows_of<S>(d_x), workspace, heads, vector);
  });
  if (args.gain) add_chunks(floats(op.d_gain), nullptr, workspace, args.D, chunks, args.D, op.accumulate, queue.stream);
}

template <>
void on(const Rope& op, const Queue& queue) {
  const View x = view_of(op.x), table = view_of(op.table);
  const int64_t half = table.cols / 2, heads = x.cols / table.cols, packs = (half + kPack - 1) / kPack;
  const bool vector = vectorizable(x) && vectorizable(table) && half % kPack == 0;
  with_element(x.element, [&](auto storage) {
    using S = decltype(storage);
    map(x.rows, heads * packs * kPack, false, queue.stream,
        Turn<S>{rows_of<S>(x), rows_of<float>(table), half, packs, op.T, op.first_position, op.inverse, vector});
  });
}

}  // namespace sluice::cuda
