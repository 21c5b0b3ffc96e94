// Mixes over depth on the CPU. A token's sources, which lie beside one another, are read once for their sums and once
// more from the cache for the mix or their gradients, four registers of every source at a time.
//
// The sum g of the backward pass is taken per chunk of rows in the workspace [chunk][C], then over chunks in order.
#include "kernels/ops/residual/depth_route.h"

#include "kernels/cpu/isa/rows.h"
#include "kernels/formulas/depth_route.h"

namespace sluice::SLUICE_ISA {
namespace {

constexpr int kBlock = 4;  // registers of a source that are worked on at once

template <class S>
struct Sources {
  const S* row;  // of states
  const DepthRouteForward& op;
  int64_t count, C;
  SLUICE_INLINE const S* operator[](int64_t m) const { return row + op.state(m) * C; }
  SLUICE_INLINE bool keyed() const { return op.query.data != nullptr; }
};

template <class S>
SLUICE_INLINE Sources<S> sources_of(const DepthRouteForward& op, int64_t n, int64_t C) {
  return {row_of<S>(op.states, n), op, op.sources(), C};
}

// What of a token's sources decides their weights.
template <class A>
struct Weights {
  A total[DepthRouteForward::kMostSources];  // base + alpha
  A alpha[DepthRouteForward::kMostSources];
  A logit[DepthRouteForward::kMostSources], rms[DepthRouteForward::kMostSources];
  A slope[DepthRouteForward::kMostSources];  // d . V
};

template <class A>
struct SourceSums {
  A squares, key, slope;
};

// Sums over a source of V^2, of query gain V and, with kSlope, of d V.
template <bool kSlope, class S>
SLUICE_INLINE SourceSums<Acc<S>> sums_of(const S* x, const Acc<S>* query, const Acc<S>* gain, const S* d, int64_t C) {
  using A = Acc<S>;
  using V = Vec<A>;
  struct Three {
    V squares = V(0), key = V(0), slope = V(0);
  } a, b;
  const auto add = [=](Three& to, int64_t i, int64_t count) SLUICE_INLINE_BODY {
    const V value = load_some(x + i, count);
    to.squares += value * value;
    to.key += value * (load_some(query + i, count) * load_some(gain + i, count));
    if constexpr (kSlope) to.slope += value * load_some(d + i, count);
  };
  constexpr int64_t lanes = V::kLanes;
  int64_t i = 0;
  for (; i + 2 * lanes <= C; i += 2 * lanes) {
    add(a, i, lanes);
    add(b, i + lanes, lanes);
  }
  for (; i < C; i += lanes) add(a, i, min_of(lanes, C - i));
  return {sum_of(a.squares + b.squares), sum_of(a.key + b.key), sum_of(a.slope + b.slope)};
}

template <class A>
SLUICE_INLINE void softmax(A* alpha, const A* logit, int64_t count) {
  A most = logit[0], sum = 0;
  for (int64_t m = 1; m < count; ++m) most = logit[m] > most ? logit[m] : most;
  for_vectors<A>(count, [=](int64_t m, int64_t some) SLUICE_INLINE_BODY {
    store_some(alpha + m, exp_of(load_some(logit + m, some) - Vec<A>(most)), some);
  });
  for (int64_t m = 0; m < count; ++m) sum += alpha[m];
  const A inverse = A(1) / sum;
  for (int64_t m = 0; m < count; ++m) alpha[m] *= inverse;
}

// d may be null without kSlope.
template <bool kSlope, class S>
SLUICE_INLINE void weigh(Weights<Acc<S>>& weights, const Sources<S>& sources, const S* d) {
  using A = Acc<S>;
  const DepthRouteForward& op = sources.op;
  if (sources.keyed()) {
    const A *query = static_cast<const A*>(op.query.data), *gain = static_cast<const A*>(op.gain.data);
    for (int64_t m = 0; m < op.routed; ++m) {
      const SourceSums<A> sums = sums_of<kSlope>(sources[m], query, gain, d, sources.C);
      const Vec<A> mean_square(sums.squares / A(sources.C) + A(op.epsilon));
      weights.rms[m] = (Vec<A>(1) / sqrt_of(mean_square))[0];
      weights.logit[m] = weights.rms[m] * sums.key;
      weights.slope[m] = sums.slope;
    }
    softmax(weights.alpha, weights.logit, op.routed);
  } else {
    for (int64_t m = 0; m < op.routed; ++m) weights.alpha[m] = A(1) / A(op.routed);
  }
  for (int64_t m = 0; m < sources.count; ++m)
    weights.total[m] = m < op.routed ? A(op.base) + weights.alpha[m] : A(op.base);
}

// Runs block.operator()<registers>(first column, count) over [0, C).
template <class A, class Body>
SLUICE_INLINE void for_blocks(int64_t C, Body block) {
  constexpr int64_t lanes = Vec<A>::kLanes;
  int64_t c = 0;
  for (; c + kBlock * lanes <= C; c += kBlock * lanes) block.template operator()<kBlock>(c, lanes);
  for (; c + lanes <= C; c += lanes) block.template operator()<1>(c, lanes);
  if (c < C) block.template operator()<1>(c, C - c);
}

template <class S>
SLUICE_INLINE void mix_row(S* out, const Sources<S>& sources, const Acc<S>* total) {
  using V = Vec<Acc<S>>;
  for_blocks<Acc<S>>(sources.C, [&]<int kRegisters>(int64_t c, int64_t count) SLUICE_INLINE_BODY {
    V sum[kRegisters];
    for (int r = 0; r < kRegisters; ++r) sum[r] = V(0);
    for (int64_t m = 0; m < sources.count; ++m) {
      const S* x = sources[m] + c;
      for (int r = 0; r < kRegisters; ++r) sum[r] += V(total[m]) * load_some(x + r * V::kLanes, count);
    }
    for (int r = 0; r < kRegisters; ++r) store_some(out + c + r * V::kLanes, sum[r], count);
  });
}

template <class S>
struct BackwardRow {
  S* d_sources;
  const S* d;
  bool add;
};

// What is no part of the softmax, and all where that has no query, gets its share of d alone.
template <class S>
SLUICE_INLINE void spread_plain(const BackwardRow<S>& row, const Sources<S>& sources, const Acc<S>* total,
                                int64_t first) {
  using V = Vec<Acc<S>>;
  for (int64_t m = first; m < sources.count; ++m) {
    S* to = row.d_sources + m * sources.C;
    const V weight(total[m]);
    for_vectors<Acc<S>>(sources.C, [=](int64_t c, int64_t count) SLUICE_INLINE_BODY {
      V slope = weight * load_some(row.d + c, count);
      if (row.add) slope += load_some(to + c, count);
      store_some(to + c, slope, count);
    });
  }
}

// Adds the row's part of g to it.
template <class S>
SLUICE_INLINE void spread_keyed(const BackwardRow<S>& row, const Sources<S>& sources,
                                const DepthFactors<Acc<S>>* factors, Acc<S>* g) {
  using A = Acc<S>;
  using V = Vec<A>;
  const DepthRouteForward& op = sources.op;
  const A *query = static_cast<const A*>(op.query.data), *gain = static_cast<const A*>(op.gain.data);
  for_blocks<A>(sources.C, [&]<int kRegisters>(int64_t c, int64_t count) SLUICE_INLINE_BODY {
    V d[kRegisters], key[kRegisters], sum[kRegisters];
    for (int r = 0; r < kRegisters; ++r) {
      const int64_t at = c + r * V::kLanes;
      d[r] = load_some(row.d + at, count);
      key[r] = load_some(query + at, count) * load_some(gain + at, count);
      sum[r] = load_some(g + at, count);
    }
    for (int64_t m = 0; m < op.routed; ++m) {
      const DepthFactors<V> by = {V(factors[m].of_out), V(factors[m].of_key), V(factors[m].of_source)};
      const S* x = sources[m] + c;
      S* to = row.d_sources + m * sources.C + c;
      for (int r = 0; r < kRegisters; ++r) {
        const V value = load_some(x + r * V::kLanes, count);
        sum[r] += by.of_key * value;
        V slope = depth_gradient(d[r], key[r], value, by);
        if (row.add) slope += load_some(to + r * V::kLanes, count);
        store_some(to + r * V::kLanes, slope, count);
      }
    }
    for (int r = 0; r < kRegisters; ++r) store_some(g + c + r * V::kLanes, sum[r], count);
  });
}

template <class A>
SLUICE_INLINE void factors_of(DepthFactors<A>* factors, const Weights<A>& weights, const DepthRouteForward& op,
                              int64_t C) {
  A mean = 0;
  for (int64_t m = 0; m < op.routed; ++m) mean += weights.alpha[m] * weights.slope[m];
  for (int64_t m = 0; m < op.routed; ++m)
    factors[m] = depth_factors(A(op.base), weights.alpha[m], weights.alpha[m] * (weights.slope[m] - mean),
                               weights.logit[m], weights.rms[m], A(C));
}

// (*out)[c] (+)= factor[c] g[c]
template <class A>
SLUICE_INLINE void write_product(const Tensor& out, const Tensor& factor, const A* g, int64_t C, bool accumulate) {
  A* to = static_cast<A*>(out.data);
  const A* by = static_cast<const A*>(factor.data);
  for_vectors<A>(C, [=](int64_t c, int64_t count) SLUICE_INLINE_BODY {
    Vec<A> value = load_some(by + c, count) * load_some(g + c, count);
    if (accumulate) value += load_some(to + c, count);
    store_some(to + c, value, count);
  });
}

template <class S>
void backward_of(const DepthRouteBackward& op) {
  using A = Acc<S>;
  const int64_t N = op.d_out.rows(), C = op.d_out.cols();
  const bool keyed = op.forward.query.data != nullptr;
  A* partial = static_cast<A*>(op.workspace.data);
  for_row_chunks(N, C * op.forward.sources(), [&](int64_t chunk, int64_t first, int64_t end) {
    Weights<A> weights;
    DepthFactors<A> factors[DepthRouteForward::kMostSources];
    A* g = partial + chunk * C;
    __builtin_memset(g, 0, size_t(C) * sizeof(A));
    for (int64_t n = first; n < end; ++n) {
      const Sources<S> sources = sources_of<S>(op.forward, n, C);
      const BackwardRow<S> row = {row_of<S>(op.d_sources, n), row_of<S>(op.d_out, n), op.add_to_d_sources};
      weigh<true>(weights, sources, row.d);
      if (keyed) {
        factors_of(factors, weights, op.forward, C);
        spread_keyed(row, sources, factors, g);
      }
      spread_plain(row, sources, weights.total, keyed ? op.forward.routed : 0);
    }
  });
  if (!keyed) return;
  const int64_t chunks = row_chunks(N);
  A* g = partial + chunks * C;
  combine_chunks(g, partial, C, chunks, C, false);
  write_product(op.d_query, op.forward.gain, g, C, op.accumulate);
  write_product(op.d_gain, op.forward.query, g, C, op.accumulate);
}

}  // namespace

template <>
void on(const DepthRouteForward& op) {
  const int64_t N = op.out.rows(), C = op.out.cols();
  with_storage(op.out.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_rows(N, C * op.sources(), [&](int64_t n) {
      Weights<Acc<S>> weights;
      const Sources<S> sources = sources_of<S>(op, n, C);
      weigh<false>(weights, sources, static_cast<const S*>(nullptr));
      mix_row(row_of<S>(op.out, n), sources, weights.total);
    });
  });
}

template <>
void on(const DepthRouteBackward& op) {
  with_storage(op.d_out.dtype, [&](auto tag) { backward_of<decltype(tag)>(op); });
}

}  // namespace sluice::SLUICE_ISA
