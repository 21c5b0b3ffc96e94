// What is done to query and key heads before attention: a norm of each head, and rotary positions.
#include "kernels/cpu/isa/rows.h"
#include "kernels/formulas/norm.h"
#include "kernels/formulas/rope.h"

namespace sluice::SLUICE_ISA {
namespace {

// What the sum of a head's squares is divided by: without a gain heads get the length 1.
template <class A>
SLUICE_INLINE A divisor(const A* gain, int64_t D) {
  return gain ? A(D) : A(1);
}

// The inverse root of the head's mean square, or of the sum.
template <class S>
SLUICE_INLINE Vec<Acc<S>> inverse_deviation(const S* x, const Acc<S>* gain, Acc<S> epsilon, int64_t D) {
  using A = Acc<S>;
  using V = Vec<A>;
  const A squares = sum_over<A>(D, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    const V v = load_some(x + i, count);
    return v * v;
  });
  return V(1) / sqrt_of(V(squares / divisor(gain, D) + epsilon));
}

template <class S>
void head_norm_row(S* out, const S* x, const Acc<S>* gain, Acc<S> scale, Acc<S> epsilon, int64_t heads, int64_t D) {
  using A = Acc<S>;
  for (int64_t h = 0; h < heads; ++h, x += D, out += D) {
    const Vec<A> rstd = inverse_deviation(x, gain, epsilon, D);
    for_vectors<A>(D, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      const Vec<A> xhat = normalised(load_some(x + i, count), Vec<A>(0), rstd);
      store_some(out + i, xhat * gain_at(gain, i, count) * Vec<A>(scale), count);
    });
  }
}

template <class S>
void head_norm_backward_row(S* d_x, const S* d_out, const S* x, const Acc<S>* gain, Acc<S>* d_gain, Acc<S> scale,
                            Acc<S> epsilon, int64_t heads, int64_t D) {
  using A = Acc<S>;
  using V = Vec<A>;
  for (int64_t h = 0; h < heads; ++h, x += D, d_out += D, d_x += D) {
    const V rstd = inverse_deviation(x, gain, epsilon, D);
    const A sum = sum_over<A>(D, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      const V d = V(scale) * load_some(d_out + i, count);
      const V d_xhat = d * normalised(load_some(x + i, count), V(0), rstd);
      if (gain) store_some(d_gain + i, load_some(d_gain + i, count) + d_xhat, count);
      return d_xhat * gain_at(gain, i, count);
    });
    const V mean_e_xhat(sum / divisor(gain, D));
    for_vectors<A>(D, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      const V xhat = normalised(load_some(x + i, count), V(0), rstd);
      const V e = V(scale) * load_some(d_out + i, count) * gain_at(gain, i, count);
      store_some(d_x + i, norm_input_gradient(e, xhat, V(0), mean_e_xhat, rstd), count);
    });
  }
}

// `cosines` [half], then as many sines.
template <class S>
void rope_row(S* x, const Acc<S>* cosines, bool inverse, int64_t heads, int64_t half) {
  using A = Acc<S>;
  using V = Vec<A>;
  for (int64_t h = 0; h < heads; ++h, x += 2 * half)
    for_vectors<A>(half, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
      V a = load_some(x + i, count), b = load_some(x + half + i, count);
      const V sine = load_some(cosines + half + i, count);
      rotate(a, b, load_some(cosines + i, count), inverse ? V(0) - sine : sine);
      store_some(x + i, a, count);
      store_some(x + half + i, b, count);
    });
}

}  // namespace

template <>
void on(const HeadNormForward& op) {
  const int64_t N = op.x.rows(), C = op.x.cols(), D = op.D();
  with_storage(op.x.dtype, [&](auto tag) {
    using S = decltype(tag);
    using A = Acc<S>;
    const A* gain = static_cast<const A*>(op.gain.data);
    for_rows(N, C, [&](int64_t n) {
      head_norm_row(row_of<S>(op.out, n), row_of<S>(op.x, n), gain, A(op.scale), A(op.epsilon), C / D, D);
    });
  });
}

template <>
void on(const HeadNormBackward& op) {
  const HeadNormForward& forward = op.forward;
  const int64_t N = forward.x.rows(), C = forward.x.cols(), D = forward.D();
  with_storage(forward.x.dtype, [&](auto tag) {
    using S = decltype(tag);
    using A = Acc<S>;
    const A* gain = static_cast<const A*>(forward.gain.data);
    A* partial = static_cast<A*>(op.workspace.data);  // [chunk][D]
    for_row_chunks(N, C, [&](int64_t chunk, int64_t first, int64_t end) {
      A* d_gain = partial + chunk * D;
      __builtin_memset(d_gain, 0, size_t(D) * sizeof(A));
      for (int64_t n = first; n < end; ++n)
        head_norm_backward_row(row_of<S>(op.d_x, n), row_of<S>(op.d_out, n), row_of<S>(forward.x, n), gain, d_gain,
                               A(forward.scale), A(forward.epsilon), C / D, D);
    });
    if (gain) combine_chunks(static_cast<A*>(op.d_gain.data), partial, D, row_chunks(N), D, op.accumulate);
  });
}

template <>
void on(const Rope& op) {
  const int64_t N = op.x.rows(), C = op.x.cols(), D = op.table.cols();
  with_storage(op.x.dtype, [&](auto tag) {
    using S = decltype(tag);
    for_rows(N, C, [&](int64_t n) {
      const Acc<S>* angles = row_of<Acc<S>>(op.table, op.first_position + n % op.T);
      rope_row(row_of<S>(op.x, n), angles, op.inverse, C / D, D / 2);
    });
  });
}

}  // namespace sluice::SLUICE_ISA
