// Differences of heads on the CPU: a row at a time; and the factor that a layer learns for all of them.
#include "kernels/ops/stages/difference.h"

#include "kernels/cpu/isa/rows.h"
#include "kernels/formulas/gate.h"

namespace sluice::SLUICE_ISA {
namespace {

// A row's factors: of its logits, or where there are none each head's, clamped, or one for all.
template <class S>
struct Factors {
  using V = Vec<Acc<S>>;
  const S* logits;
  const Acc<S>* learned;
  bool clamped;
  SLUICE_INLINE V of(int64_t h) const {
    if (logits) return gate_of(V(load_one(logits + h)));
    return clamped ? clamped_factor(V(learned[h])) : V(*learned);
  }
  // The gradient of head h's logit or number from that of its factor.
  SLUICE_INLINE V gradient(int64_t h, V factor, V d_factor) const {
    if (logits) return gate_logit_gradient(factor, d_factor);
    return clamped ? clamped_factor_gradient(V(learned[h]), d_factor) : d_factor;
  }
};

template <class S>
SLUICE_INLINE Factors<S> factors_of(const DifferenceForward& op, int64_t n) {
  if (op.has_logits()) return {row_of<S>(op.lambda, n), nullptr, false};
  return {nullptr, static_cast<const Acc<S>*>(op.lambda.data), op.clamped};
}

template <class S>
void difference_row(S* out, const S* x, const Factors<S>& factors, const DifferenceLayout& layout, int64_t D) {
  using A = Acc<S>;
  for (int64_t h = 0; h < layout.heads; ++h, out += D) {
    const S *signal = x + layout.signal_at(h) * D, *noise = x + layout.noise_at(h / layout.signal) * D;
    const Vec<A> factor = factors.of(h);
    for_vectors<A>(D, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      store_some(out + i, less(load_some(signal + i, count), load_some(noise + i, count), factor), count);
    });
  }
}

// One head and its signals, whose gradients lie side by side at `d`; `d_signal` is theirs in x. `sum` [signals]: their
// factors.
template <class S>
void backward_group(S* d_noise, S* d_signal, S* d_lambda, const S* d, const S* noise, Acc<S>* sum,
                    const Factors<S>& factors, int64_t first, int64_t signals, int64_t D) {
  using A = Acc<S>;
  using V = Vec<A>;
  for (int64_t s = 0; s < signals; ++s) {
    const S* slope = d + s * D;
    S* to = d_signal + s * D;
    const V dot(sum_over<A>(D, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      const V one = load_some(slope + i, count);
      store_some(to + i, one, count);
      return one * load_some(noise + i, count);
    }));
    const V factor = factors.of(first + s), d_factor = difference_factor_gradient(dot);
    sum[s] = factor[0];
    store_one(d_lambda + s, factors.gradient(first + s, factor, d_factor)[0]);
  }
  for_vectors<A>(D, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    V total(0);
    for (int64_t s = 0; s < signals; ++s) total = less(total, load_some(d + s * D + i, count), V(sum[s]));
    store_some(d_noise + i, total, count);
  });
}

template <class A>
SLUICE_INLINE Vec<A> exponential(const A* q, const A* k, int64_t D) {
  const A dot = sum_over<A>(D, [=](int64_t i, int64_t count)
                                   SLUICE_INLINE_BODY { return load_some(q + i, count) * load_some(k + i, count); });
  return exp_of(Vec<A>(dot));
}

// d_q (+)= slope k
template <class A>
void add_scaled(A* d_q, const A* k, Vec<A> slope, int64_t D, bool accumulate) {
  for_vectors<A>(D, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    const Vec<A> term = slope * load_some(k + i, count);
    store_some(d_q + i, accumulate ? load_some(d_q + i, count) + term : term, count);
  });
}

template <class A>
void factor_backward(const DifferenceFactorBackward& op) {
  const int64_t D = op.vectors.cols();
  const A *x = static_cast<const A*>(op.vectors.data), *d = static_cast<const A*>(op.d_out.data);
  A* out = static_cast<A*>(op.d_vectors.data);
  const Vec<A> slope(sum_over<A>(op.d_out.elements(),
                                 [=](int64_t i, int64_t count) SLUICE_INLINE_BODY { return load_some(d + i, count); }));
  const Vec<A> first = slope * exponential(x, x + D, D),
               second = Vec<A>(0) - slope * exponential(x + 2 * D, x + 3 * D, D);
  add_scaled(out, x + D, first, D, op.accumulate);
  add_scaled(out + D, x, first, D, op.accumulate);
  add_scaled(out + 2 * D, x + 3 * D, second, D, op.accumulate);
  add_scaled(out + 3 * D, x + 2 * D, second, D, op.accumulate);
}

}  // namespace

template <>
void on(const DifferenceForward& op) {
  const int64_t D = op.out.cols() / op.layout.heads;
  with_storage(op.x.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_rows(op.x.rows(), op.x.cols(), [&](int64_t n) {
      difference_row(row_of<S>(op.out, n), row_of<S>(op.x, n), factors_of<S>(op, n), op.layout, D);
    });
  });
}

template <>
void on(const DifferenceBackward& op) {
  const DifferenceForward& forward = op.forward;
  const DifferenceLayout& layout = forward.layout;
  const int64_t D = op.d_out.cols() / layout.heads, signals = layout.signal;
  with_storage(forward.x.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_rows(forward.x.rows(), forward.x.cols(), [&](int64_t n) {
      Acc<S> sum[DifferenceForward::kMostSignals];
      const S *x = row_of<S>(forward.x, n), *d = row_of<S>(op.d_out, n);
      S *d_x = row_of<S>(op.d_x, n), *d_lambda = row_of<S>(op.d_lambda, n);
      const Factors<S> factors = factors_of<S>(forward, n);
      for (int64_t j = 0; j < layout.noise_heads(); ++j) {
        const int64_t first = j * signals, noise = layout.noise_at(j) * D;
        backward_group(d_x + noise, d_x + layout.signal_at(first) * D, d_lambda + first, d + first * D, x + noise, sum,
                       factors, first, signals, D);
      }
    });
  });
}

template <>
void on(const DifferenceFactorForward& op) {
  with_parameter_type(op.vectors.dtype, [&](auto tag) {
    using A = decltype(tag);
    const int64_t D = op.vectors.cols();
    const A* x = static_cast<const A*>(op.vectors.data);
    const Vec<A> first = exponential(x, x + D, D), second = exponential(x + 2 * D, x + 3 * D, D);
    *static_cast<A*>(op.out.data) = (first - second + Vec<A>(A(op.initial)))[0];
  });
}

template <>
void on(const DifferenceFactorBackward& op) {
  with_parameter_type(op.vectors.dtype, [&](auto tag) { factor_backward<decltype(tag)>(op); });
}

}  // namespace sluice::SLUICE_ISA
