// Elementwise kernels: copy, activations, gates; and the norms of groups of columns. Each is one visit to memory.
#include "kernels/cpu/isa/rows.h"
#include "kernels/formulas/activation.h"
#include "kernels/formulas/gate.h"

namespace sluice::SLUICE_ISA {
namespace {

template <class A, class B>
inline constexpr bool kSame = false;
template <class A>
inline constexpr bool kSame<A, A> = true;

template <class To, class From>
void copy_span(To* out, const From* x, int64_t n) {
  if constexpr (kSame<Acc<To>, Acc<From>>) {
    for_vectors<Acc<To>>(
        n, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY { store_some(out + i, load_some(x + i, count), count); });
  } else {  // to or from f64, whose registers hold another number of elements
    for (int64_t i = 0; i < n; ++i) store_one(out + i, Acc<To>(load_one(x + i)));
  }
}

// kValue: out receives f(x) as well.
template <class F, bool kValue, class S>
void activation_backward_span(S* d_x, const S* d_out, const S* x, S* out, int64_t n) {
  using A = Acc<S>;
  for_vectors<A>(n, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    Vec<A> value;
    const Vec<A> d = F::template backward<A>(load_some(d_out + i, count), load_some(x + i, count), value);
    store_some(d_x + i, d, count);
    if constexpr (kValue) store_some(out + i, value, count);
  });
}

template <class S>
void swiglu_row(S* out, const S* x, int64_t F) {
  for_vectors<Acc<S>>(F, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    store_some(out + i, swiglu(load_some(x + i, count), load_some(x + F + i, count)), count);
  });
}

// out may be null.
template <class S>
void swiglu_backward_row(S* d_x, const S* d_out, const S* x, S* out, int64_t F) {
  for_vectors<Acc<S>>(F, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    auto gate = load_some(x + i, count), up = load_some(x + F + i, count);
    const auto value = swiglu_gradient(load_some(d_out + i, count), gate, up);
    store_some(d_x + i, gate, count);
    store_some(d_x + F + i, up, count);
    if (out) store_some(out + i, value, count);
  });
}

template <class G, class S>
SLUICE_INLINE Vec<Acc<S>> broadcast_gate(const S* logit) {
  return G::of(Vec<Acc<S>>(load_one(logit)));
}

template <class G, class S>
void gate_head_row(S* out, const S* x, const S* logits, int64_t H, int64_t D) {
  using A = Acc<S>;
  for (int64_t h = 0; h < H; ++h, x += D, out += D) {
    const Vec<A> gate = broadcast_gate<G>(logits + h);
    for_vectors<A>(D, [=](int64_t i, int64_t count)
                          SLUICE_INLINE_BODY { store_some(out + i, gate * load_some(x + i, count), count); });
  }
}

template <class G, class S>
void gate_element_row(S* out, const S* x, const S* logits, int64_t n) {
  for_vectors<Acc<S>>(n, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    store_some(out + i, G::of(load_some(logits + i, count)) * load_some(x + i, count), count);
  });
}

template <class G, class S>
void gate_head_backward_row(S* d_x, S* d_logits, const S* d_out, const S* x, const S* logits, int64_t H, int64_t D) {
  using A = Acc<S>;
  for (int64_t h = 0; h < H; ++h, x += D, d_x += D, d_out += D) {
    const Vec<A> gate = broadcast_gate<G>(logits + h);
    const A dot = sum_over<A>(D, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      const Vec<A> d = load_some(d_out + i, count);
      const Vec<A> term = d * load_some(x + i, count);  // before d_x is written: it may be d_out
      store_some(d_x + i, gate * d, count);
      return term;
    });
    store_one(d_logits + h, G::d_logit(gate, Vec<A>(dot))[0]);
  }
}

template <class G, class S>
void gate_element_backward_row(S* d_x, S* d_logits, const S* d_out, const S* x, const S* logits, int64_t n) {
  for_vectors<Acc<S>>(n, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    const auto gate = G::of(load_some(logits + i, count)), d = load_some(d_out + i, count);
    const auto dot = d * load_some(x + i, count);
    store_some(d_x + i, gate * d, count);
    store_some(d_logits + i, G::d_logit(gate, dot), count);
  });
}

template <class S>
void group_norms_row(Acc<S>* out, const S* x, int64_t groups, int64_t D) {
  using A = Acc<S>;
  for (int64_t g = 0; g < groups; ++g, x += D) {
    const A squares = sum_over<A>(D, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      const Vec<A> v = load_some(x + i, count);
      return v * v;
    });
    out[g] = sqrt_of(Vec<A>(squares))[0];
  }
}

SLUICE_INLINE bool flat(const Tensor& t) { return t.stride == t.cols() || t.rows() <= 1; }

}  // namespace

template <>
void on(const Copy& op) {
  const Tensor &out = op.out, &x = op.x;
  with_storage(out.dtype, [&](auto to_tag) {
    with_storage(x.dtype, [&](auto from_tag) {
      using To = decltype(to_tag);
      using From = decltype(from_tag);
      for_spans(out.rows(), out.cols(), flat(out) && flat(x), [&](int64_t row, int64_t first, int64_t n) {
        copy_span(row_of<To>(out, row) + first, row_of<From>(x, row) + first, n);
      });
    });
  });
}

template <>
void on(const ActivationForward& op) {
  const Tensor &out = op.out, &x = op.x;
  with_storage(out.dtype, [&](auto tag) {
    with_activation(op.kind, [&](auto f) {
      using S = decltype(tag);
      for_spans(out.rows(), out.cols(), flat(out) && flat(x), [&](int64_t row, int64_t first, int64_t n) {
        activation_forward_span<decltype(f)>(row_of<S>(out, row) + first, row_of<S>(x, row) + first, n);
      });
    });
  });
}

template <>
void on(const ActivationBackward& op) {
  const Tensor &d_x = op.d_x, &d_out = op.d_out, &x = op.x, &out = op.out;
  const bool has_out = out.data != nullptr;
  const bool is_flat = flat(d_x) && flat(d_out) && flat(x) && (!has_out || flat(out));
  with_storage(d_x.dtype, [&](auto tag) {
    with_activation(op.kind, [&](auto f) {
      using S = decltype(tag);
      using F = decltype(f);
      for_spans(d_x.rows(), d_x.cols(), is_flat, [&](int64_t row, int64_t first, int64_t n) {
        S* to = row_of<S>(d_x, row) + first;
        const S *d = row_of<S>(d_out, row) + first, *from = row_of<S>(x, row) + first;
        if (has_out) activation_backward_span<F, true>(to, d, from, row_of<S>(out, row) + first, n);
        else activation_backward_span<F, false>(to, d, from, static_cast<S*>(nullptr), n);
      });
    });
  });
}

template <>
void on(const SwigluForward& op) {
  const Tensor &out = op.out, &x = op.x;
  const int64_t N = out.rows(), F = out.cols();
  with_storage(out.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_rows(N, F, [&](int64_t n) { swiglu_row(row_of<S>(out, n), row_of<S>(x, n), F); });
  });
}

template <>
void on(const SwigluBackward& op) {
  const Tensor &d_x = op.d_x, &d_out = op.d_out, &x = op.x, &out = op.out;
  const int64_t N = d_out.rows(), F = d_out.cols();
  with_storage(d_out.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_rows(N, F, [&](int64_t n) {
      swiglu_backward_row(row_of<S>(d_x, n), row_of<S>(d_out, n), row_of<S>(x, n),
                          out.data ? row_of<S>(out, n) : nullptr, F);
    });
  });
}

template <>
void on(const GateForward& op) {
  const int64_t N = op.x.rows(), C = op.x.cols(), H = op.heads;
  with_storage(op.x.dtype, [&](auto tag) {
    with_gate(op.activation, [&](auto gate) {
      using S = decltype(tag);
      using G = decltype(gate);
      for_rows(N, C, [&](int64_t n) {
        S* out = row_of<S>(op.out, n);
        const S *x = row_of<S>(op.x, n), *logits = row_of<S>(op.logits, n);
        if (op.grain == GateGrain::kHead) gate_head_row<G>(out, x, logits, H, C / H);
        else gate_element_row<G>(out, x, logits, C);
      });
    });
  });
}

template <>
void on(const GateBackward& op) {
  const GateForward& forward = op.forward;
  const int64_t N = forward.x.rows(), C = forward.x.cols(), H = forward.heads;
  with_storage(forward.x.dtype, [&](auto tag) {
    with_gate(forward.activation, [&](auto gate) {
      using S = decltype(tag);
      using G = decltype(gate);
      for_rows(N, C, [&](int64_t n) {
        S *d_x = row_of<S>(op.d_x, n), *d_logits = row_of<S>(op.d_logits, n);
        const S *d_out = row_of<S>(op.d_out, n), *x = row_of<S>(forward.x, n), *logits = row_of<S>(forward.logits, n);
        if (forward.grain == GateGrain::kHead) gate_head_backward_row<G>(d_x, d_logits, d_out, x, logits, H, C / H);
        else gate_element_backward_row<G>(d_x, d_logits, d_out, x, logits, C);
      });
    });
  });
}

template <>
void on(const GroupNorms& op) {
  const Tensor &out = op.out, &x = op.x;
  const int64_t N = x.rows(), C = x.cols();
  with_storage(x.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_rows(N, C,
             [&](int64_t n) { group_norms_row(row_of<Acc<S>>(out, n), row_of<S>(x, n), op.groups, C / op.groups); });
  });
}

}  // namespace sluice::SLUICE_ISA
