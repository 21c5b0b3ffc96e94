// Kernels over groups of D columns (a head's): gates and their gradients, norms of groups. A gate per element
// has groups of one column and needs no sum.
#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/formulas/gate.h"
#include "kernels/ops/elementwise.h"

namespace sluice::cuda {
namespace {

// --- a gate per element

template <class S, class G>
struct ElementGate {
  Rows<S> out, x, logits;
  bool vector;
  __device__ void operator()(int64_t row, int64_t col, int count) const {
    float v[kPack], gate[kPack];
    load(v, x.at(row, col), count, vector);
    load(gate, logits.at(row, col), count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] *= G::of(gate[i]);
    store(out.at(row, col), v, count, vector);
  }
};

template <class S, class G>
struct ElementGateBackward {
  Rows<S> d_x, d_logits, d_out, x, logits;
  bool vector;
  __device__ void operator()(int64_t row, int64_t col, int count) const {
    float v[kPack], d[kPack], gate[kPack];
    load(v, x.at(row, col), count, vector);
    load(d, d_out.at(row, col), count, vector);
    load(gate, logits.at(row, col), count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      gate[i] = G::of(gate[i]);
      v[i] = G::d_logit(gate[i], d[i] * v[i]);
      d[i] *= gate[i];
    }
    store(d_x.at(row, col), d, count, vector);
    store(d_logits.at(row, col), v, count, vector);
  }
};

// --- a gate per D columns

template <class S, class G>
struct HeadGate {
  Rows<S> out, x, logits;
  int64_t D;
  bool vector;
  __device__ void operator()(int64_t row, int64_t col, int count) const {
    float v[kPack];
    load(v, x.at(row, col), count, vector);
    int64_t head = quotient(col, D), end = (head + 1) * D;
    float gate = G::of(load_one(logits.at(row, head)));
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      if (i < count && col + i == end) {
        end += D;
        gate = G::of(load_one(logits.at(row, ++head)));
      }
      v[i] *= gate;
    }
    store(out.at(row, col), v, count, vector);
  }
};

// --- sums over groups

constexpr int kGroupLanes = 8, kGroupThreads = 256;

// op.term(row, group, col, count) summed over the group's packs by eight lanes, then op.finish(row, group, sum).
template <class Op>
__global__ void __launch_bounds__(kGroupThreads) group_kernel(int64_t rows, int64_t groups, int64_t D, Op op) {
  const int64_t index = (int64_t(blockIdx.x) * kGroupThreads + threadIdx.x) / kGroupLanes;
  const int64_t row = quotient(index, groups), group = index - row * groups;
  const bool valid = row < rows;
  float sum = 0;
  if (valid)
    for (int64_t i = int64_t(threadIdx.x % kGroupLanes) * kPack; i < D; i += kGroupLanes * kPack)
      sum += op.term(row, group, group * D + i, pack_count(D, i));
  sum = warp_sum<kGroupLanes>(sum);
  if (valid && threadIdx.x % kGroupLanes == 0) op.finish(row, group, sum);
}

template <class Op>
void for_groups(int64_t rows, int64_t groups, int64_t D, cudaStream_t stream, const Op& op) {
  constexpr int64_t kPerBlock = kGroupThreads / kGroupLanes;
  const int64_t blocks = (rows * groups + kPerBlock - 1) / kPerBlock;
  if (blocks > 0) launch(group_kernel<Op>, dim3(unsigned(blocks)), dim3(kGroupThreads), 0, stream, rows, groups, D, op);
}

template <class S, class G>
struct HeadGateBackward {
  Rows<S> d_x, d_logits, d_out, x, logits;
  bool vector;
  __device__ float gate(int64_t row, int64_t head) const { return G::of(load_one(logits.at(row, head))); }
  __device__ float term(int64_t row, int64_t head, int64_t col, int count) const {
    const float g = gate(row, head);
    float v[kPack], d[kPack], dot = 0;
    load(v, x.at(row, col), count, vector);
    load(d, d_out.at(row, col), count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      dot += d[i] * v[i];
      d[i] *= g;
    }
    store(d_x.at(row, col), d, count, vector);
    return dot;
  }
  __device__ void finish(int64_t row, int64_t head, float dot) const {
    store_one(d_logits.at(row, head), G::d_logit(gate(row, head), dot));
  }
};

template <class S>
struct GroupNorm {
  Rows<float> out;
  Rows<S> x;
  bool vector;
  __device__ float term(int64_t row, int64_t, int64_t col, int count) const {
    float v[kPack], squares = 0;
    load(v, x.at(row, col), count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) squares += v[i] * v[i];
    return squares;
  }
  __device__ void finish(int64_t row, int64_t group, float squares) const { *out.at(row, group) = sqrt_of(squares); }
};

}  // namespace

template <>
void on(const GateForward& op, const Queue& queue) {
  const View x = view_of(op.x), logits = view_of(op.logits), out = view_of(op.out);
  const bool one_row = flat(out) && flat(x) && flat(logits), vector = vectorizable(out) && vectorizable(x);
  with_element(x.element, [&](auto storage) {
    with_gate(op.activation, [&](auto gate) {
      using S = decltype(storage);
      using G = decltype(gate);
      const Rows<S> to = rows_of<S>(out), from = rows_of<S>(x), gates = rows_of<S>(logits);
      if (op.grain == GateGrain::kElement)
        map(x.rows, x.cols, one_row, queue.stream, ElementGate<S, G>{to, from, gates, vector && vectorizable(logits)});
      else map(x.rows, x.cols, one_row, queue.stream, HeadGate<S, G>{to, from, gates, x.cols / op.heads, vector});
    });
  });
}

template <>
void on(const GateBackward& op, const Queue& queue) {
  const View x = view_of(op.forward.x), logits = view_of(op.forward.logits), d_out = view_of(op.d_out);
  const View d_x = view_of(op.d_x), d_logits = view_of(op.d_logits);
  const bool one_row = flat(d_out) && flat(d_x) && flat(x) && flat(logits) && flat(d_logits);
  const bool vector = vectorizable(d_out) && vectorizable(d_x) && vectorizable(x);
  const int64_t heads = op.forward.heads, D = x.cols / heads;
  with_element(x.element, [&](auto storage) {
    with_gate(op.forward.activation, [&](auto gate) {
      using S = decltype(storage);
      using G = decltype(gate);
      const Rows<S> to = rows_of<S>(d_x), to_logits = rows_of<S>(d_logits), from = rows_of<S>(d_out);
      const Rows<S> values = rows_of<S>(x), gates = rows_of<S>(logits);
      if (op.forward.grain == GateGrain::kElement)
        map(x.rows, x.cols, one_row, queue.stream,
            ElementGateBackward<S, G>{to, to_logits, from, values, gates,
                                      vector && vectorizable(logits) && vectorizable(d_logits)});
      else
        for_groups(x.rows, heads, D, queue.stream,
                   HeadGateBackward<S, G>{to, to_logits, from, values, gates, vector && D % kPack == 0});
    });
  });
}

template <>
void on(const GroupNorms& op, const Queue& queue) {
  const View out = view_of(op.out), x = view_of(op.x);
  const int64_t D = x.cols / op.groups;
  with_element(x.element, [&](auto storage) {
    using S = decltype(storage);
    for_groups(x.rows, op.groups, D, queue.stream,
               GroupNorm<S>{rows_of<float>(out), rows_of<S>(x), vectorizable(x) && D % kPack == 0});
  });
}

}  // namespace sluice::cuda
