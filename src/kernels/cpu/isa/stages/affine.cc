// Affine-scaled attention on the CPU: a row at a time, head by head.
#include "kernels/ops/stages/affine.h"

#include "kernels/cpu/isa/rows.h"

namespace sluice::SLUICE_ISA {
namespace {

template <class S>
void affine_row(const AffineForward& op, int64_t n, int64_t D) {
  using A = Acc<S>;
  using V = Vec<A>;
  const S *y = row_of<S>(op.y, n), *u = row_of<S>(op.u, n), *logits = row_of<S>(op.logits, n);
  const A* average = static_cast<const A*>(op.average.data);
  S* out = row_of<S>(op.out, n);
  const int64_t group = op.heads / op.kv_heads;
  for (int64_t h = 0; h < op.heads; ++h, y += D, out += D) {
    if (h > 0 && h % group == 0) u += D;
    const V a = phi_of(op.phi, V(load_one(logits + h))), m(average[h]);
    for_vectors<A>(D, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      store_some(out + i, affine_result(load_some(y + i, count), load_some(u + i, count), a, m), count);
    });
  }
}

// One head. The gradient of u is summed over a group's heads in fp32 or f64 (`sum`, [D]). Returns d . (y - u).
template <class S>
SLUICE_INLINE Acc<S> backward_head(S* d_y, Acc<S>* sum, const S* d, const S* y, const S* u, Vec<Acc<S>> a,
                                   Vec<Acc<S>> m, bool first, int64_t D) {
  using A = Acc<S>;
  using V = Vec<A>;
  return sum_over<A>(D, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    const V slope = load_some(d + i, count);  // before d_y is written: it may be d
    const V term = slope * (load_some(y + i, count) - load_some(u + i, count)), share = (m - a) * slope;
    store_some(sum + i, first ? share : load_some(sum + i, count) + share, count);
    store_some(d_y + i, a * slope, count);
    return term;
  });
}

template <class S>
void affine_backward_row(const AffineBackward& op, int64_t n, int64_t D) {
  using A = Acc<S>;
  using V = Vec<A>;
  const AffineForward& forward = op.forward;
  const S* logits = row_of<S>(forward.logits, n);
  S* d_logits = row_of<S>(op.d_logits, n);
  const A* average = static_cast<const A*>(forward.average.data);
  const int64_t group = forward.heads / forward.kv_heads;
  A sum[AffineForward::kMostFeatures];
  for (int64_t h = 0; h < forward.heads; ++h) {
    const int64_t at = h * D, from = h / group * D;
    const V z(load_one(logits + h));
    const A dot =
        backward_head(row_of<S>(op.d_y, n) + at, sum, row_of<S>(op.d_out, n) + at, row_of<S>(forward.y, n) + at,
                      row_of<S>(forward.u, n) + from, phi_of(forward.phi, z), V(average[h]), h % group == 0, D);
    store_one(d_logits + h, (phi_slope(forward.phi, z) * V(dot))[0]);
    if (h % group < group - 1) continue;
    S* d_u = row_of<S>(op.d_u, n) + from;
    const A* of_group = sum;
    for_vectors<A>(D, [=](int64_t i, int64_t count)
                          SLUICE_INLINE_BODY { store_some(d_u + i, load_some(of_group + i, count), count); });
  }
}

constexpr int64_t kMeanChunk = 256;  // rows that are summed before they are added to the others

// mean[h] += factor * sum over rows of phi(logits[h]), of the heads in one vector.
template <class S>
void add_mean(const AffineMean& op, int64_t first, int64_t count) {
  using A = Acc<S>;
  using V = Vec<A>;
  const int64_t N = op.logits.rows();
  V total(0);
  for (int64_t start = 0; start < N; start += kMeanChunk) {
    V sum(0);
    for (int64_t n = start; n < min_of(N, start + kMeanChunk); ++n)
      sum += phi_of(op.phi, load_some(row_of<S>(op.logits, n) + first, count));
    total += sum;
  }
  A* mean = static_cast<A*>(op.mean.data) + first;
  store_some(mean, load_some(mean, count) + V(A(op.share / double(N))) * total, count);
}

}  // namespace

template <>
void on(const AffineForward& op) {
  const int64_t C = op.y.cols();
  with_storage(op.y.dtype, [&](auto tag) {
    for_rows(op.y.rows(), C, [&](int64_t n) { affine_row<decltype(tag)>(op, n, C / op.heads); });
  });
}

template <>
void on(const AffineBackward& op) {
  const int64_t C = op.d_out.cols();
  with_storage(op.d_out.dtype, [&](auto tag) {
    for_rows(op.d_out.rows(), C, [&](int64_t n) { affine_backward_row<decltype(tag)>(op, n, C / op.forward.heads); });
  });
}

template <>
void on(const AffineMean& op) {
  with_storage(op.logits.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_vectors<Acc<S>>(op.logits.cols(), [&](int64_t first, int64_t count) { add_mean<S>(op, first, count); });
  });
}

}  // namespace sluice::SLUICE_ISA
