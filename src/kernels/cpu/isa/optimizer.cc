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
SLUICE_INLINE S* at(const Tensor& t, int64_t i) { return t.data ? static_cast<S*>(t.data) + i : nullptr; }

struct Value {
  template <class V>
  static SLUICE_INLINE V of(V x) { return x; }
};
struct Square {
  template <class V>
  static SLUICE_INLINE V of(V x) { return x * x; }
};

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

template <class Body>
SLUICE_INLINE void with_parameter_type(DType type, Body body) {
  if (type == DType::kF64) body(double{});
  else body(float{});
}

}  // namespace

void adamw_update(const OptimizerRange& range, const AdamWStep& step) {
  with_parameter_type(range.param.dtype, [&](auto tag) {
    using A = decltype(tag);
    const AdamWFactors<A> factors = adamw_factors<A>(step, range.weight_decay);
    for_spans(1, range.param.elements(), true, [&](int64_t, int64_t i, int64_t n) {
      adamw_span(at<A>(range.param, i), at<A>(range.grad, i), at<A>(range.first_moment, i),
                 at<A>(range.second_moment, i), at<Bf16>(range.compute_copy, i), factors, n);
    });
  });
}

void sgd_update(const OptimizerRange& range, const SgdStep& step) {
  with_parameter_type(range.param.dtype, [&](auto tag) {
    using A = decltype(tag);
    const SgdFactors<A> factors = sgd_factors<A>(step, range.weight_decay);
    for_spans(1, range.param.elements(), true, [&](int64_t, int64_t i, int64_t n) {
      sgd_span(at<A>(range.param, i), at<A>(range.grad, i), at<A>(range.first_moment, i),
               at<Bf16>(range.compute_copy, i), factors, n);
    });
  });
}

double sum_of_squares(const Tensor& x) { return reduce<Square>(x); }
double sum(const Tensor& x) { return reduce<Value>(x); }

}  // namespace sluice::SLUICE_ISA
