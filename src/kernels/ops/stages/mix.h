// A mix of two tensors by two numbers, which may be learned. Conventions: kernels/ops.h.
#pragma once

#include "kernels/ops/norm.h"
#include "kernels/types/tensor.h"

namespace sluice {

// What the two tensors of a mix are multiplied with.
struct MixShares {
  Tensor x = {}, y = {};  // [1] acc: learned; absent: the two numbers
  double x_fixed = 1, y_fixed = 0;
  void for_tensors(auto f) { f(x), f(y); }
};

// out = a x + b y. out may be x or y.
struct MixForward {
  static constexpr const char* kName = "mix_forward";
  MixShares shares;
  Tensor x, y;  // [N, C] act, strided
  Tensor out;   // [N, C] act, strided
  void for_tensors(auto f) { shares.for_tensors(f), f(x), f(y), f(out); }
  void check() const;
};

// d_x = a d_out,  d_y (+)= b d_out,  and of learned shares  d_a (+)= sum of d_out x,  d_b (+)= sum of d_out y.
struct MixBackward {
  static constexpr const char* kName = "mix_backward";
  MixForward forward;                     // without out
  Tensor d_out;                           // [N, C] act, strided
  Tensor d_x;                             // [N, C] act, strided; may be d_out
  Tensor d_y;                             // [N, C] act, strided
  bool add_to_d_y = false;                // or overwrite
  Tensor d_x_share = {}, d_y_share = {};  // [1] acc, like the shares
  bool accumulate = false;                // of these
  Tensor workspace = {};
  using Sizes = RowSums;
  Sizes sizes() const { return {1}; }
  void for_tensors(auto f) {
    forward.for_tensors(f), f(d_out), f(d_x), f(d_y), f(d_x_share), f(d_y_share), f(workspace);
  }
  void check() const;
};

}  // namespace sluice
