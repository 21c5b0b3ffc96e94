// Mixture of heads on the CPU: a row at a time; the balance a sequence at a time.
#include "kernels/ops/stages/route_heads.h"

#include "kernels/cpu/isa/rows.h"

namespace sluice::SLUICE_ISA {
namespace {

// A row's logits, and the exponentials of each part less its largest.
template <class A>
struct RowLogits {
  A l[kMostRoutingLogits], u[kMostRoutingLogits];

  template <class S>
  SLUICE_INLINE void read(const S* logits, const HeadRouting& r) {
    int i = 0;
    do l[i] = load_one(logits + i);  // one at least
    while (++i < r.logits());
    exponentials(0, r.routed());
    exponentials(r.routed(), r.shared_logits());
    exponentials(r.parts_at(), r.part_logits());
  }

  SLUICE_INLINE void exponentials(int first, int count) {
    if (count == 0) return;
    const A *from = l + first, most = largest_of(from, count);
    A* to = u + first;
    for_vectors<A>(count, [=](int64_t i, int64_t n) SLUICE_INLINE_BODY {
      store_some(to + i, exp_of(load_some(from + i, n) - Vec<A>(most)), n);
    });
  }
};

template <class S>
SLUICE_INLINE void scale_head(S* out, const S* x, Acc<S> factor, int64_t D) {
  for_vectors<Acc<S>>(D, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    store_some(out + i, Vec<Acc<S>>(factor) * load_some(x + i, count), count);
  });
}

template <class S>
SLUICE_INLINE Acc<S> dot_of(const S* a, const S* b, int64_t D) {
  return sum_over<Acc<S>>(D, [=](int64_t i, int64_t count)
                                 SLUICE_INLINE_BODY { return load_some(a + i, count) * load_some(b + i, count); });
}

template <class S>
void forward_row(const RouteHeadsForward& op, int64_t n, int64_t D) {
  using A = Acc<S>;
  RowLogits<A> row;
  A factor[kMostRoutedHeads];
  row.read(row_of<S>(op.logits, n), op.routing);
  head_factors(factor, row.l, row.u, op.routing);
  const S* x = row_of<S>(op.x, n);
  S* out = row_of<S>(op.out, n);
  for (int64_t h = 0; h < op.routing.heads; ++h) scale_head<S>(out + h * D, x + h * D, factor[h], D);
}

template <class S>
void backward_row(const RouteHeadsBackward& op, int64_t n, int64_t D) {
  using A = Acc<S>;
  const HeadRouting& r = op.forward.routing;
  RowLogits<A> row;
  A factor[kMostRoutedHeads], t[kMostRoutedHeads], d_logits[kMostRoutingLogits];
  row.read(row_of<S>(op.forward.logits, n), r);
  const S *x = row_of<S>(op.forward.x, n), *d = row_of<S>(op.d_out, n);
  for (int64_t h = 0; h < r.heads; ++h) t[h] = dot_of<S>(d + h * D, x + h * D, D);
  head_factors_backward(d_logits, factor, t, row.l, row.u, r);
  S *d_x = row_of<S>(op.d_x, n), *to = row_of<S>(op.d_logits, n);
  for (int64_t h = 0; h < r.heads; ++h) scale_head<S>(d_x + h * D, d + h * D, factor[h], D);
  for (int64_t i = 0; i < r.logits(); ++i) store_one(to + i, d_logits[i]);
}

// The loss of one sequence.
template <class S>
Acc<S> balance(const RouteBalance& op, int64_t sequence) {
  using A = Acc<S>;
  const HeadRouting& r = op.routing;
  const int E = r.routed();
  const int64_t first = sequence * op.T;
  RowLogits<A> row;
  A p[kMostRoutedHeads] = {}, m[kMostRoutedHeads] = {}, d_logits[kMostRoutedHeads];
  for (int64_t n = first; n < first + op.T; ++n) {
    row.read(row_of<S>(op.logits, n), r);
    const A inverse = A(1) / sum_of_all(row.u, E);
    for (int e = 0; e < E; ++e) {
      p[e] += row.u[e] * inverse;
      if (is_active(row.l, e, r)) m[e] += A(1);
    }
  }
  const A per_row = A(1) / A(op.T), scale = A(E) / A(r.active);
  A loss = 0;
  for (int e = 0; e < E; ++e) {
    loss += scale * (p[e] * per_row) * (m[e] * per_row);
    m[e] *= A(op.grad_scale) * scale * per_row * per_row;  // dL/dp of every row
  }
  for (int64_t n = first; n < first + op.T; ++n) {
    row.read(row_of<S>(op.logits, n), r);
    S* to = row_of<S>(op.d_logits, n);
    through_softmax(d_logits, row.u, E, false, m);
    for (int e = 0; e < E; ++e) store_one(to + e, load_one(to + e) + d_logits[e]);
  }
  return loss;
}

// Of the routed heads' queries; returns 1 / sigma.
template <class S>
SLUICE_INLINE Acc<S> lengths_of(Acc<S>* length, const S* q, int count, int64_t D, Acc<S>& mean) {
  using A = Acc<S>;
  using V = Vec<A>;
  for (int e = 0; e < count; ++e) length[e] = sqrt_of(V(dot_of<S>(q + e * D, q + e * D, D)))[0];
  return (V(1) / sqrt_of(V(length_variance(length, count, mean))))[0];
}

template <class S>
void lengths_row(const QueryLengthsForward& op, int64_t n, int64_t D) {
  using A = Acc<S>;
  const int count = int(op.heads - op.shared);
  A length[kMostRoutedHeads], mean;
  const A inverse = lengths_of<S>(length, row_of<S>(op.q, n) + op.shared * D, count, D, mean);
  S* logits = row_of<S>(op.logits, n);
  for (int e = 0; e < count; ++e) store_one(logits + e, length[e] * inverse);
}

template <class S>
void lengths_backward_row(const QueryLengthsBackward& op, int64_t n, int64_t D) {
  using A = Acc<S>;
  const int count = int(op.heads - op.shared);
  A length[kMostRoutedHeads], d[kMostRoutedHeads], slope[kMostRoutedHeads], mean;
  const S *q = row_of<S>(op.q, n) + op.shared * D, *d_logits = row_of<S>(op.d_logits, n);
  const A inverse = lengths_of<S>(length, q, count, D, mean);
  for (int e = 0; e < count; ++e) d[e] = load_one(d_logits + e);
  length_slopes(slope, d, length, count, mean, inverse);
  S* d_q = row_of<S>(op.d_q, n) + op.shared * D;
  for (int e = 0; e < count; ++e, q += D, d_q += D) {
    const Vec<A> factor(slope[e]);
    const S* from = q;
    S* to = d_q;
    for_vectors<A>(D, [=](int64_t i, int64_t some) SLUICE_INLINE_BODY {
      store_some(to + i, load_some(to + i, some) + factor * load_some(from + i, some), some);
    });
  }
}

}  // namespace

template <>
void on(const RouteHeadsForward& op) {
  const int64_t C = op.x.cols();
  with_storage(op.x.dtype, [&](auto tag) {
    for_rows(op.x.rows(), C, [&](int64_t n) { forward_row<decltype(tag)>(op, n, C / op.routing.heads); });
  });
}

template <>
void on(const RouteHeadsBackward& op) {
  const int64_t C = op.d_out.cols();
  with_storage(op.d_out.dtype, [&](auto tag) {
    for_rows(op.d_out.rows(), C, [&](int64_t n) { backward_row<decltype(tag)>(op, n, C / op.forward.routing.heads); });
  });
}

template <>
void on(const RouteBalance& op) {
  const int64_t sequences = op.logits.rows() / op.T;
  with_storage(op.logits.dtype, [&](auto tag) {
    using S = decltype(tag);
    using A = Acc<S>;
    A partial[kRowChunks];
    A* sums = partial;
    for_row_chunks(sequences, op.T * op.logits.cols(), [&](int64_t chunk, int64_t first, int64_t end) {
      A sum = 0;
      for (int64_t sequence = first; sequence < end; ++sequence) sum += balance<S>(op, sequence);
      sums[chunk] = sum;
    });
    A total = 0;
    for (int64_t chunk = 0; chunk < row_chunks(sequences); ++chunk) total += partial[chunk];
    *static_cast<A*>(op.loss.data) += A(op.value_scale) * total;
  });
}

template <>
void on(const QueryLengthsForward& op) {
  const int64_t C = op.q.cols();
  with_storage(op.q.dtype, [&](auto tag) {
    for_rows(op.q.rows(), C, [&](int64_t n) { lengths_row<decltype(tag)>(op, n, C / op.heads); });
  });
}

template <>
void on(const QueryLengthsBackward& op) {
  const int64_t C = op.q.cols();
  with_storage(op.q.dtype, [&](auto tag) {
    for_rows(op.q.rows(), C, [&](int64_t n) { lengths_backward_row<decltype(tag)>(op, n, C / op.heads); });
  });
}

}  // namespace sluice::SLUICE_ISA
