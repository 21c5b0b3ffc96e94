// Running averages by the keys' own scores on the CPU: a head of a sequence is walked from row to row, heads and
// sequences in parallel.
#include "kernels/ops/cores/key_only.h"

#include "kernels/cpu/isa/rows.h"
#include "kernels/formulas/key_only.h"

namespace sluice::SLUICE_ISA {
namespace {

// Where the things of one head of one sequence lie.
template <class S>
struct Head {
  const KeyOnlyForward& op;
  int64_t b, h;

  SLUICE_INLINE int64_t group() const { return op.shape.H / op.shape.KV; }
  SLUICE_INLINE int64_t row(int64_t t) const { return b * op.shape.T + t; }
  SLUICE_INLINE S* of_query(const Tensor& x, int64_t t) const { return row_of<S>(x, row(t)) + h * op.shape.D_qk; }
  SLUICE_INLINE S* of_key(const Tensor& x, int64_t t) const {
    return row_of<S>(x, row(t)) + h / group() * op.shape.D_qk;
  }
  SLUICE_INLINE S* of_value(const Tensor& x, int64_t t) const {
    return row_of<S>(x, row(t)) + h / group() * op.shape.D_v;
  }
  SLUICE_INLINE S* of_result(const Tensor& x, int64_t t) const { return row_of<S>(x, row(t)) + h * op.shape.D_v; }
  SLUICE_INLINE Acc<S>* betas() const {
    return static_cast<Acc<S>*>(op.betas.data) + (b * op.shape.H + h) * op.shape.T;
  }
  SLUICE_INLINE bool starts(int64_t t) const {
    if (t == 0) return !op.resume;
    return op.first_key.data && static_cast<const int32_t*>(op.first_key.data)[row(t)] == t;
  }
  SLUICE_INLINE Acc<S> score(int64_t t) const {
    const S *q = of_query(op.q, t), *k = of_key(op.k, t);
    const Acc<S> sum = sum_over<Acc<S>>(op.shape.D_qk, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      return Silu::forward<Acc<S>>(load_some(q + i, count)) * load_some(k + i, count);
    });
    return sum * Acc<S>(op.scale);
  }
};

// A head's state: its average, then its mass.
template <class S>
void average_head(const Head<S>& head) {
  using A = Acc<S>;
  const AttentionShape& shape = head.op.shape;
  const int64_t D = shape.D_v;
  A average[kMaxHeadSize] = {};
  RunningMass<A> mass{0, 0};
  A* state = head.op.state.data ? row_of<A>(head.op.state, head.b) + head.h * (D + 2) : nullptr;
  if (head.op.resume) {
    for (int64_t i = 0; i < D; ++i) average[i] = state[i];
    mass = {state[D], state[D + 1]};
  }
  A* betas = head.betas();
  for (int64_t t = 0; t < shape.T; ++t) {
    const bool anew = head.starts(t);
    betas[t] = mass.add(head.score(t), anew);
    const Vec<A> beta(betas[t]);
    const S* v = head.of_value(head.op.v, t);
    S* out = head.of_result(head.op.out, t);
    A* to = average;
    for_vectors<A>(D, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      const Vec<A> value = load_some(v + i, count), before = load_some(to + i, count);
      const Vec<A> now = anew ? value : before + beta * (value - before);
      store_some(to + i, now, count);
      store_some(out + i, now, count);
    });
  }
  if (!state) return;
  for (int64_t i = 0; i < D; ++i) state[i] = average[i];
  state[D] = mass.largest, state[D + 1] = mass.sum;
}

// Sums over the heads of a group at one row.
template <class A>
struct GroupSums {
  A d_k[kMaxHeadSize], d_v[kMaxHeadSize];
};

// One head at row t. `slope` [D_v] is G of the row after and becomes this row's, `along` in the same way c.
template <class S>
void head_back(const Head<S>& head, const KeyOnlyBackward& op, int64_t t, Acc<S>* slope, Acc<S>& along,
               GroupSums<Acc<S>>& sums, bool first) {
  using A = Acc<S>;
  using V = Vec<A>;
  const AttentionShape& shape = head.op.shape;
  const A* betas = head.betas();
  const A beta = betas[t], keep = t + 1 == shape.T ? A(0) : A(1) - betas[t + 1];
  const bool last = keep == A(0);  // of its document, or of what later rows keep anything of
  const S *d = head.of_result(op.d_out, t), *out = head.of_result(head.op.out, t), *v = head.of_value(head.op.v, t);
  A* d_v = sums.d_v;
  for_vectors<A>(shape.D_v, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    const V now = load_some(d + i, count) + (last ? V(0) : V(keep) * load_some(slope + i, count));
    store_some(slope + i, now, count);
    const V term = V(beta) * now;
    store_some(d_v + i, first ? term : load_some(d_v + i, count) + term, count);
  });
  const auto dot = [&](const auto* x, const auto* y) {
    return sum_over<A>(shape.D_v, [=](int64_t i, int64_t count)
                                      SLUICE_INLINE_BODY { return load_some(x + i, count) * load_some(y + i, count); });
  };
  along = dot(d, out) + (last ? A(0) : keep * along);
  const V d_score(beta * (dot(slope, v) - along) * A(head.op.scale));
  const S *q = head.of_query(head.op.q, t), *k = head.of_key(head.op.k, t);
  S* d_q = head.of_query(op.d_q, t);
  A* d_k = sums.d_k;
  for_vectors<A>(shape.D_qk, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    V active;
    const V d_query = Silu::backward<A>(d_score, load_some(q + i, count), active), term = d_score * active;
    store_some(d_q + i, d_query * load_some(k + i, count), count);
    store_some(d_k + i, first ? term : load_some(d_k + i, count) + term, count);
  });
}

// The heads that share one head of keys and values, from the last row up.
template <class S>
void group_back(const KeyOnlyBackward& op, int64_t b, int64_t g) {
  using A = Acc<S>;
  const AttentionShape& shape = op.forward.shape;
  const int64_t group = shape.H / shape.KV, D = shape.D_v;
  A* workspace = static_cast<A*>(op.workspace.data);  // of every head G, then of every head c
  A* slopes = workspace + (b * shape.H + g * group) * D;
  A* alongs = workspace + shape.B * shape.H * D + b * shape.H + g * group;
  GroupSums<A> sums;
  for (int64_t t = shape.T; t-- > 0;) {
    for (int64_t i = 0; i < group; ++i)
      head_back<S>({op.forward, b, g * group + i}, op, t, slopes + i * D, alongs[i], sums, i == 0);
    const Head<S> any{op.forward, b, g * group};
    S *d_k = any.of_key(op.d_k, t), *d_v = any.of_value(op.d_v, t);
    const GroupSums<A>* from = &sums;
    for_vectors<A>(shape.D_qk, [=](int64_t i, int64_t count)
                                   SLUICE_INLINE_BODY { store_some(d_k + i, load_some(from->d_k + i, count), count); });
    for_vectors<A>(D, [=](int64_t i, int64_t count)
                          SLUICE_INLINE_BODY { store_some(d_v + i, load_some(from->d_v + i, count), count); });
  }
}

}  // namespace

template <>
void on(const KeyOnlyForward& op) {
  const int64_t heads = op.shape.B * op.shape.H;
  with_storage(op.q.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_rows(heads, op.shape.T * op.shape.D_v, [&](int64_t i) {
      average_head(Head<S>{op, i / op.shape.H, i % op.shape.H});
    });
  });
}

template <>
void on(const KeyOnlyBackward& op) {
  const AttentionShape& shape = op.forward.shape;
  with_storage(op.forward.q.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_rows(shape.B * shape.KV, shape.T * shape.D_v,
             [&](int64_t i) { group_back<S>(op, i / shape.KV, i % shape.KV); });
  });
}

}  // namespace sluice::SLUICE_ISA
