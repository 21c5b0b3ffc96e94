// Running averages by the keys' own scores on a GPU. What belongs to a row alone is done for all rows at once, a warp a
// row; what goes from row to row by a thread for each column of a head, or for the masses by one for each head.
#include "kernels/ops/cores/key_only.h"

#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/formulas/key_only.h"

namespace sluice::cuda {
namespace {

constexpr int kThreads = 128, kRowsPerBlock = kThreads / kWarp;

template <class S>
struct Average {
  Rows<S> q, k, v, out;
  const int32_t* first_key;  // may be null
  float *betas, *state;      // state may be null
  int64_t B, T, H, KV, D_qk, D_v;
  float scale;
  bool resume;

  __device__ int64_t group() const { return H / KV; }
  __device__ bool starts(int64_t b, int64_t t) const {
    if (t == 0) return !resume;
    return first_key && first_key[b * T + t] == t;
  }
  __device__ float* state_of(int64_t b, int64_t h) const { return state + (b * H + h) * (D_v + 2); }
};

// The scores [B, H, T], in the place of the betas.
template <class S>
__global__ void __launch_bounds__(kThreads) scores_kernel(Average<S> a) {
  const int64_t index = int64_t(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (index >= a.B * a.H * a.T) return;  // a whole warp
  const int64_t head = quotient(index, a.T), t = index - head * a.T, b = quotient(head, a.H), h = head - b * a.H;
  const int64_t row = b * a.T + t;
  const S *q = a.q.at(row, h * a.D_qk), *k = a.k.at(row, h / a.group() * a.D_qk);
  float sum = 0;
  for (int64_t i = lane; i < a.D_qk; i += kWarp) sum += Silu::forward<float>(load_one(q + i)) * load_one(k + i);
  sum = warp_sum(sum);
  if (lane == 0) a.betas[index] = sum * a.scale;
}

// From a head's scores its betas.
template <class S>
__global__ void __launch_bounds__(kThreads) betas_kernel(Average<S> a) {
  const int64_t head = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (head >= a.B * a.H) return;
  const int64_t b = quotient(head, a.H), h = head - b * a.H;
  float* mass_of = a.state ? a.state_of(b, h) + a.D_v : nullptr;
  RunningMass<float> mass{0, 0};
  if (a.resume) mass = {mass_of[0], mass_of[1]};
  float* betas = a.betas + head * a.T;
  for (int64_t t = 0; t < a.T; ++t) betas[t] = mass.add(betas[t], a.starts(b, t));
  if (mass_of) mass_of[0] = mass.largest, mass_of[1] = mass.sum;
}

template <class S>
__global__ void __launch_bounds__(kThreads) average_kernel(Average<S> a) {
  const int64_t index = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= a.B * a.H * a.D_v) return;
  const int64_t head = quotient(index, a.D_v), col = index - head * a.D_v, b = quotient(head, a.H), h = head - b * a.H;
  const int64_t value_col = h / a.group() * a.D_v + col;
  float* kept = a.state ? a.state_of(b, h) + col : nullptr;
  float average = a.resume ? *kept : 0;
#pragma unroll 4
  for (int64_t t = 0; t < a.T; ++t) {
    const int64_t row = b * a.T + t;
    const float value = load_one(a.v.at(row, value_col));
    average = a.starts(b, t) ? value : average + a.betas[head * a.T + t] * (value - average);
    store_one(a.out.at(row, h * a.D_v + col), average);
  }
  if (kept) *kept = average;
}

template <class S>
struct AverageBack {
  Average<S> forward;
  Rows<S> d_out, d_q, d_k, d_v;
  float *shares, *slopes;  // [N, H D_v] each: beta G, and of beta (G v - c) what a column adds
};

template <class S>
__global__ void __launch_bounds__(kThreads) columns_back_kernel(AverageBack<S> back) {
  const Average<S>& a = back.forward;
  const int64_t index = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= a.B * a.H * a.D_v) return;
  const int64_t head = quotient(index, a.D_v), col = index - head * a.D_v, b = quotient(head, a.H), h = head - b * a.H;
  const int64_t value_col = h / a.group() * a.D_v + col, result_col = h * a.D_v + col;
  float slope = 0, along = 0, keep = 0;
  for (int64_t t = a.T; t-- > 0;) {
    const int64_t row = b * a.T + t, at = row * a.H * a.D_v + result_col;
    const float d = load_one(back.d_out.at(row, result_col)), beta = a.betas[head * a.T + t];
    // Behind a row that starts anew nothing is kept, whatever it was.
    slope = keep == 0 ? d : d + keep * slope;
    along = d * load_one(a.out.at(row, result_col)) + (keep == 0 ? 0.0f : keep * along);
    back.shares[at] = beta * slope;
    back.slopes[at] = beta * (slope * load_one(a.v.at(row, value_col)) - along);
    keep = 1 - beta;
  }
}

// A warp a row and head of keys and values.
template <class S>
__global__ void __launch_bounds__(kThreads) rows_back_kernel(AverageBack<S> back) {
  const Average<S>& a = back.forward;
  const int64_t index = int64_t(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (index >= a.B * a.T * a.KV) return;  // a whole warp
  const int64_t row = quotient(index, a.KV), g = index - row * a.KV, first = g * a.group(), end = first + a.group();
  const int64_t width = a.H * a.D_v;
  for (int64_t i = lane; i < a.D_v; i += kWarp) {
    float sum = 0;
    for (int64_t h = first; h < end; ++h) sum += back.shares[row * width + h * a.D_v + i];
    store_one(back.d_v.at(row, g * a.D_v + i), sum);
  }
  float d_k[kMaxHeadSize / kWarp] = {};
  for (int64_t h = first; h < end; ++h) {
    float d_score = 0;
    for (int64_t i = lane; i < a.D_v; i += kWarp) d_score += back.slopes[row * width + h * a.D_v + i];
    d_score = warp_sum(d_score) * a.scale;
#pragma unroll
    for (int j = 0; j < int(kMaxHeadSize) / kWarp; ++j) {
      const int64_t i = lane + j * kWarp;
      if (i >= a.D_qk) continue;
      const float q = load_one(a.q.at(row, h * a.D_qk + i)), k = load_one(a.k.at(row, g * a.D_qk + i));
      float active;
      store_one(back.d_q.at(row, h * a.D_qk + i), Silu::backward<float>(d_score, q, active) * k);
      d_k[j] += d_score * active;
    }
  }
#pragma unroll
  for (int j = 0; j < int(kMaxHeadSize) / kWarp; ++j)
    if (const int64_t i = lane + j * kWarp; i < a.D_qk) store_one(back.d_k.at(row, g * a.D_qk + i), d_k[j]);
}

template <class S>
Average<S> average_of(const KeyOnlyForward& op) {
  const AttentionShape& s = op.shape;
  return {.q = rows_of<S>(op.q),
          .k = rows_of<S>(op.k),
          .v = rows_of<S>(op.v),
          .out = rows_of<S>(op.out),
          .first_key = op.first_key.as<const int32_t>(),
          .betas = op.betas.as<float>(),
          .state = op.state.as<float>(),
          .B = s.B,
          .T = s.T,
          .H = s.H,
          .KV = s.KV,
          .D_qk = s.D_qk,
          .D_v = s.D_v,
          .scale = float(op.scale),
          .resume = op.resume};
}

dim3 blocks_for(int64_t count, int64_t each) { return dim3(unsigned((count + each - 1) / each)); }

}  // namespace

template <>
void on(const KeyOnlyForward& op, const Queue& queue) {
  const AttentionShape& s = op.shape;
  with_element(view_of(op.q).element, [&](auto storage) {
    using S = decltype(storage);
    const Average<S> a = average_of<S>(op);
    launch(scores_kernel<S>, blocks_for(s.B * s.H * s.T, kRowsPerBlock), dim3(kThreads), 0, queue.stream, a);
    launch(betas_kernel<S>, blocks_for(s.B * s.H, kThreads), dim3(kThreads), 0, queue.stream, a);
    launch(average_kernel<S>, blocks_for(s.B * s.H * s.D_v, kThreads), dim3(kThreads), 0, queue.stream, a);
  });
}

template <>
void on(const KeyOnlyBackward& op, const Queue& queue) {
  const AttentionShape& s = op.forward.shape;
  with_element(view_of(op.forward.q).element, [&](auto storage) {
    using S = decltype(storage);
    float* scratch = op.workspace.as<float>();
    const AverageBack<S> back{average_of<S>(op.forward),
                              rows_of<S>(op.d_out),
                              rows_of<S>(op.d_q),
                              rows_of<S>(op.d_k),
                              rows_of<S>(op.d_v),
                              scratch,
                              scratch + s.B * s.T * s.heads().result_columns()};
    launch(columns_back_kernel<S>, blocks_for(s.B * s.H * s.D_v, kThreads), dim3(kThreads), 0, queue.stream, back);
    launch(rows_back_kernel<S>, blocks_for(s.B * s.T * s.KV, kRowsPerBlock), dim3(kThreads), 0, queue.stream, back);
  });
}

template <>
int64_t workspace_for(const KeyOnlyBackward::Sizes& sizes) {
  const AttentionShape& s = sizes.shape;
  return 2 * s.B * s.T * s.heads().result_columns();
}

}  // namespace sluice::cuda
