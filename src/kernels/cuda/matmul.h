// Matrix products through cuBLASLt: bf16 with fp32 accumulation, fp32 in full precision (no TF32).
//
// cuBLASLt thinks in columns: a row-major C = op(A) op(B) is the column-major C^T = op(B)^T op(A)^T, so our b is its A.
// A bias and gelu are fused into the product where cuBLASLt can; what it cannot is added by a kernel. A fused bias has
// the type of the result, so for bf16 results it is rounded first, like the weights.
//
// The algorithm for a shape is cuBLASLt's first proposal, asked for once; where it refuses to run that, the product
// goes on with less fused. Proposals that add up in an order that may change are ruled out, so the same product gives
// the same bits.
#pragma once

#include <map>
#include <memory>

#include "kernels/cuda/runtime/runtime.h"
#include "kernels/ops.h"

namespace sluice::cuda {

class MatrixProducts {
 public:
  explicit MatrixProducts(const Stream& stream);
  ~MatrixProducts();

  // The ops have been checked.
  void run(const Matmul& args);
  void run(const HeadMatmul& args);  // as one batched product, or where cuBLASLt has none one by one

 private:
  struct Batch;
  struct Fusion;
  struct Key;
  class Plan;

  std::unique_ptr<Plan>& plan(const Matmul& args, const Batch& batch, const Fusion& fusion);
  bool run_fused(const Matmul& args, const Batch& batch, const Fusion& fusion);
  const void* prepared_bias(const Matmul& args);

  const Stream& stream_;
  cublasLtHandle_t handle_ = nullptr;
  DeviceBuffer workspace_, bias_;
  std::map<Key, std::unique_ptr<Plan>> plans_;  // null where cuBLASLt has none that runs
};

}  // namespace sluice::cuda
