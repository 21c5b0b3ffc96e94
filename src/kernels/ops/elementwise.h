// Ops that work on every element by itself, or on groups of columns. Conventions: kernels/ops.h.
#pragma once

#include "kernels/types/op_types.h"
#include "kernels/types/tensor.h"

namespace sluice {

struct Fill {
  static constexpr const char* kName = "fill";
  Tensor out;  // any type, strided
  double value = 0;
  void for_tensors(auto f) { f(out); }
  void check() const;
};

struct Copy {
  static constexpr const char* kName = "copy";
  Tensor out, x;  // [N, C], strided; converts types
  void for_tensors(auto f) { f(out), f(x); }
  void check() const;
};

// Element i draws from (seed, stream, i): uniform in [low, high).
struct RandomUniform {
  static constexpr const char* kName = "random_uniform";
  Tensor out;
  uint64_t seed = 0, stream = 0;
  double low = 0, high = 1;
  void for_tensors(auto f) { f(out); }
  void check() const;
};

struct RandomNormal {
  static constexpr const char* kName = "random_normal";
  Tensor out;
  uint64_t seed = 0, stream = 0;
  double mean = 0, deviation = 1;
  void for_tensors(auto f) { f(out); }
  void check() const;
};

// out = f(x)
struct ActivationForward {
  static constexpr const char* kName = "activation_forward";
  Activation kind = Activation::kRelu;
  Tensor out, x;  // [N, C] act, strided; may be the same
  void for_tensors(auto f) { f(out), f(x); }
  void check() const;
};

// d_x = d_out * f'(x); `out`, where present, also receives f(x) again. d_x may be d_out, out may be x.
struct ActivationBackward {
  static constexpr const char* kName = "activation_backward";
  Activation kind = Activation::kRelu;
  Tensor d_x, d_out, x, out = {};  // [N, C] act, strided
  void for_tensors(auto f) { f(d_x), f(d_out), f(x), f(out); }
  void check() const;
};

// SwiGLU: out = silu(gate) * up
struct SwigluForward {
  static constexpr const char* kName = "swiglu_forward";
  Tensor out;  // [N, F] act, strided
  Tensor x;    // [N, 2F] act, strided: (gate, up)
  void for_tensors(auto f) { f(out), f(x); }
  void check() const;
};

// `out`, where present, receives the result again. d_x may be x, out may be d_out.
struct SwigluBackward {
  static constexpr const char* kName = "swiglu_backward";
  Tensor d_x, d_out, x, out = {};  // [N, 2F], [N, F], [N, 2F], [N, F] act, strided
  void for_tensors(auto f) { f(d_x), f(d_out), f(x), f(out); }
  void check() const;
};

// out = sigmoid(logits) * x, or logits * x; grain head: logits [N, H], one per D columns; element: logits [N, H*D].
struct GateForward {
  static constexpr const char* kName = "gate_forward";
  GateGrain grain = GateGrain::kHead;
  int64_t heads = 1;
  Tensor x, logits, out;  // [N, H*D] act, strided; logits act
  GateActivation activation = GateActivation::kSigmoid;
  void for_tensors(auto f) { f(x), f(logits), f(out); }
  void check() const;
};

struct GateBackward {
  static constexpr const char* kName = "gate_backward";
  GateForward forward;  // x and logits as they were
  Tensor d_out;         // [N, H*D] act, strided
  Tensor d_x;           // [N, H*D] act, strided; overwritten, may be d_out
  Tensor d_logits;      // like logits; overwritten
  void for_tensors(auto f) { forward.for_tensors(f), f(d_out), f(d_x), f(d_logits); }
  void check() const;
};

// out[n] = |x[n]|_2, per group of D columns
struct GroupNorms {
  static constexpr const char* kName = "group_norms";
  Tensor out;  // [N, groups] acc, strided
  Tensor x;    // [N, groups*D] act, strided
  int64_t groups = 1;
  void for_tensors(auto f) { f(out), f(x); }
  void check() const;
};

}  // namespace sluice
