// Elementwise kernels: fill, copy with conversion, activations, SwiGLU. Each reads and writes every element once.
#include <cstring>

#include "kernels/cuda/packs.cuh"
#include "kernels/formulas/activation.h"
#include "kernels/ops/elementwise.h"

namespace sluice::cuda {
namespace {

template <class T>
struct FillRows {
  Rows<T> out;
  T value;
  __device__ void operator()(int64_t row, int64_t col, int count) const {
    for (int i = 0; i < count; ++i) out.at(row, col)[i] = value;
  }
};

template <class To, class From>
struct CopyRows {
  Rows<To> out;
  Rows<From> x;
  bool vector;
  __device__ void operator()(int64_t row, int64_t col, int count) const {
    float v[kPack];
    load(v, x.at(row, col), count, vector);
    store(out.at(row, col), v, count, vector);
  }
};

template <class F, class S>
struct Activate {
  Rows<S> out, x;
  bool vector;
  __device__ void operator()(int64_t row, int64_t col, int count) const {
    float v[kPack];
    load(v, x.at(row, col), count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = F::template forward<float>(v[i]);
    store(out.at(row, col), v, count, vector);
  }
};

template <class F, class S>
struct ActivateBackward {
  Rows<S> d_x, d_out, x, out;  // out.data may be null
  bool vector;
  __device__ void operator()(int64_t row, int64_t col, int count) const {
    float v[kPack], d[kPack];
    load(v, x.at(row, col), count, vector);
    load(d, d_out.at(row, col), count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      float value;
      d[i] = F::template backward<float>(d[i], v[i], value);
      v[i] = value;
    }
    store(d_x.at(row, col), d, count, vector);
    if (out.data) store(out.at(row, col), v, count, vector);
  }
};

// x and d_x have twice the columns: `up` and `d_up` are their second halves.
template <class S>
struct Swiglu {
  Rows<S> out, gate, up;
  bool vector;
  __device__ void operator()(int64_t row, int64_t col, int count) const {
    float g[kPack], u[kPack];
    load(g, gate.at(row, col), count, vector);
    load(u, up.at(row, col), count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) g[i] = swiglu(g[i], u[i]);
    store(out.at(row, col), g, count, vector);
  }
};

template <class S>
struct SwigluGradient {
  Rows<S> d_gate, d_up, d_out, gate, up, out;  // out.data may be null
  bool vector;
  __device__ void operator()(int64_t row, int64_t col, int count) const {
    float g[kPack], u[kPack], d[kPack];
    load(g, gate.at(row, col), count, vector);
    load(u, up.at(row, col), count, vector);
    load(d, d_out.at(row, col), count, vector);
#pragma unroll
    for (int i = 0; i < kPack; ++i) d[i] = swiglu_gradient(d[i], g[i], u[i]);
    store(d_gate.at(row, col), g, count, vector);
    store(d_up.at(row, col), u, count, vector);
    if (out.data) store(out.at(row, col), d, count, vector);
  }
};

// The activation is taken of the rounded sum, as the backward pass takes it again.
template <class F, class S>
struct AddBiasAndActivate {
  Rows<S> out, activated;  // activated.data may be null
  const float* bias;       // may be null
  bool vector;
  __device__ void operator()(int64_t row, int64_t col, int count) const {
    float v[kPack];
    load(v, out.at(row, col), count, vector);
    if (bias) {
      float b[kPack];
      load(b, bias + col, count, vector);
#pragma unroll
      for (int i = 0; i < kPack; ++i) v[i] += b[i];
      const Pack<S> sum = packed<S>(v);
      store_pack(out.at(row, col), sum, count, vector);
      unpack(v, sum);
    }
    if (!activated.data) return;
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = F::template forward<float>(v[i]);
    store(activated.at(row, col), v, count, vector);
  }
};

template <class T>
void fill_as(const Tensor& out, uint64_t bits, cudaStream_t stream) {
  map(out.rows(), out.cols(), out.stride == out.cols(), stream, FillRows<T>{{out.as<T>(), out.stride}, T(bits)});
}

// The bits of one element.
uint64_t bits_of(DType type, double value) {
  uint64_t bits = 0;
  const auto put = [&](auto x) { std::memcpy(&bits, &x, sizeof x); };
  switch (type) {
    case DType::kF32: put(float(value)); break;
    case DType::kBF16: put(to_bf16(float(value))); break;
    case DType::kF64: put(value); break;
    case DType::kI32: put(int32_t(value)); break;
  }
  return bits;
}

// Calls body(F{}, S{}) with the activation's formula and the element type.
template <class Body>
void with_activation_of(Activation kind, Element element, Body body) {
  with_element(element, [&](auto storage) {
    switch (kind) {
      case Activation::kRelu: body(Relu{}, storage); break;
      case Activation::kGelu: body(Gelu{}, storage); break;
      case Activation::kReluSquared: body(ReluSquared{}, storage); break;
      case Activation::kGeluErf: body(GeluErf{}, storage); break;
      case Activation::kSilu: body(Silu{}, storage); break;
    }
  });
}

}  // namespace

template <>
void on(const Fill& op, const Queue& queue) {
  const uint64_t bits = bits_of(op.out.dtype, op.value);
  if (size_of(op.out.dtype) == 2) fill_as<uint16_t>(op.out, bits, queue.stream);
  else if (size_of(op.out.dtype) == 4) fill_as<uint32_t>(op.out, bits, queue.stream);
  else fill_as<uint64_t>(op.out, bits, queue.stream);
}

template <>
void on(const Copy& op, const Queue& queue) {
  const View out = view_of(op.out), x = view_of(op.x);
  with_element(out.element, [&](auto to) {
    with_element(x.element, [&](auto from) {
      using To = decltype(to);
      using From = decltype(from);
      map(out.rows, out.cols, flat(out) && flat(x), queue.stream,
          CopyRows<To, From>{rows_of<To>(out), rows_of<From>(x), vectorizable(out) && vectorizable(x)});
    });
  });
}

template <>
void on(const ActivationForward& op, const Queue& queue) {
  const View out = view_of(op.out), x = view_of(op.x);
  with_activation_of(op.kind, x.element, [&](auto formula, auto storage) {
    using S = decltype(storage);
    map(x.rows, x.cols, flat(out) && flat(x), queue.stream,
        Activate<decltype(formula), S>{rows_of<S>(out), rows_of<S>(x), vectorizable(out) && vectorizable(x)});
  });
}

template <>
void on(const ActivationBackward& op, const Queue& queue) {
  const View d_x = view_of(op.d_x), d_out = view_of(op.d_out), x = view_of(op.x), out = view_of(op.out);
  const bool vector = vectorizable(d_x) && vectorizable(d_out) && vectorizable(x) && vectorizable(out);
  with_activation_of(op.kind, x.element, [&](auto formula, auto storage) {
    using S = decltype(storage);
    map(x.rows, x.cols, flat(d_x) && flat(d_out) && flat(x) && flat(out), queue.stream,
        ActivateBackward<decltype(formula), S>{rows_of<S>(d_x), rows_of<S>(d_out), rows_of<S>(x), rows_of<S>(out),
                                               vector});
  });
}

template <>
void on(const SwigluForward& op, const Queue& queue) {
  const View out = view_of(op.out), x = view_of(op.x);
  const View gate = column_range(x, 0, out.cols), up = column_range(x, out.cols, out.cols);
  with_element(out.element, [&](auto storage) {
    using S = decltype(storage);
    map(out.rows, out.cols, false, queue.stream,
        Swiglu<S>{rows_of<S>(out), rows_of<S>(gate), rows_of<S>(up),
                  vectorizable(out) && vectorizable(gate) && vectorizable(up)});
  });
}

template <>
void on(const SwigluBackward& op, const Queue& queue) {
  const View d_x = view_of(op.d_x), d_out = view_of(op.d_out), x = view_of(op.x), out = view_of(op.out);
  const int64_t F = d_out.cols;
  const View gate = column_range(x, 0, F), up = column_range(x, F, F);
  const View d_gate = column_range(d_x, 0, F), d_up = column_range(d_x, F, F);
  const bool vector = vectorizable(gate) && vectorizable(up) && vectorizable(d_gate) && vectorizable(d_up) &&
                      vectorizable(d_out) && vectorizable(out);
  with_element(d_out.element, [&](auto storage) {
    using S = decltype(storage);
    map(d_out.rows, F, false, queue.stream,
        SwigluGradient<S>{rows_of<S>(d_gate), rows_of<S>(d_up), rows_of<S>(d_out), rows_of<S>(gate), rows_of<S>(up),
                          rows_of<S>(out), vector});
  });
}

void add_bias_and_activate(const View& out, const float* bias, const View& activated, Activation kind,
                           cudaStream_t stream) {
  const bool vector = vectorizable(out) && vectorizable(bias) && vectorizable(activated);
  with_activation_of(kind, out.element, [&](auto formula, auto storage) {
    using S = decltype(storage);
    map(out.rows, out.cols, !bias && flat(out) && flat(activated), stream,
        AddBiasAndActivate<decltype(formula), S>{rows_of<S>(out), rows_of<S>(activated), bias, vector});
  });
}

cudaError_t kernel_image_status() {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, map_kernel<FillRows<uint32_t>>);
  cudaGetLastError();  // a failure here is an answer, not a fault of the next call
  return error;
}

}  // namespace sluice::cuda
