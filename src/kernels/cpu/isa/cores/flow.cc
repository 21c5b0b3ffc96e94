// What makes causal Flow-Attention of linear attention, on the CPU: a head of a sequence is walked from row to row,
// heads and sequences in parallel. Backward it is walked up for what later rows ask for, then down for what a row's own
// sums do.
#include "kernels/formulas/flow.h"
#include "kernels/cpu/isa/rows.h"
#include "kernels/ops/cores/flow.h"

namespace sluice::SLUICE_ISA {
namespace {

// Sums over features of the rows so far.
template <class A>
struct Flows {
  A K[kMaxHeadSize], Q[kMaxHeadSize], M[kMaxHeadSize], L[kMaxHeadSize];
};

template <class S>
class FlowHead {
 public:
  using A = Acc<S>;
  using V = Vec<A>;

  FlowHead(const FlowForward& op, int64_t b, int64_t h)
      : op_(op), shape_(op.shape), b_(b), h_(h), kv_(h / (shape_.H / shape_.KV)) {}

  void forward() {
    A mass = 0, n = 0;
    clear(sums_);
    A* state = op_.state.data ? row_of<A>(op_.state, b_ * shape_.H + h_) : nullptr;
    if (op_.resume) {
      for_sums([&](A* sum, int64_t i) { copy(sum, state + i * D_); });
      mass = state[4 * D_], n = state[4 * D_ + 1];
    }
    for (int64_t t = 0; t < shape_.T; ++t) {
      if (starts(t) && !(t == 0 && op_.resume)) clear(sums_), mass = n = 0;
      n += 1;
      load_row(t);
      const A incoming = n / gather(sums_.K, b_row_, A(1), a_row_),
              outgoing = n / gather(sums_.Q, a_row_, A(1), b_row_);
      const A logit = gather(sums_.M, b_row_, outgoing, a_row_) / n, w = gather(sums_.L, a_row_, incoming, b_row_) / n;
      const A x = flow_competitor(w);
      mass += x;
      const A stats[4] = {incoming, outgoing, w, mass};
      for (int64_t i = 0; i < 4; ++i) stat(i)[t] = stats[i];
      const int64_t row = this->row(t);
      scale(row_of<S>(op_.queries, row) + h_ * D_, a_row_, incoming / n, D_);
      scale(row_of<S>(op_.keys, row) + h_ * D_, b_row_, A(1), D_);
      scale(row_of<S>(op_.values, row) + h_ * shape_.D_v, value(t), n * x / mass, shape_.D_v);
      store_one(row_of<S>(op_.logits, row) + h_, logit);
    }
    if (!state) return;
    for_sums([&](A* sum, int64_t i) { copy(state + i * D_, sum); });
    state[4 * D_] = mass, state[4 * D_ + 1] = n;
  }

  void backward(const FlowBackward& op) {
    A* workspace = static_cast<A*>(op.workspace.data) + (b_ * shape_.H + h_) * FlowBackward::of_head(shape_);
    d_a_ = workspace, d_b_ = d_a_ + shape_.T * D_, d_v_ = d_b_ + shape_.T * D_, scalars_ = d_v_ + shape_.T * shape_.D_v;
    walk_up(op);
    walk_down(op);
  }

 private:
  // What rows from t on ask for: all but the shares of the sums before it.
  void walk_up(const FlowBackward& op) {
    A later_mass = 0;
    clear(sums_);
    for (int64_t t = shape_.T; t-- > 0;) {
      if (t + 1 == shape_.T || starts(t + 1)) clear(sums_), later_mass = 0;
      load_row(t);
      const A n = count(t), I = stat(0)[t], O = stat(1)[t], w = stat(2)[t], E = stat(3)[t], x = flow_competitor(w);
      const int64_t row = this->row(t);
      const S *d_query = row_of<S>(op.d_queries, row) + h_ * D_, *d_key = row_of<S>(op.d_keys, row) + h_ * D_,
              *d_value = row_of<S>(op.d_values, row) + h_ * shape_.D_v;
      const A d_compete = dot(d_value, value(t), shape_.D_v), share = n * x / E;
      A* d_v = d_v_ + t * shape_.D_v;
      for_vectors<A>(shape_.D_v, [=](int64_t i, int64_t c) SLUICE_INLINE_BODY {
        store_some(d_v + i, V(share) * load_some(d_value + i, c), c);
      });
      later_mass += -d_compete * share / E;
      const A d_w = flow_competitor_gradient(w, x, d_compete * n / E + later_mass) / n;
      add(sums_.L, b_row_, d_w);
      add(sums_.M, a_row_, load_one(row_of<S>(op.d_logits, row) + h_) / n);
      A *d_a = d_a_ + t * D_, *d_b = d_b_ + t * D_;
      const A *L = sums_.L, *M = sums_.M, *a = a_row_, *b = b_row_;
      const A d_I = sum_over<A>(D_, [=](int64_t i, int64_t c) SLUICE_INLINE_BODY {
        const V d = load_some(d_query + i, c) / V(n) + load_some(L + i, c);
        store_some(d_a + i, V(I) * d, c);
        return d * load_some(a + i, c);
      });
      const A d_O = sum_over<A>(D_, [=](int64_t i, int64_t c) SLUICE_INLINE_BODY {
        const V d = load_some(M + i, c);
        store_some(d_b + i, load_some(d_key + i, c) + V(O) * d, c);
        return d * load_some(b + i, c);
      });
      const A to_K = -I * I / n * d_I, to_Q = -O * O / n * d_O;
      add(sums_.K, a_row_, to_K);
      add(sums_.Q, b_row_, to_Q);
      const A *K = sums_.K, *Q = sums_.Q;
      for_vectors<A>(D_, [=](int64_t i, int64_t c) SLUICE_INLINE_BODY {
        store_some(d_a + i, load_some(d_a + i, c) + load_some(Q + i, c), c);
        store_some(d_b + i, load_some(d_b + i, c) + load_some(K + i, c), c);
      });
      scalars_[t] = to_K, scalars_[shape_.T + t] = to_Q, scalars_[2 * shape_.T + t] = d_w;
    }
  }

  // Those shares, and through the sigmoids.
  void walk_down(const FlowBackward& op) {
    clear(sums_);
    for (int64_t t = 0; t < shape_.T; ++t) {
      if (starts(t)) clear(sums_);
      load_row(t);
      add_row(sums_.K, b_row_, A(1)), add_row(sums_.Q, a_row_, A(1));
      add_row(sums_.M, b_row_, stat(1)[t]), add_row(sums_.L, a_row_, stat(0)[t]);
      const int64_t row = this->row(t);
      const V to_K(scalars_[t]), to_Q(scalars_[shape_.T + t]), to_L(scalars_[2 * shape_.T + t]),
          to_M(load_one(row_of<S>(op.d_logits, row) + h_) / count(t)), e{A(kFlowEpsilon)};
      const A *K = sums_.K, *Q = sums_.Q, *M = sums_.M, *L = sums_.L, *a = a_row_, *b = b_row_, *d_a = d_a_ + t * D_;
      A* d_b = d_b_ + t * D_;
      S* d_q = row_of<S>(op.d_q, row) + h_ * D_;
      for_vectors<A>(D_, [=](int64_t i, int64_t c) SLUICE_INLINE_BODY {
        const V x = load_some(a + i, c), y = load_some(b + i, c);
        const V of_a = load_some(d_a + i, c) + to_M * (load_some(M + i, c) + e) + to_K * (load_some(K + i, c) + e);
        const V of_b = load_some(d_b + i, c) + to_L * (load_some(L + i, c) + e) + to_Q * (load_some(Q + i, c) + e);
        store_some(d_q + i, of_a * x * (V(1) - x), c);
        store_some(d_b + i, of_b * y * (V(1) - y), c);
      });
    }
  }

  SLUICE_INLINE int64_t row(int64_t t) const { return b_ * shape_.T + t; }
  SLUICE_INLINE const S* value(int64_t t) const { return row_of<S>(op_.v, row(t)) + kv_ * shape_.D_v; }
  SLUICE_INLINE A* stat(int64_t i) const {
    return static_cast<A*>(op_.stats.data) + ((i * shape_.B + b_) * shape_.H + h_) * shape_.T;
  }
  SLUICE_INLINE int64_t first(int64_t t) const {
    return op_.first_key.data ? static_cast<const int32_t*>(op_.first_key.data)[row(t)] : 0;
  }
  SLUICE_INLINE bool starts(int64_t t) const { return t == 0 || (op_.first_key.data && first(t) == t); }
  SLUICE_INLINE A count(int64_t t) const { return A(t - first(t) + 1); }

  void load_row(int64_t t) {
    squash(a_row_, row_of<S>(op_.q, row(t)) + h_ * D_);
    squash(b_row_, row_of<S>(op_.k, row(t)) + kv_ * D_);
  }
  SLUICE_INLINE void squash(A* to, const S* from) const {
    for_vectors<A>(D_, [=](int64_t i, int64_t c)
                           SLUICE_INLINE_BODY { store_some(to + i, sigmoid_of(load_some(from + i, c)), c); });
  }
  // sum += factor * x; then (y + e) . (sum + e)
  SLUICE_INLINE A gather(A* sum, const A* x, A factor, const A* y) const {
    const V e{A(kFlowEpsilon)};
    return sum_over<A>(D_, [=](int64_t i, int64_t c) SLUICE_INLINE_BODY {
      const V now = load_some(sum + i, c) + V(factor) * load_some(x + i, c);
      store_some(sum + i, now, c);
      return (load_some(y + i, c) + e) * (now + e);
    });
  }
  // sum += factor * x
  SLUICE_INLINE void add_row(A* sum, const A* x, A factor) const {
    for_vectors<A>(D_, [=](int64_t i, int64_t c) SLUICE_INLINE_BODY {
      store_some(sum + i, load_some(sum + i, c) + V(factor) * load_some(x + i, c), c);
    });
  }
  // sum += factor * (x + e)
  SLUICE_INLINE void add(A* sum, const A* x, A factor) const {
    const V e{A(kFlowEpsilon)};
    for_vectors<A>(D_, [=](int64_t i, int64_t c) SLUICE_INLINE_BODY {
      store_some(sum + i, load_some(sum + i, c) + V(factor) * (load_some(x + i, c) + e), c);
    });
  }
  template <class From>
  SLUICE_INLINE void scale(S* to, const From* from, A factor, int64_t D) const {
    for_vectors<A>(
        D, [=](int64_t i, int64_t c) SLUICE_INLINE_BODY { store_some(to + i, V(factor) * load_some(from + i, c), c); });
  }
  SLUICE_INLINE A dot(const S* x, const S* y, int64_t D) const {
    return sum_over<A>(
        D, [=](int64_t i, int64_t c) SLUICE_INLINE_BODY { return load_some(x + i, c) * load_some(y + i, c); });
  }
  SLUICE_INLINE void clear(Flows<A>& sums) const { std::memset(&sums, 0, sizeof sums); }
  SLUICE_INLINE void copy(A* to, const A* from) const { std::memcpy(to, from, size_t(D_) * sizeof(A)); }
  template <class F>
  SLUICE_INLINE void for_sums(F f) {
    f(sums_.K, 0), f(sums_.Q, 1), f(sums_.M, 2), f(sums_.L, 3);
  }

  const FlowForward& op_;
  const AttentionShape& shape_;
  const int64_t b_, h_, kv_, D_ = shape_.D_qk;
  A *d_a_ = nullptr, *d_b_ = nullptr, *d_v_ = nullptr, *scalars_ = nullptr;
  Flows<A> sums_;
  A a_row_[kMaxHeadSize], b_row_[kMaxHeadSize];
};

// to = the sum over a group's heads of row(head, t).
template <class S, class RowOf>
SLUICE_INLINE void store_sum(S* to, int64_t group, int64_t D, RowOf row_of_head) {
  using A = Acc<S>;
  for_vectors<A>(D, [&](int64_t i, int64_t c) {
    Vec<A> sum = load_some(row_of_head(0) + i, c);
    for (int64_t h = 1; h < group; ++h) sum += load_some(row_of_head(h) + i, c);
    store_some(to + i, sum, c);
  });
}

template <class S>
void group_back(const FlowBackward& op, int64_t b, int64_t g) {
  using A = Acc<S>;
  const AttentionShape& s = op.forward.shape;
  const int64_t group = s.H / s.KV, of_head = FlowBackward::of_head(s);
  for (int64_t h = g * group; h < (g + 1) * group; ++h) FlowHead<S>(op.forward, b, h).backward(op);
  const A* first = static_cast<const A*>(op.workspace.data) + (b * s.H + g * group) * of_head;
  for (int64_t t = 0; t < s.T; ++t) {
    const A *d_b = first + (s.T + t) * s.D_qk, *d_v = first + 2 * s.T * s.D_qk + t * s.D_v;
    store_sum(row_of<S>(op.d_k, b * s.T + t) + g * s.D_qk, group, s.D_qk, [&](int64_t h) { return d_b + h * of_head; });
    store_sum(row_of<S>(op.d_v, b * s.T + t) + g * s.D_v, group, s.D_v, [&](int64_t h) { return d_v + h * of_head; });
  }
}

}  // namespace

template <>
void on(const FlowForward& op) {
  const AttentionShape& s = op.shape;
  with_storage(op.q.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_rows(s.B * s.H, s.T * s.D_qk, [&](int64_t i) { FlowHead<S>(op, i / s.H, i % s.H).forward(); });
  });
}

template <>
void on(const FlowBackward& op) {
  const AttentionShape& s = op.forward.shape;
  with_storage(op.forward.q.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_rows(s.B * s.KV, s.T * s.D_qk, [&](int64_t i) { group_back<S>(op, i / s.KV, i % s.KV); });
  });
}

}  // namespace sluice::SLUICE_ISA
