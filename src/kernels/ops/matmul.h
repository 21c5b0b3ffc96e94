// Matrix products. Conventions: kernels/ops.h.
#pragma once

#include "kernels/types/op_types.h"
#include "kernels/types/tensor.h"

namespace sluice {

// C = op(A) op(B) (+ C if accumulate) (+ bias per column). Row-major, strided.
struct Matmul {
  static constexpr const char* kName = "matmul";
  Tensor out;   // [M, N], act or acc
  Tensor a, b;  // op(a) [M, K], op(b) [K, N], act
  bool transpose_a = false, transpose_b = false;
  bool accumulate = false;
  Tensor bias = {};       // [N] acc, or absent
  Tensor activated = {};  // [M, N] like out, or absent: also receives activation(C)
  Activation activation = Activation::kRelu;
  void for_tensors(auto f) { f(out), f(a), f(b), f(bias), f(activated); }
  void check() const;
};

// A product of each head's own: the tensors of `all` are those of every head side by side, `heads` equal slices of
// each. Activations are cut by columns, the weight, which is b or with transpose_a (its gradient) out, by rows. No
// `activated`.
struct HeadMatmul {
  static constexpr const char* kName = "head_matmul";
  Matmul all;
  int64_t heads = 1;

  Matmul of_head(int64_t head) const;
  void for_tensors(auto f) { all.for_tensors(f); }
  void check() const;
};

}  // namespace sluice
