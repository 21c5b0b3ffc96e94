// Softmax cross-entropy of a row of logits, with its gradient in place.
//
// First visit, in blocks that stay in L1: the running maximum m and l = sum e^(x - m), rescaled when m rises. Second
// visit, where a gradient is wanted: x becomes (e^(x - m) / l - [target]) * scale. A NaN logit makes l, and with it the
// loss and the whole row's gradient, NaN.
#include "kernels/cpu/isa/rows.h"

namespace sluice::SLUICE_ISA {
namespace {

constexpr int64_t kBlock = 2048;

template <class A>
inline constexpr A kLowest = A(-3.0e38);  // finite, so that a row of -inf is no special case

template <class S>
SLUICE_INLINE Acc<S> maximum(const S* x, int64_t n, Acc<S> start) {
  using A = Acc<S>;
  constexpr int64_t lanes = Vec<A>::kLanes;
  Vec<A> a(start), b(start);
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    a = max_of(load(x + i), a);
    b = max_of(load(x + i + lanes), b);
  }
  for (; i < n; i += lanes) {
    const int64_t count = min_of(lanes, n - i);
    a = max_of(keep_first<A>(load_some(x + i, count), start, count), a);
  }
  A most[lanes];
  store(most, max_of(a, b));
  A out = start;
  for (int64_t lane = 0; lane < lanes; ++lane) out = most[lane] > out ? most[lane] : out;
  return out;
}

template <class A>
struct Normaliser {
  A reference;   // m
  double total;  // l
};

template <class S>
SLUICE_INLINE Normaliser<Acc<S>> normaliser(const S* x, int64_t V) {
  using A = Acc<S>;
  Normaliser<A> out{kLowest<A>, 0};
  for (int64_t first = 0; first < V; first += kBlock) {
    const S* block = x + first;
    const int64_t n = min_of(kBlock, V - first);
    const A m = maximum(block, n, out.reference);
    out.total *= double(exp_of(Vec<A>(out.reference - m))[0]);
    out.reference = m;
    out.total += double(sum_over<A>(n, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      return exp_of(load_some(block + i, count) - Vec<A>(m));
    }));
  }
  return out;
}

template <class S>
Acc<S> cross_entropy_row(S* x, int64_t V, int32_t target, double grad_scale) {
  using A = Acc<S>;
  if (target < 0) {
    if (grad_scale != 0) __builtin_memset(x, 0, size_t(V) * sizeof(S));
    return A(0);
  }
  const Normaliser<A> row = normaliser(x, V);
  const A m = row.reference, chosen = load_one(x + target);
  const A loss = A(__builtin_log(row.total) + (double(m) - double(chosen)));
  if (grad_scale == 0) return loss;
  const Vec<A> factor(A(grad_scale / row.total));
  for_vectors<A>(V, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    store_some(x + i, exp_of(load_some(x + i, count) - Vec<A>(m)) * factor, count);
  });
  const double probability = double(exp_of(Vec<A>(chosen - m))[0]) / row.total;
  store_one(x + target, A((probability - 1) * grad_scale));
  return loss;
}

}  // namespace

template <>
void on(const CrossEntropy& op) {
  const Tensor &losses = op.losses, &logits = op.logits, &targets = op.targets;
  const int64_t N = logits.rows(), V = logits.cols();
  const int32_t* target = static_cast<const int32_t*>(targets.data);
  with_storage(logits.dtype, [&](auto tag) {
    using S = decltype(tag);
    Acc<S>* loss = static_cast<Acc<S>*>(losses.data);
    for_rows(N, V, [&](int64_t n) { loss[n] = cross_entropy_row(row_of<S>(logits, n), V, target[n], op.grad_scale); });
  });
}

}  // namespace sluice::SLUICE_ISA
