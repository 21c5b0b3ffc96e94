// Layer normalisation and RMSNorm fused with the residual addition before them, their backward pass, and gradients of
// biases.
//
// A row belongs to a team of threads, one warp up to 1024 columns and a whole block beyond; a thread keeps its packs in
// registers, as stored, so that a row is read from memory once. Statistics are taken of the rounded sum, which is what
// the backward pass sees, the variance around the mean; RMSNorm's mean is 0.
//
// Gradients of gain and bias: a block takes a chunk of rows and sums columns in registers, then over its teams in order
// through shared memory, and writes workspace[chunk][gain, bias][C]; a second kernel adds the chunks in order. How rows
// are cut into chunks follows from the shape alone.
#include <algorithm>

#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/formulas/norm.h"
#include "kernels/ops/norm.h"

namespace sluice::cuda {
namespace {

struct NormForwardArgs {
  Norm kind;
  View x, delta, sum, out;
  const float *gain, *bias;  // [C]; either may be null
  float* stats;              // [N, 2]
  float epsilon;
};

struct NormBackwardArgs {
  Norm kind;
  View x, d_out, d_x;
  const float *gain, *stats;
  bool add_to_d_x, accumulate;
  float *d_gain, *d_bias;  // either may be null
  float* workspace;
};

// The team of a row: kWarps warps whose threads hold kPacks packs each.
template <int kWarpsOf, int kPacksOf>
struct Team {
  static constexpr int kWarps = kWarpsOf, kPacks = kPacksOf, kThreads = kWarps * kWarp;
  static constexpr int kForwardTeams = kWarps == 1 ? 4 : 1, kBackwardTeams = kWarps == 1 ? 8 : 1;
};

// The first column of the thread's pack p.
template <class T>
__device__ __forceinline__ int64_t column(int p) {
  return (int64_t(p) * T::kThreads + threadIdx.x % T::kThreads) * kPack;
}

template <class S, class T>
__global__ void __launch_bounds__(T::kForwardTeams* T::kThreads)
    norm_forward_kernel(NormForwardArgs args, bool vector) {
  const int64_t row = int64_t(blockIdx.x) * T::kForwardTeams + threadIdx.x / T::kThreads, C = args.x.cols;
  if (row >= args.x.rows) return;  // a whole team
  const Rows<S> x = rows_of<S>(args.x), delta = rows_of<S>(args.delta), sum = rows_of<S>(args.sum),
                out = rows_of<S>(args.out);

  Pack<S> kept[T::kPacks];
  const bool centred = args.kind == Norm::kLayerNorm;
  float total[1] = {0}, squares[1] = {0};
#pragma unroll
  for (int p = 0; p < T::kPacks; ++p) {
    const int64_t c = column<T>(p);
    const int count = pack_count(C, c);
    if (count == 0) continue;
    kept[p] = load_pack(x.at(row, c), count, vector);
    float v[kPack];
    unpack(v, kept[p]);
    if (delta.data) {
      float d[kPack];
      load(d, delta.at(row, c), count, vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) v[i] += d[i];
      kept[p] = packed<S>(v);
      store_pack(sum.at(row, c), kept[p], count, vector);
      unpack(v, kept[p]);
    }
#pragma unroll
    for (int i = 0; i < kPack; ++i) total[0] += v[i];
  }
  if (centred) team_sums<T::kWarps>(total);
  const float mean = centred ? total[0] / float(C) : 0.0f;

#pragma unroll
  for (int p = 0; p < T::kPacks; ++p) {
    const int count = pack_count(C, column<T>(p));
    if (count == 0) continue;
    float v[kPack];
    unpack(v, kept[p]);
#pragma unroll
    for (int i = 0; i < kPack; ++i) squares[0] += i < count ? (v[i] - mean) * (v[i] - mean) : 0.0f;
  }
  team_sums<T::kWarps>(squares);
  const float rstd = 1.0f / sqrt_of(squares[0] / float(C) + args.epsilon);
  if (threadIdx.x % T::kThreads == 0) args.stats[2 * row] = mean, args.stats[2 * row + 1] = rstd;

#pragma unroll
  for (int p = 0; p < T::kPacks; ++p) {
    const int64_t c = column<T>(p);
    const int count = pack_count(C, c);
    if (count == 0) continue;
    float v[kPack], gain[kPack], bias[kPack] = {};
    unpack(v, kept[p]);
    load_gain(gain, args.gain, c, count, vector);
    if (args.bias) load(bias, args.bias + c, count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = normalised(v[i], mean, rstd) * gain[i] + bias[i];
    store(out.at(row, c), v, count, vector);
  }
}

// partial[c] = the column's total over the block's teams, added in order of the teams. All threads of the block call.
template <class T>
__device__ void write_columns(float* partial, const float (&mine)[T::kPacks][kPack], int64_t C) {
  __shared__ float sums[T::kBackwardTeams > 1 ? T::kThreads * T::kPacks * kPack : 1];
  const int team = int(threadIdx.x) / T::kThreads;
  for (int t = 0; t < T::kBackwardTeams; ++t) {
    if (team == t) {
      float* to = t == T::kBackwardTeams - 1 ? partial : sums;
#pragma unroll
      for (int p = 0; p < T::kPacks; ++p) {
        const int64_t c = column<T>(p);
#pragma unroll
        for (int i = 0; i < kPack; ++i)
          if (c + i < C) to[c + i] = t == 0 ? mine[p][i] : sums[c + i] + mine[p][i];
      }
    }
    __syncthreads();
  }
}

// One chunk of rows a block.
template <class S, class T>
__global__ void __launch_bounds__(T::kBackwardTeams* T::kThreads)
    norm_backward_kernel(NormBackwardArgs args, bool vector) {
  const int64_t N = args.x.rows, C = args.x.cols;
  const int64_t first = N * blockIdx.x / gridDim.x, end = N * (blockIdx.x + 1) / gridDim.x;
  const Rows<S> x = rows_of<S>(args.x), d_out = rows_of<S>(args.d_out), d_x = rows_of<S>(args.d_x);

  float d_gain[T::kPacks][kPack] = {}, d_bias[T::kPacks][kPack] = {};
  for (int64_t start = first; start < end; start += T::kBackwardTeams) {
    const int64_t row = start + threadIdx.x / T::kThreads;
    const bool valid = row < end;
    const float mean = valid ? args.stats[2 * row] : 0, rstd = valid ? args.stats[2 * row + 1] : 0;
    Pack<S> kept_x[T::kPacks], kept_d[T::kPacks];
    float sums[2] = {0, 0};  // of e and of e xhat
#pragma unroll
    for (int p = 0; p < T::kPacks; ++p) {
      const int64_t c = column<T>(p);
      const int count = valid ? pack_count(C, c) : 0;
      if (count == 0) continue;
      kept_x[p] = load_pack(x.at(row, c), count, vector);
      kept_d[p] = load_pack(d_out.at(row, c), count, vector);
    }
#pragma unroll
    for (int p = 0; p < T::kPacks; ++p) {  // all loads are under way before the first is waited for
      const int64_t c = column<T>(p);
      const int count = valid ? pack_count(C, c) : 0;
      if (count == 0) continue;
      float v[kPack], d[kPack], gain[kPack];
      unpack(v, kept_x[p]);
      unpack(d, kept_d[p]);
      load_gain(gain, args.gain, c, count, vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        const float xhat = i < count ? normalised(v[i], mean, rstd) : 0.0f, e = d[i] * gain[i];
        sums[0] += e;
        sums[1] += e * xhat;
        d_gain[p][i] += d[i] * xhat;
        d_bias[p][i] += d[i];
      }
    }
    team_sums<T::kWarps>(sums);
    const float mean_e = args.kind == Norm::kLayerNorm ? sums[0] / float(C) : 0.0f;
    const float mean_e_xhat = sums[1] / float(C);
#pragma unroll
    for (int p = 0; p < T::kPacks; ++p) {
      const int64_t c = column<T>(p);
      const int count = valid ? pack_count(C, c) : 0;
      if (count == 0) continue;
      float v[kPack], d[kPack], gain[kPack], before[kPack] = {};
      unpack(v, kept_x[p]);
      unpack(d, kept_d[p]);
      load_gain(gain, args.gain, c, count, vector);
      if (args.add_to_d_x) load(before, d_x.at(row, c), count, vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i)
        d[i] = norm_input_gradient(d[i] * gain[i], normalised(v[i], mean, rstd), mean_e, mean_e_xhat, rstd) + before[i];
      store(d_x.at(row, c), d, count, vector);
    }
  }

  float* partial = args.workspace + int64_t(blockIdx.x) * 2 * C;
  if (args.d_gain) write_columns<T>(partial, d_gain, C);
  if (args.d_bias) write_columns<T>(partial + C, d_bias, C);
}

// --- sums over rows

constexpr int kMaxSumWarps = 8;

// out[c] (+)= sum over chunks of partial[chunk * step + c], for one or two arrays (blockIdx.y), the second C further
// on. Of W warps, warp w takes chunks w, w + W, ...; the warps' sums are added in order.
__global__ void __launch_bounds__(kMaxSumWarps* kWarp)
    add_chunks_kernel(float* first_out, float* second_out, const float* partial, int64_t step, int64_t chunks,
                      int64_t C, bool accumulate) {
  __shared__ float sums[kMaxSumWarps][kWarp];
  float* out = blockIdx.y == 0 ? first_out : second_out;
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp, warps = int(blockDim.x) / kWarp;
  const int64_t c = int64_t(blockIdx.x) * kWarp + lane;
  float sum = 0;
  if (c < C)
    for (int64_t chunk = warp; chunk < chunks; chunk += warps) sum += partial[chunk * step + blockIdx.y * C + c];
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || c >= C) return;
  sum = accumulate ? out[c] : 0;
  for (int w = 0; w < warps; ++w) sum += sums[w][lane];
  out[c] = sum;
}

constexpr int kColumnWarps = 8, kColumns = kWarp * kPack;  // of a block of the next kernel

// partial[chunk][c] = sum of the chunk's rows: blockIdx.x counts groups of kColumns columns, blockIdx.y chunks.
template <class S>
__global__ void __launch_bounds__(kColumnWarps* kWarp) column_sums_kernel(View x, float* partial, bool vector) {
  __shared__ float sums[kColumnWarps][kColumns];
  const int64_t C = x.cols, first = x.rows * blockIdx.y / gridDim.y, end = x.rows * (blockIdx.y + 1) / gridDim.y;
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  const int64_t c = int64_t(blockIdx.x) * kColumns + lane * kPack;
  const int count = pack_count(C, c);
  const Rows<S> rows = rows_of<S>(x);
  float sum[kPack] = {};
  if (count > 0) {
#pragma unroll 4
    for (int64_t row = first + warp; row < end; row += kColumnWarps) {
      float v[kPack];
      load(v, rows.at(row, c), count, vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) sum[i] += v[i];
    }
  }
#pragma unroll
  for (int i = 0; i < kPack; ++i) sums[warp][lane * kPack + i] = sum[i];
  __syncthreads();
  const int64_t mine = int64_t(blockIdx.x) * kColumns + threadIdx.x;
  if (mine >= C) return;
  float total = 0;
#pragma unroll
  for (int w = 0; w < kColumnWarps; ++w) total += sums[w][threadIdx.x];
  partial[int64_t(blockIdx.y) * C + mine] = total;
}
static_assert(kColumnWarps * kWarp == kColumns);

// How many chunks N rows are cut into, at least eight rows each.
int64_t chunks_of(int64_t N, int64_t most) { return std::clamp<int64_t>((N + 7) / 8, 1, most); }

// Calls body(Team{}) with the smallest team for rows of C columns.
template <class Body>
void with_team(int64_t C, Body body) {
  if (C <= 256) body(Team<1, 1>{});
  else if (C <= 512) body(Team<1, 2>{});
  else if (C <= 768) body(Team<1, 3>{});
  else if (C <= 1024) body(Team<1, 4>{});
  else if (C <= 2048) body(Team<8, 1>{});
  else if (C <= 4096) body(Team<8, 2>{});
  else if (C <= 8192) body(Team<8, 4>{});
  else if (C <= 16384) body(Team<16, 4>{});
  else body(Team<32, 8>{});  // up to 65536
}

}  // namespace

void add_chunks(float* first_out, float* second_out, const float* partial, int64_t step, int64_t chunks, int64_t C,
                bool accumulate, cudaStream_t stream) {
  const dim3 grid(unsigned((C + kWarp - 1) / kWarp), second_out ? 2 : 1);
  const int64_t warps = std::min<int64_t>(chunks, kMaxSumWarps);
  launch(add_chunks_kernel, grid, dim3(unsigned(warps) * kWarp), 0, stream, first_out, second_out, partial, step,
         chunks, C, accumulate);
}

template <>
void on(const NormForward& op, const Queue& queue) {
  const NormForwardArgs args = {op.kind,         view_of(op.x),   view_of(op.delta), view_of(op.sum),  view_of(op.out),
                                floats(op.gain), floats(op.bias), floats(op.stats),  float(op.epsilon)};
  if (args.x.rows == 0) return;
  const bool vector = vectorizable(args.x) && vectorizable(args.delta) && vectorizable(args.sum) &&
                      vectorizable(args.out) && vectorizable(args.gain) && vectorizable(args.bias);
  with_element(args.x.element, [&](auto storage) {
    with_team(args.x.cols, [&](auto team) {
      using T = decltype(team);
      const int64_t blocks = (args.x.rows + T::kForwardTeams - 1) / T::kForwardTeams;
      launch(norm_forward_kernel<decltype(storage), T>, dim3(unsigned(blocks)), dim3(T::kForwardTeams * T::kThreads), 0,
             queue.stream, args, vector);
    });
  });
}

template <>
void on(const NormBackward& op, const Queue& queue) {
  const NormBackwardArgs args = {op.forward.kind,   view_of(op.forward.x),   view_of(op.d_out),
                                 view_of(op.d_x),   floats(op.forward.gain), floats(op.forward.stats),
                                 op.add_to_d_x,     op.accumulate,           floats(op.d_gain),
                                 floats(op.d_bias), floats(op.workspace)};
  const bool vector =
      vectorizable(args.x) && vectorizable(args.d_out) && vectorizable(args.d_x) && vectorizable(args.gain);
  const int64_t C = args.x.cols, chunks = chunks_of(args.x.rows, kRowChunks);
  with_element(args.x.element, [&](auto storage) {
    with_team(C, [&](auto team) {
      using T = decltype(team);
      launch(norm_backward_kernel<decltype(storage), T>, dim3(unsigned(chunks)), dim3(T::kBackwardTeams * T::kThreads),
             0, queue.stream, args, vector);
    });
  });
  if (args.d_gain)
    add_chunks(args.d_gain, args.d_bias, args.workspace, 2 * C, chunks, C, args.accumulate, queue.stream);
}

template <>
void on(const BiasGradient& op, const Queue& queue) {
  const View d_out = view_of(op.d_out);
  float* workspace = floats(op.workspace);
  const int64_t C = d_out.cols, groups = (C + kColumns - 1) / kColumns;
  const int64_t chunks = chunks_of(d_out.rows, std::clamp<int64_t>(1024 / groups, 1, kRowChunks));
  with_element(d_out.element, [&](auto storage) {
    launch(column_sums_kernel<decltype(storage)>, dim3(unsigned(groups), unsigned(chunks)), dim3(kColumnWarps * kWarp),
           0, queue.stream, d_out, workspace, vectorizable(d_out));
  });
  add_chunks(floats(op.d_bias), nullptr, workspace, C, chunks, C, op.accumulate, queue.stream);
}

template <>
int64_t workspace_for(const RowSums& sizes) {
  return kRowChunks * 2 * sizes.C;
}

}  // namespace sluice::cuda
