// What makes causal Flow-Attention of linear attention, on a GPU: a warp walks a head of a sequence from row to row,
// each lane with every 32nd feature. Backward it walks up for what later rows ask for, then down for what a row's own
// sums do; heads that share keys and values are added up after it.
#include "kernels/cuda/cores/add_heads.cuh"
#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/formulas/flow.h"
#include "kernels/ops/cores/flow.h"

namespace sluice::cuda {
namespace {

constexpr int kWarps = 4, kMine = int(kMaxHeadSize) / kWarp;  // features of a lane
constexpr float kEpsilon = float(kFlowEpsilon);

template <class S>
struct Flow {
  Rows<S> q, k, v, queries, keys, values, logits;
  const int32_t* first_key;  // may be null
  float *stats, *state;      // state may be null
  int64_t B, T, H, KV, D, D_v;
  bool resume;

  __device__ int64_t first(int64_t b, int64_t t) const { return first_key ? first_key[b * T + t] : 0; }
  __device__ bool starts(int64_t b, int64_t t) const { return t == 0 || (first_key && first(b, t) == t); }
  __device__ float& stat(int i, int64_t head, int64_t t) const { return stats[(i * B * H + head) * T + t]; }
};

// A lane's features of the sums over rows, and of a row's a and b; zeros beyond the head.
struct Lane {
  float K[kMine], Q[kMine], M[kMine], L[kMine], a[kMine], b[kMine];

  __device__ void clear() {
#pragma unroll
    for (int j = 0; j < kMine; ++j) K[j] = Q[j] = M[j] = L[j] = 0;
  }
  template <class S>
  __device__ void load_row(const Flow<S>& flow, int64_t row, int64_t h, int lane) {
    const S *q = flow.q.at(row, h * flow.D), *k = flow.k.at(row, h / (flow.H / flow.KV) * flow.D);
#pragma unroll
    for (int j = 0; j < kMine; ++j) {
      const int i = lane + j * kWarp;
      a[j] = i < flow.D ? sigmoid_of(load_one(q + i)) : 0.0f;
      b[j] = i < flow.D ? sigmoid_of(load_one(k + i)) : 0.0f;
    }
  }
};

// sum += factor * (x + shift)
__device__ __forceinline__ void add(float (&sum)[kMine], const float (&x)[kMine], float factor, float shift) {
#pragma unroll
  for (int j = 0; j < kMine; ++j) sum[j] += factor * (x[j] + shift);
}

// (x + e) . (y + e) over the head's D features, in every lane
__device__ __forceinline__ float flow_between(const float (&x)[kMine], const float (&y)[kMine], int64_t D, int lane) {
  float sum = 0;
#pragma unroll
  for (int j = 0; j < kMine; ++j)
    if (lane + j * kWarp < D) sum += (x[j] + kEpsilon) * (y[j] + kEpsilon);
  return warp_sum(sum);
}

template <class S>
__global__ void __launch_bounds__(kWarps* kWarp) flow_kernel(Flow<S> flow) {
  const int64_t head = int64_t(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (head >= flow.B * flow.H) return;  // a whole warp
  const int lane = int(threadIdx.x) % kWarp;
  const int64_t b = quotient(head, flow.H), h = head - b * flow.H, kv = h / (flow.H / flow.KV), D = flow.D;
  Lane at;
  at.clear();
  float mass = 0, n = 0;
  float* state = flow.state ? flow.state + head * (4 * D + 2) : nullptr;
  if (flow.resume) {
#pragma unroll
    for (int j = 0; j < kMine; ++j)
      if (const int i = lane + j * kWarp; i < D)
        at.K[j] = state[i], at.Q[j] = state[D + i], at.M[j] = state[2 * D + i], at.L[j] = state[3 * D + i];
    mass = state[4 * D], n = state[4 * D + 1];
  }
  for (int64_t t = 0; t < flow.T; ++t) {
    if (flow.starts(b, t) && !(t == 0 && flow.resume)) at.clear(), mass = n = 0;
    const int64_t row = b * flow.T + t;
    n += 1;
    at.load_row(flow, row, h, lane);
    add(at.K, at.b, 1, 0), add(at.Q, at.a, 1, 0);
    const float I = n / flow_between(at.a, at.K, D, lane), O = n / flow_between(at.b, at.Q, D, lane);
    add(at.M, at.b, O, 0), add(at.L, at.a, I, 0);
    const float logit = flow_between(at.a, at.M, D, lane) / n, w = flow_between(at.b, at.L, D, lane) / n;
    const float x = flow_competitor(w);
    mass += x;
#pragma unroll
    for (int j = 0; j < kMine; ++j) {
      const int i = lane + j * kWarp;
      if (i >= D) continue;
      store_one(flow.queries.at(row, h * D + i), at.a[j] * (I / n));
      store_one(flow.keys.at(row, h * D + i), at.b[j]);
    }
    const float share = n * x / mass;
    for (int64_t i = lane; i < flow.D_v; i += kWarp)
      store_one(flow.values.at(row, h * flow.D_v + i), share * load_one(flow.v.at(row, kv * flow.D_v + i)));
    if (lane > 0) continue;
    store_one(flow.logits.at(row, h), logit);
    flow.stat(0, head, t) = I, flow.stat(1, head, t) = O, flow.stat(2, head, t) = w, flow.stat(3, head, t) = mass;
  }
  if (!state) return;
  __syncwarp();
#pragma unroll
  for (int j = 0; j < kMine; ++j)
    if (const int i = lane + j * kWarp; i < D)
      state[i] = at.K[j], state[D + i] = at.Q[j], state[2 * D + i] = at.M[j], state[3 * D + i] = at.L[j];
  if (lane == 0) state[4 * D] = mass, state[4 * D + 1] = n;
}

template <class S>
struct FlowBack {
  Flow<S> flow;
  Rows<S> d_queries, d_keys, d_values, d_logits, d_q, d_k, d_v;
  float* workspace;
  int64_t of_head;
};

// What rows from t on ask for: all but the shares of the sums before it. A lane reads again what it wrote itself.
template <class S>
__device__ void walk_up(const FlowBack<S>& back, Lane& at, int64_t b, int64_t h, int lane, float* d_a, float* scalars) {
  const Flow<S>& flow = back.flow;
  const int64_t D = flow.D, T = flow.T, head = b * flow.H + h, kv = h / (flow.H / flow.KV);
  float *d_b = d_a + T * D, *d_v = d_b + T * D, later_mass = 0;
  at.clear();
  for (int64_t t = T; t-- > 0;) {
    if (t + 1 == T || flow.starts(b, t + 1)) at.clear(), later_mass = 0;
    const int64_t row = b * T + t;
    at.load_row(flow, row, h, lane);
    const float n = float(t - flow.first(b, t) + 1), I = flow.stat(0, head, t), O = flow.stat(1, head, t),
                w = flow.stat(2, head, t), E = flow.stat(3, head, t), x = flow_competitor(w), share = n * x / E;
    float d_compete = 0;
    for (int64_t i = lane; i < flow.D_v; i += kWarp) {
      const float d = load_one(back.d_values.at(row, h * flow.D_v + i));
      d_compete += d * load_one(flow.v.at(row, kv * flow.D_v + i));
      d_v[t * flow.D_v + i] = share * d;
    }
    d_compete = warp_sum(d_compete);
    later_mass -= d_compete * share / E;
    const float d_w = flow_competitor_gradient(w, x, d_compete * n / E + later_mass) / n;
    add(at.L, at.b, d_w, kEpsilon);
    add(at.M, at.a, load_one(back.d_logits.at(row, h)) / n, kEpsilon);
    float d_I = 0, d_O = 0, of_a[kMine], of_b[kMine];
#pragma unroll
    for (int j = 0; j < kMine; ++j) {
      const int i = lane + j * kWarp;
      of_a[j] = of_b[j] = 0;
      if (i >= D) continue;
      const float d = load_one(back.d_queries.at(row, h * D + i)) / n + at.L[j];
      of_a[j] = I * d;
      d_I += d * at.a[j];
      of_b[j] = load_one(back.d_keys.at(row, h * D + i)) + O * at.M[j];
      d_O += at.M[j] * at.b[j];
    }
    const float to_K = -I * I / n * warp_sum(d_I), to_Q = -O * O / n * warp_sum(d_O);
    add(at.K, at.a, to_K, kEpsilon);
    add(at.Q, at.b, to_Q, kEpsilon);
#pragma unroll
    for (int j = 0; j < kMine; ++j)
      if (const int i = lane + j * kWarp; i < D) d_a[t * D + i] = of_a[j] + at.Q[j], d_b[t * D + i] = of_b[j] + at.K[j];
    if (lane == 0) scalars[t] = to_K, scalars[T + t] = to_Q, scalars[2 * T + t] = d_w;
  }
}

template <class S>
__global__ void __launch_bounds__(kWarps* kWarp) flow_backward_kernel(FlowBack<S> back) {
  const Flow<S>& flow = back.flow;
  const int64_t head = int64_t(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (head >= flow.B * flow.H) return;  // a whole warp
  const int lane = int(threadIdx.x) % kWarp;
  const int64_t b = quotient(head, flow.H), h = head - b * flow.H, D = flow.D, T = flow.T;
  float *d_a = back.workspace + head * back.of_head, *d_b = d_a + T * D, *scalars = d_b + T * (D + flow.D_v);
  Lane at;
  walk_up(back, at, b, h, lane, d_a, scalars);
  __syncwarp();
  at.clear();
  for (int64_t t = 0; t < T; ++t) {  // those shares, and through the sigmoids
    if (flow.starts(b, t)) at.clear();
    const int64_t row = b * T + t;
    at.load_row(flow, row, h, lane);
    add(at.K, at.b, 1, 0), add(at.Q, at.a, 1, 0);
    add(at.M, at.b, flow.stat(1, head, t), 0), add(at.L, at.a, flow.stat(0, head, t), 0);
    const float to_K = scalars[t], to_Q = scalars[T + t], to_L = scalars[2 * T + t];
    const float to_M = load_one(back.d_logits.at(row, h)) / float(t - flow.first(b, t) + 1);
#pragma unroll
    for (int j = 0; j < kMine; ++j) {
      const int i = lane + j * kWarp;
      if (i >= D) continue;
      const float of_a = d_a[t * D + i] + to_M * (at.M[j] + kEpsilon) + to_K * (at.K[j] + kEpsilon);
      const float of_b = d_b[t * D + i] + to_L * (at.L[j] + kEpsilon) + to_Q * (at.Q[j] + kEpsilon);
      store_one(back.d_q.at(row, h * D + i), of_a * at.a[j] * (1 - at.a[j]));
      d_b[t * D + i] = of_b * at.b[j] * (1 - at.b[j]);
    }
  }
}

template <class S>
Flow<S> flow_of(const FlowForward& op) {
  const AttentionShape& s = op.shape;
  return {.q = rows_of<S>(op.q),
          .k = rows_of<S>(op.k),
          .v = rows_of<S>(op.v),
          .queries = rows_of<S>(op.queries),
          .keys = rows_of<S>(op.keys),
          .values = rows_of<S>(op.values),
          .logits = rows_of<S>(op.logits),
          .first_key = op.first_key.as<const int32_t>(),
          .stats = op.stats.as<float>(),
          .state = op.state.as<float>(),
          .B = s.B,
          .T = s.T,
          .H = s.H,
          .KV = s.KV,
          .D = s.D_qk,
          .D_v = s.D_v,
          .resume = op.resume};
}

dim3 blocks_for(const AttentionShape& s) { return dim3(unsigned((s.B * s.H + kWarps - 1) / kWarps)); }

}  // namespace

template <>
void on(const FlowForward& op, const Queue& queue) {
  with_element(view_of(op.q).element, [&](auto storage) {
    using S = decltype(storage);
    launch(flow_kernel<S>, blocks_for(op.shape), dim3(kWarps * kWarp), 0, queue.stream, flow_of<S>(op));
  });
}

template <>
void on(const FlowBackward& op, const Queue& queue) {
  const AttentionShape& s = op.forward.shape;
  const int64_t group = s.H / s.KV, of_head = FlowBackward::of_head(s);
  with_element(view_of(op.forward.q).element, [&](auto storage) {
    using S = decltype(storage);
    float* workspace = op.workspace.as<float>();
    const FlowBack<S> back{flow_of<S>(op.forward),
                           rows_of<S>(op.d_queries),
                           rows_of<S>(op.d_keys),
                           rows_of<S>(op.d_values),
                           rows_of<S>(op.d_logits),
                           rows_of<S>(op.d_q),
                           rows_of<S>(op.d_k),
                           rows_of<S>(op.d_v),
                           workspace,
                           of_head};
    launch(flow_backward_kernel<S>, blocks_for(s), dim3(kWarps * kWarp), 0, queue.stream, back);
    const float *d_b = workspace + s.T * s.D_qk, *d_v = d_b + s.T * s.D_qk;
    map(s.B * s.T, s.KV * s.D_qk, false, queue.stream,
        AddHeads<S>{back.d_k, {d_b, s.H * of_head, of_head, s.D_qk}, s.T, s.D_qk, group});
    map(s.B * s.T, s.KV * s.D_v, false, queue.stream,
        AddHeads<S>{back.d_v, {d_v, s.H * of_head, of_head, s.D_v}, s.T, s.D_v, group});
  });
}

template <>
int64_t workspace_for(const FlowBackward::Sizes& sizes) {
  return sizes.shape.B * sizes.shape.H * FlowBackward::of_head(sizes.shape);
}

}  // namespace sluice::cuda
