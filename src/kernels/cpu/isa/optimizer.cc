// Parameter updates in one pass over parameter, gradient and state, and the sums that clipping and the loss need.
//
// Sums: lanes within a block of kBlock elements, blocks in double within one of kChunks chunks, chunks in order.
#include "kernels/formulas/optimizer.h"

#include "kernels/cpu/isa/rows.h"

namespace sluice::SLUICE_ISA {
namespace {

constexpr int64_t kBlock = 1024, kChunks = 256;

template <class A>
void adamw_span(A* p, const A* g, A* m, A* v, Bf16* copy, const AdamWFactors<A>& shared, int64_t n) {
  const AdamWFactors<A> f = shared;
  for_vectors<A>(n, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    Vec<A> param = load_some(p + i, count), first = load_some(m + i, count), second = load_some(v + i, count);
    adamw(param, load_some(g + i, count), first, second, f);
    store_some(p + i, param, count);
    store_some(m + i, first, count);
    store_some(v + i, second, count);
    if constexpr (sizeof(A) == sizeof(float)) {
      if (copy) store_some(copy + i, param, count);
    }
  });
}

// m may be null where the momentum is 0.
template <class A>
void sgd_span(A* p, const A* g, A* m, Bf16* copy, const SgdFactors<A>& shared, int64_t n) {
  const SgdFactors<A> f = shared;
  for_vectors<A>(n, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    Vec<A> param = load_some(p + i, count), momentum = m ? load_some(m + i, count) : Vec<A>(0);
    sgd(param, load_some(g + i, count), momentum, f);
    store_some(p + i, param, count);
    if (m) store_some(m + i, momentum, count);
    if constexpr (sizeof(A) == sizeof(float)) {
      if (copy) store_some(copy + i, param, count);
    }
  });
}

// A column vector of a range, or null where it is absent.
template <class S>
SLUICE_INLINE S* at(const Tensor& t, int64_t i) {
  return t.data ? static_cast<S*>(t.data) + i : nullptr;
}

struct Value {
  template <class V>
  static SLUICE_INLINE V of(V x) {
    return x;
  }
};
struct Square {
  template <class V>
  static SLUICE_INLINE V of(V x) {
    return x * x;
  }
};

// The chunk's momentum, and the sum of the squares of u; lanes, blocks and chunks as in the sums below.
template <class A>
double muon_chunk(A* m, const A* g, const MuonFactors<A>& f, int64_t n) {
  double total = 0;
  for (int64_t first = 0; first < n; first += kBlock) {
    A* momentum = m + first;
    const A* grad = g + first;
    total += double(sum_over<A>(min_of(kBlock, n - first), [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      const Vec<A> gradient = load_some(grad + i, count);
      const Vec<A> moved = muon_momentum(load_some(momentum + i, count), gradient, f);
      store_some(momentum + i, moved, count);
      const Vec<A> u = muon_momentum(moved, gradient, f);
      return u * u;
    }));
  }
  return total;
}

template <class S>
void muon_direction_span(S* out, const Acc<S>* m, const Acc<S>* g, const MuonFactors<Acc<S>>& shared, Acc<S> scale,
                         int64_t n) {
  const MuonFactors<Acc<S>> f = shared;
  for_vectors<Acc<S>>(n, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    const Vec<Acc<S>> u = muon_momentum(load_some(m + i, count), load_some(g + i, count), f);
    store_some(out + i, u * Vec<Acc<S>>(scale), count);
  });
}

template <class S>
void matrix_sum_row(S* out, const S* x, const S* y, Acc<S> b, Acc<S> c, int64_t n) {
  using V = Vec<Acc<S>>;
  for_vectors<Acc<S>>(n, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    store_some(out + i, V(b) * load_some(x + i, count) + V(c) * load_some(y + i, count), count);
  });
}

template <class F, class S>
double reduce_chunk(const S* x, int64_t n) {
  double total = 0;
  for (int64_t first = 0; first < n; first += kBlock) {
    const S* block = x + first;
    total += double(sum_over<Acc<S>>(min_of(kBlock, n - first), [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      return F::of(load_some(block + i, count));
    }));
  }
  return total;
}

template <class F>
double reduce(const Tensor& x) {
  const int64_t n = x.elements(), blocks = (n + kBlock - 1) / kBlock, chunks = min_of(kChunks, blocks);
  double partial[kChunks];
  with_storage(x.dtype, [&](auto tag) {
    using S = decltype(tag);
#pragma omp parallel for schedule(static) if (n >= kParallelElements)
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t first = blocks * chunk / chunks * kBlock, end = min_of(n, blocks * (chunk + 1) / chunks * kBlock);
      partial[chunk] = reduce_chunk<F>(at<S>(x, first), end - first);
    }
  });
  double total = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) total += partial[chunk];
  return total;
}

}  // namespace

template <>
void on(const AdamWUpdate& op) {
  const OptimizerRange& range = op.range;
  with_parameter_type(range.param.dtype, [&](auto tag) {
    using A = decltype(tag);
    const AdamWFactors<A> factors = adamw_factors<A>(op.step, range.weight_decay);
    for_spans(1, range.param.elements(), true, [&](int64_t, int64_t i, int64_t n) {
      adamw_span(at<A>(range.param, i), at<A>(range.grad, i), at<A>(range.first_moment, i),
                 at<A>(range.second_moment, i), at<Bf16>(range.compute_copy, i), factors, n);
    });
  });
}

template <>
void on(const SgdUpdate& op) {
  const OptimizerRange& range = op.range;
  with_parameter_type(range.param.dtype, [&](auto tag) {
    using A = decltype(tag);
    const SgdFactors<A> factors = sgd_factors<A>(op.step, range.weight_decay);
    for_spans(1, range.param.elements(), true, [&](int64_t, int64_t i, int64_t n) {
      sgd_span(at<A>(range.param, i), at<A>(range.grad, i), at<A>(range.first_moment, i),
               at<Bf16>(range.compute_copy, i), factors, n);
    });
  });
}

template <>
void on(const MuonMomentum& op) {
  const int64_t n = op.out.elements(), blocks = (n + kBlock - 1) / kBlock, chunks = min_of(kChunks, blocks);
  with_storage(op.out.dtype, [&](auto tag) {
    using S = decltype(tag);
    using A = Acc<S>;
    const MuonFactors<A> factors = muon_factors<A>(op.beta, op.grad_scale);
    double partial[kChunks];
#pragma omp parallel for schedule(static) if (n >= kParallelElements)
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t first = blocks * chunk / chunks * kBlock, end = min_of(n, blocks * (chunk + 1) / chunks * kBlock);
      partial[chunk] = muon_chunk(at<A>(op.momentum, first), at<A>(op.grad, first), factors, end - first);
    }
    double squares = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) squares += partial[chunk];
    const A scale = A(inverse_norm(squares));
    for_spans(1, n, true, [&](int64_t, int64_t i, int64_t count) {
      muon_direction_span(at<S>(op.out, i), at<A>(op.momentum, i), at<A>(op.grad, i), factors, scale, count);
    });
  });
}

template <>
void on(const MatrixSum& op) {
  const int64_t n = op.out.rows();
  with_storage(op.out.dtype, [&](auto tag) {
    using S = decltype(tag);
    using A = Acc<S>;
    const A a = A(op.a), b = A(op.b), c = A(op.c);
    for_rows(n, n, [&](int64_t row) {
      const S *x = row_of<S>(op.x, row), *y = row_of<S>(op.y, row);
      S* out = row_of<S>(op.out, row);
      const A diagonal = a + b * load_one(x + row) + c * load_one(y + row);  // before `out`, which may be x or y
      matrix_sum_row(out, x, y, b, c, n);
      store_one(out + row, diagonal);
    });
  });
}

template <>
void on(const Sum& op) {
  *op.result = reduce<Value>(op.x);
}

template <>
void on(const SumOfSquares& op) {
  *op.result = reduce<Square>(op.x);
}

}  // namespace sluice::SLUICE_ISA
