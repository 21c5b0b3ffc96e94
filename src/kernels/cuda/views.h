// Tensors as the device code takes them.
#pragma once

#include "kernels/cuda/kernels.h"
#include "kernels/tensor.h"

namespace sluice::cuda {

// An f32 or bf16 tensor, or an absent one.
inline View view_of(const Tensor& t) {
  if (!t) return {};
  sluice::check(t.dtype == DType::kF32 || t.dtype == DType::kBF16, "the CUDA backend computes in f32 and bf16 only");
  return {t.data, t.rows(), t.cols(), t.stride, t.dtype == DType::kBF16 ? Element::kBf16 : Element::kF32};
}

}  // namespace sluice::cuda
