// Norms of rows and of heads, and sums over rows. Conventions: kernels/ops.h.
#pragma once

#include "kernels/types/op_types.h"
#include "kernels/types/tensor.h"

namespace sluice {

// What a workspace for sums over rows depends on: C columns.
struct RowSums {
  int64_t C = 0;
};

// Fused with the residual addition before it.
struct NormForward {
  static constexpr const char* kName = "norm_forward";
  Norm kind = Norm::kLayerNorm;
  double epsilon = 1e-5;
  Tensor x, delta = {};         // [N, C] act; delta absent or added first: sum = x + delta
  Tensor sum = {};              // [N, C] act; where the sum is written (may be x); absent if delta is
  Tensor gain = {}, bias = {};  // [C] acc; absent: 1 and 0; RMSNorm has no bias, nor has a norm without gain
  Tensor out;                   // [N, C] act: (sum - mean) * rstd * gain + bias
  Tensor stats;                 // [N, 2] acc: mean (0 for RMSNorm), rstd
  void for_tensors(auto f) { f(x), f(delta), f(sum), f(gain), f(bias), f(out), f(stats); }
  void check() const;
};

struct NormBackward {
  static constexpr const char* kName = "norm_backward";
  NormForward forward;              // x is the normalised input (the sum); stats as left by the forward
  Tensor d_out;                     // [N, C] act
  Tensor d_x;                       // [N, C] act; may be d_out
  bool add_to_d_x = true;           // d_x += (the residual stream's gradient), or overwrite
  Tensor d_gain = {}, d_bias = {};  // [C] acc; absent with the gain, with the bias
  bool accumulate = false;          // of d_gain, d_bias
  Tensor workspace = {};
  using Sizes = RowSums;
  Sizes sizes() const { return {d_out.cols()}; }
  void for_tensors(auto f) { forward.for_tensors(f), f(d_out), f(d_x), f(d_gain), f(d_bias), f(workspace); }
  void check() const;
};

// RMSNorm of every head by itself, one gain for all: out = scale x gain / sqrt(mean over the head's D columns of x^2 +
// epsilon). Without a gain every head gets the length `scale`: out = scale x / sqrt(sum of x^2 + epsilon).
struct HeadNormForward {
  static constexpr const char* kName = "head_norm_forward";
  double epsilon = 1e-5;
  Tensor x, out;     // [N, H*D] act, strided; the same where no backward pass follows
  Tensor gain = {};  // [D] acc, or absent
  double scale = 1;
  int64_t features = 0;  // D, where there is no gain to tell it
  SLUICE_ACCESSOR int64_t D() const { return gain.data ? gain.shape.elements() : features; }
  void for_tensors(auto f) { f(x), f(out), f(gain); }
  void check() const;
};

struct HeadNormBackward {
  static constexpr const char* kName = "head_norm_backward";
  HeadNormForward forward;  // x as it was; out is not read
  Tensor d_out;             // [N, H*D] act, strided
  Tensor d_x;               // [N, H*D] act, strided; overwritten, may be d_out
  Tensor d_gain = {};       // [D] acc; absent with the gain
  bool accumulate = false;  // of d_gain
  Tensor workspace = {};
  using Sizes = RowSums;
  Sizes sizes() const { return {forward.D()}; }
  void for_tensors(auto f) { forward.for_tensors(f), f(d_out), f(d_x), f(d_gain), f(workspace); }
  void check() const;
};

// d_bias (+)= the sum of d_out's rows
struct BiasGradient {
  static constexpr const char* kName = "bias_gradient";
  Tensor d_bias;  // [C] acc
  Tensor d_out;   // [N, C] act, strided
  bool accumulate = false;
  Tensor workspace = {};
  using Sizes = RowSums;
  Sizes sizes() const { return {d_out.cols()}; }
  void for_tensors(auto f) { f(d_bias), f(d_out), f(workspace); }
  void check() const;
};

}  // namespace sluice
