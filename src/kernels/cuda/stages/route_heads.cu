// Mixture of heads on a GPU: a block for each row, whose first thread does what is one number a head; a block for each
// sequence where rows are counted together.
#include "kernels/ops/stages/route_heads.h"

#include <algorithm>

#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/reduce.cuh"

namespace sluice::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarp;

// What formulas/route_heads.h wants of a row's logits.
__device__ __forceinline__ void exponentials(float* u, const float* l, int count) {
  if (count == 0) return;
  const float most = largest_of(l, count);
  for (int i = 0; i < count; ++i) u[i] = exp_of(l[i] - most);
}

template <class S>
__device__ __forceinline__ void read_row(float* l, float* u, const S* logits, const HeadRouting& r) {
  for (int i = 0; i < r.logits(); ++i) l[i] = load_one(logits + i);
  exponentials(u, l, r.routed());
  exponentials(u + r.routed(), l + r.routed(), r.shared_logits());
  exponentials(u + r.parts_at(), l + r.parts_at(), r.part_logits());
}

// [heads]: dots of the heads' features, by all threads of the block, a warp a head.
template <class S>
__device__ __forceinline__ void head_dots(float* out, const S* a, const S* b, int heads, int64_t D) {
  for (int h = int(threadIdx.x) / kWarp; h < heads; h += kWarps) {
    float sum = 0;
    for (int64_t i = threadIdx.x % kWarp; i < D; i += kWarp) sum += load_one(a + h * D + i) * load_one(b + h * D + i);
    sum = warp_sum(sum);
    if (threadIdx.x % kWarp == 0) out[h] = sum;
  }
}

template <class S>
__device__ __forceinline__ void scale_heads(S* out, const S* x, const float* factor, int heads, int64_t D) {
  for (int64_t i = threadIdx.x; i < heads * D; i += kThreads) store_one(out + i, factor[i / D] * load_one(x + i));
}

template <class S>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(HeadRouting r, Rows<S> x, Rows<S> logits, Rows<S> out, int64_t D) {
  __shared__ float l[kMostRoutingLogits], u[kMostRoutingLogits], factor[kMostRoutedHeads];
  const int64_t row = blockIdx.x;
  if (threadIdx.x == 0) {
    read_row(l, u, logits.at(row, 0), r);
    head_factors(factor, l, u, r);
  }
  __syncthreads();
  scale_heads(out.at(row, 0), x.at(row, 0), factor, r.heads, D);
}

template <class S>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(HeadRouting r, Rows<S> x, Rows<S> logits, Rows<S> d_out, Rows<S> d_x, Rows<S> d_logits, int64_t D) {
  __shared__ float l[kMostRoutingLogits], u[kMostRoutingLogits], d[kMostRoutingLogits];
  __shared__ float factor[kMostRoutedHeads], t[kMostRoutedHeads];
  const int64_t row = blockIdx.x;
  head_dots(t, d_out.at(row, 0), x.at(row, 0), r.heads, D);
  __syncthreads();
  if (threadIdx.x == 0) {
    read_row(l, u, logits.at(row, 0), r);
    head_factors_backward(d, factor, t, l, u, r);
  }
  __syncthreads();
  scale_heads(d_x.at(row, 0), d_out.at(row, 0), factor, r.heads, D);
  for (int i = int(threadIdx.x); i < r.logits(); i += kThreads) store_one(d_logits.at(row, i), d[i]);
}

// ---- the balance ----------------------------------------------------------------------------------------------------

// Sums over a sequence's rows of p_e and m_e, one head after the other; then a row of gradients a thread.
template <class S>
__global__ void __launch_bounds__(kThreads)
    balance_kernel(HeadRouting r, Rows<S> logits, Rows<S> d_logits, float* partial, int64_t sequences, int64_t T,
                   float grad_scale) {
  __shared__ float slope[kMostRoutedHeads];
  float l[kMostRoutedHeads], u[kMostRoutedHeads], d[kMostRoutedHeads];
  const int E = r.routed();
  const float per_row = 1.0f / float(T), scale = float(E) / float(r.active);
  const auto read = [&](int64_t row) {
    for (int e = 0; e < E; ++e) l[e] = load_one(logits.at(row, e));
    exponentials(u, l, E);
  };
  float loss = 0;
  for (int64_t sequence = blockIdx.x; sequence < sequences; sequence += gridDim.x) {
    const int64_t first = sequence * T;
    for (int e = 0; e < E; ++e) {
      float sums[2] = {};
      for (int64_t i = threadIdx.x; i < T; i += kThreads) {
        read(first + i);
        sums[0] += u[e] * (1.0f / sum_of_all(u, E));
        sums[1] += is_active(l, e, r) ? 1.0f : 0.0f;
      }
      team_sums<kWarps>(sums);
      loss += scale * (sums[0] * per_row) * (sums[1] * per_row);
      if (threadIdx.x == 0) slope[e] = sums[1] * grad_scale * scale * per_row * per_row;
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < T; i += kThreads) {
      read(first + i);
      through_softmax(d, u, E, false, slope);
      for (int e = 0; e < E; ++e) store_one(d_logits.at(first + i, e), load_one(d_logits.at(first + i, e)) + d[e]);
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) partial[blockIdx.x] = loss;
}

// ---- lengths of queries ---------------------------------------------------------------------------------------------

// length [count], by all threads; the first has their mean and returns 1 / sigma.
template <class S>
__device__ __forceinline__ float lengths_of(float* length, const S* q, int count, int64_t D, float& mean) {
  head_dots(length, q, q, count, D);
  __syncthreads();
  if (threadIdx.x != 0) return 0;
  for (int e = 0; e < count; ++e) length[e] = sqrt_of(length[e]);
  return 1.0f / sqrt_of(length_variance(length, count, mean));
}

template <class S>
__global__ void __launch_bounds__(kThreads)
    lengths_kernel(Rows<S> q, Rows<S> logits, int shared, int count, int64_t D) {
  __shared__ float length[kMostRoutedHeads];
  const int64_t row = blockIdx.x;
  float mean = 0;
  const float inverse = lengths_of(length, q.at(row, shared * D), count, D, mean);
  if (threadIdx.x == 0)
    for (int e = 0; e < count; ++e) store_one(logits.at(row, e), length[e] * inverse);
}

template <class S>
__global__ void __launch_bounds__(kThreads)
    lengths_backward_kernel(Rows<S> q, Rows<S> d_logits, Rows<S> d_q, int shared, int count, int64_t D) {
  __shared__ float length[kMostRoutedHeads], d[kMostRoutedHeads], slope[kMostRoutedHeads];
  const int64_t row = blockIdx.x;
  float mean = 0;
  const float inverse = lengths_of(length, q.at(row, shared * D), count, D, mean);
  if (threadIdx.x == 0) {
    for (int e = 0; e < count; ++e) d[e] = load_one(d_logits.at(row, e));
    length_slopes(slope, d, length, count, mean, inverse);
  }
  __syncthreads();
  const S* from = q.at(row, shared * D);
  S* to = d_q.at(row, shared * D);
  for (int64_t i = threadIdx.x; i < count * D; i += kThreads)
    store_one(to + i, load_one(to + i) + slope[i / D] * load_one(from + i));
}

// A block for each row.
template <class... P, class... A>
void launch_rows(void (*kernel)(P...), int64_t rows, const Queue& queue, A... args) {
  if (rows > 0) launch(kernel, dim3(unsigned(rows)), dim3(kThreads), 0, queue.stream, args...);
}

}  // namespace

template <>
void on(const RouteHeadsForward& op, const Queue& queue) {
  with_element(view_of(op.x).element, [&](auto storage) {
    using S = decltype(storage);
    launch_rows(forward_kernel<S>, op.x.rows(), queue, op.routing, rows_of<S>(op.x), rows_of<S>(op.logits),
                rows_of<S>(op.out), op.x.cols() / op.routing.heads);
  });
}

template <>
void on(const RouteHeadsBackward& op, const Queue& queue) {
  const RouteHeadsForward& forward = op.forward;
  with_element(view_of(forward.x).element, [&](auto storage) {
    using S = decltype(storage);
    launch_rows(backward_kernel<S>, forward.x.rows(), queue, forward.routing, rows_of<S>(forward.x),
                rows_of<S>(forward.logits), rows_of<S>(op.d_out), rows_of<S>(op.d_x), rows_of<S>(op.d_logits),
                forward.x.cols() / forward.routing.heads);
  });
}

template <>
void on(const RouteBalance& op, const Queue& queue) {
  const int64_t sequences = op.logits.rows() / op.T, blocks = std::min(sequences, kMostPartialSums);
  if (blocks == 0) return;
  float* partial = static_cast<float*>(queue.scratch);
  with_element(view_of(op.logits).element, [&](auto storage) {
    using S = decltype(storage);
    launch(balance_kernel<S>, dim3(unsigned(blocks)), dim3(kThreads), 0, queue.stream, op.routing,
           rows_of<S>(op.logits), rows_of<S>(op.d_logits), partial, sequences, op.T, float(op.grad_scale));
  });
  add_total(op.loss.as<float>(), partial, blocks, op.value_scale, queue.stream);
}

template <>
void on(const QueryLengthsForward& op, const Queue& queue) {
  with_element(view_of(op.q).element, [&](auto storage) {
    using S = decltype(storage);
    launch_rows(lengths_kernel<S>, op.q.rows(), queue, rows_of<S>(op.q), rows_of<S>(op.logits), int(op.shared),
                int(op.heads - op.shared), op.q.cols() / op.heads);
  });
}

template <>
void on(const QueryLengthsBackward& op, const Queue& queue) {
  with_element(view_of(op.q).element, [&](auto storage) {
    using S = decltype(storage);
    launch_rows(lengths_backward_kernel<S>, op.q.rows(), queue, rows_of<S>(op.q), rows_of<S>(op.d_logits),
                rows_of<S>(op.d_q), int(op.shared), int(op.heads - op.shared), op.q.cols() / op.heads);
  });
}

}  // namespace sluice::cuda
