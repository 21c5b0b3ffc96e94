// Layer normalisation and RMSNorm fused with the residual addition before them, their backward pass, and gradients of
// biases.
//
// A row (a few KB) is read from memory once and then worked on in cache: the sum is stored, its mean and centred
// variance taken from the stored (rounded) values, which are what the backward pass sees. For RMSNorm the mean is 0.
// Gradients of gain and bias are summed per chunk of rows in the workspace [chunk][gain, bias][C], then over chunks in
// order.
#include "kernels/formulas/norm.h"
#include "kernels/cpu/isa/rows.h"

namespace sluice::SLUICE_ISA {
namespace {

template <class S>
void add_rows(S* sum, const S* x, const S* delta, int64_t C) {
  for_vectors<Acc<S>>(C, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    store_some(sum + i, load_some(x + i, count) + load_some(delta + i, count), count);
  });
}

// gain and bias may be null. stats receives the mean and the inverse deviation.
template <class S>
void norm_row(Norm kind, S* out, Acc<S>* stats, const S* x, const Acc<S>* gain, const Acc<S>* bias, Acc<S> epsilon,
              int64_t C) {
  using A = Acc<S>;
  using V = Vec<A>;
  A mean = 0;
  if (kind == Norm::kLayerNorm)
    mean = sum_over<A>(C, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY { return load_some(x + i, count); }) / A(C);
  const A squares = sum_over<A>(C, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    const V centred = load_some(x + i, count) - V(mean);
    return centred * centred;
  });
  const A rstd = (V(1) / sqrt_of(V(squares / A(C) + epsilon)))[0];
  stats[0] = mean;
  stats[1] = rstd;
  for_vectors<A>(C, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    V y = normalised(load_some(x + i, count), V(mean), V(rstd)) * gain_at(gain, i, count);
    if (bias) y += load_some(bias + i, count);
    store_some(out + i, y, count);
  });
}

// gain, and with it d_gain, and d_bias may be null.
template <class S>
void norm_backward_row(Norm kind, S* d_x, bool add, const S* d_out, const S* x, const Acc<S>* stats, const Acc<S>* gain,
                       Acc<S>* d_gain, Acc<S>* d_bias, int64_t C) {
  using A = Acc<S>;
  using V = Vec<A>;
  const V mean(stats[0]), rstd(stats[1]);
  V sum_e(0), sum_e_xhat(0);
  // The lanes past the row's end hold zeros in d_out: they add nothing.
  for_vectors<A>(C, [&](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    const V d = load_some(d_out + i, count), xhat = normalised(load_some(x + i, count), mean, rstd);
    const V e = d * gain_at(gain, i, count), d_xhat = d * xhat;
    sum_e += e;
    sum_e_xhat += keep_first<A>(e * xhat, A(0), count);
    if (d_gain) store_some(d_gain + i, load_some(d_gain + i, count) + d_xhat, count);
    if (d_bias) store_some(d_bias + i, load_some(d_bias + i, count) + d, count);
  });
  const V mean_e(kind == Norm::kLayerNorm ? sum_of(sum_e) / A(C) : A(0)), mean_e_xhat(sum_of(sum_e_xhat) / A(C));
  for_vectors<A>(C, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    const V xhat = normalised(load_some(x + i, count), mean, rstd);
    const V e = load_some(d_out + i, count) * gain_at(gain, i, count);
    V d = norm_input_gradient(e, xhat, mean_e, mean_e_xhat, rstd);
    if (add) d += load_some(d_x + i, count);
    store_some(d_x + i, d, count);
  });
}

template <class S>
void accumulate_row(Acc<S>* sum, const S* x, int64_t C) {
  for_vectors<Acc<S>>(C, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    store_some(sum + i, load_some(sum + i, count) + load_some(x + i, count), count);
  });
}

template <class S>
void norm_backward_of(const NormBackward& args) {
  using A = Acc<S>;
  const NormForward& forward = args.forward;
  const int64_t N = args.d_out.rows(), C = args.d_out.cols();
  A* partial = static_cast<A*>(args.workspace.data);
  const A *gain = static_cast<const A*>(forward.gain.data), *stats = static_cast<const A*>(forward.stats.data);
  for_row_chunks(N, C, [&](int64_t chunk, int64_t first, int64_t end) {
    A* sums = partial + chunk * 2 * C;
    A *d_gain = args.d_gain.data ? sums : nullptr, *d_bias = args.d_bias.data ? sums + C : nullptr;
    __builtin_memset(sums, 0, size_t(2 * C) * sizeof(A));
    for (int64_t n = first; n < end; ++n)
      norm_backward_row(forward.kind, row_of<S>(args.d_x, n), args.add_to_d_x, row_of<S>(args.d_out, n),
                        row_of<S>(forward.x, n), stats + 2 * n, gain, d_gain, d_bias, C);
  });
  const int64_t chunks = row_chunks(N);
  if (args.d_gain.data) combine_chunks(static_cast<A*>(args.d_gain.data), partial, 2 * C, chunks, C, args.accumulate);
  if (args.d_bias.data)
    combine_chunks(static_cast<A*>(args.d_bias.data), partial + C, 2 * C, chunks, C, args.accumulate);
}

}  // namespace

template <>
void on(const NormForward& op) {
  const int64_t N = op.x.rows(), C = op.x.cols();
  with_storage(op.x.dtype, [&](auto tag) {
    using S = decltype(tag);
    using A = Acc<S>;
    const A *gain = static_cast<const A*>(op.gain.data), *bias = static_cast<const A*>(op.bias.data);
    for_rows(N, C, [&](int64_t n) {
      const S* x = row_of<S>(op.x, n);
      if (op.delta.data) {
        S* sum = row_of<S>(op.sum, n);
        add_rows(sum, x, row_of<S>(op.delta, n), C);
        x = sum;
      }
      norm_row(op.kind, row_of<S>(op.out, n), static_cast<A*>(op.stats.data) + 2 * n, x, gain, bias, A(op.epsilon), C);
    });
  });
}

template <>
void on(const NormBackward& op) {
  with_storage(op.d_out.dtype, [&](auto tag) { norm_backward_of<decltype(tag)>(op); });
}

template <>
void on(const BiasGradient& op) {
  const Tensor &d_bias = op.d_bias, &d_out = op.d_out, &workspace = op.workspace;
  const int64_t N = d_out.rows(), C = d_out.cols();
  with_storage(d_out.dtype, [&](auto tag) {
    using S = decltype(tag);
    using A = Acc<S>;
    A* partial = static_cast<A*>(workspace.data);
    for_row_chunks(N, C, [&](int64_t chunk, int64_t first, int64_t end) {
      __builtin_memset(partial + chunk * C, 0, size_t(C) * sizeof(A));
      for (int64_t n = first; n < end; ++n) accumulate_row(partial + chunk * C, row_of<S>(d_out, n), C);
    });
    combine_chunks(static_cast<A*>(d_bias.data), partial, C, row_chunks(N), C, op.accumulate);
  });
}

}  // namespace sluice::SLUICE_ISA
