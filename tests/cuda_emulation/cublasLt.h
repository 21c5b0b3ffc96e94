// Stands in for cuBLASLt in the emulation: the calls that src/kernels/cuda/matmul.cc makes, computed by the CPU
// backend.
//
// Like the original it thinks in columns (a column-major matrix is the transpose of a row-major one) and is particular:
// it refuses a fused bias or gelu where the original may, and where the bias pointer was not set. `refused` makes it
// refuse all of them, when it is asked for an algorithm or only when that runs, so that the way without can be tested.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cuda_runtime.h"
#include "kernels/cpu/matmul.h"
#include "kernels/formulas/activation.h"
#include "kernels/types/bf16.h"

namespace sluice::emulation {
enum class Fusion { kNone, kAsked, kRun };
inline Fusion refused = Fusion::kNone;
}  // namespace sluice::emulation

enum cublasStatus_t { CUBLAS_STATUS_SUCCESS = 0, CUBLAS_STATUS_INVALID_VALUE = 7, CUBLAS_STATUS_NOT_SUPPORTED = 15 };
inline const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS         ? "success"
         : status == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported"
                                                 : "invalid value";
}
enum cudaDataType_t { CUDA_R_32F = 0, CUDA_R_16BF = 14 };
enum cublasComputeType_t { CUBLAS_COMPUTE_32F = 68 };
enum cublasOperation_t { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1 };
enum cublasLtEpilogue_t {
  CUBLASLT_EPILOGUE_DEFAULT = 1,
  CUBLASLT_EPILOGUE_BIAS = 4,
  CUBLASLT_EPILOGUE_GELU_AUX = 160,
  CUBLASLT_EPILOGUE_GELU_AUX_BIAS = 164
};
enum cublasLtReductionScheme_t { CUBLASLT_REDUCTION_SCHEME_NONE = 0, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = 2 };
enum cublasLtMatmulDescAttributes_t {
  CUBLASLT_MATMUL_DESC_TRANSA,
  CUBLASLT_MATMUL_DESC_TRANSB,
  CUBLASLT_MATMUL_DESC_EPILOGUE,
  CUBLASLT_MATMUL_DESC_BIAS_POINTER,
  CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER,
  CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD
};
enum cublasLtMatrixLayoutAttribute_t {
  CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
  CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET
};
enum cublasLtMatmulPreferenceAttributes_t {
  CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
  CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES
};

struct EmulatedMatmul {
  cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  void* aux = nullptr;
  int64_t aux_ld = 0;
};
struct EmulatedLayout {
  cudaDataType_t type;
  int64_t rows, cols, ld;
  int32_t count = 1;
  int64_t step = 0;
};
using cublasLtHandle_t = struct EmulatedCublas*;
using cublasLtMatmulDesc_t = EmulatedMatmul*;
using cublasLtMatrixLayout_t = EmulatedLayout*;
using cublasLtMatmulPreference_t = struct EmulatedPreference*;
struct cublasLtMatmulAlgo_t {
  uint64_t data[8];
};
struct cublasLtMatmulHeuristicResult_t {
  cublasLtMatmulAlgo_t algo;
  cublasStatus_t state;
};

inline cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) { return *handle = nullptr, CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* out) {
  return *out = nullptr, CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t) { return CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                           cublasLtMatmulPreferenceAttributes_t name, const void*,
                                                           size_t bytes) {
  return bytes == (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? 8u : 4u) ? CUBLAS_STATUS_SUCCESS
                                                                               : CUBLAS_STATUS_INVALID_VALUE;
}
inline cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* out, cudaDataType_t type, uint64_t rows,
                                                 uint64_t cols, int64_t ld) {
  if (ld < int64_t(rows)) return CUBLAS_STATUS_INVALID_VALUE;
  return *out = new EmulatedLayout{type, int64_t(rows), int64_t(cols), ld}, CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                       cublasLtMatrixLayoutAttribute_t name, const void* value,
                                                       size_t bytes) {
  const bool count = name == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT;
  if (bytes != (count ? sizeof layout->count : sizeof layout->step)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(count ? static_cast<void*>(&layout->count) : &layout->step, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return delete layout, CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* out, cublasComputeType_t, cudaDataType_t) {
  return *out = new EmulatedMatmul, CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  return delete desc, CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t name,
                                                     const void* value, size_t bytes) {
  const auto set = [&](auto& field) {
    if (bytes != sizeof field) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&field, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
  };
  switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(desc->transpose_a);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(desc->transpose_b);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(desc->epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(desc->bias);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: return set(desc->aux);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: return set(desc->aux_ld);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

namespace sluice::emulation {

inline bool has_bias(const EmulatedMatmul& desc) { return desc.epilogue & 4; }
inline bool has_gelu(const EmulatedMatmul& desc) { return desc.epilogue & 32; }

// The row-major transpose of a column-major matrix, the index-th of its batch.
inline Tensor transposed(const void* data, const EmulatedLayout& layout, int32_t index) {
  const DType type = layout.type == CUDA_R_16BF ? DType::kBF16 : DType::kF32;
  char* first = static_cast<char*>(const_cast<void*>(data));
  Tensor out(first + index * layout.step * int64_t(size_of(type)), type, {layout.cols, layout.rows});
  out.stride = layout.ld;
  return out;
}

inline float read(const Tensor& t, int64_t row, int64_t col) {
  const int64_t at = row * t.stride + col;
  return t.dtype == DType::kBF16 ? to_float(t.as<Bf16>()[at]) : t.as<float>()[at];
}
inline void write(const Tensor& t, int64_t row, int64_t col, float value) {
  const int64_t at = row * t.stride + col;
  if (t.dtype == DType::kBF16) t.as<Bf16>()[at] = to_bf16(value);
  else t.as<float>()[at] = value;
}

inline cublasStatus_t check_epilogue(const EmulatedMatmul& desc, const EmulatedLayout& result, Fusion when) {
  if (refused == when && result.count > 1) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (desc.epilogue == CUBLASLT_EPILOGUE_DEFAULT) return CUBLAS_STATUS_SUCCESS;
  if (refused == when || (has_bias(desc) && !desc.bias)) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (has_gelu(desc) &&
      (!desc.aux || desc.aux_ld % 8 || desc.aux_ld < result.rows || reinterpret_cast<uintptr_t>(desc.aux) % 16))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  return CUBLAS_STATUS_SUCCESS;
}

// product [M, N] f32, packed: the sum before the epilogue, which is applied and stored.
inline void finish(const EmulatedMatmul& desc, const Tensor& product, const Tensor& result) {
  const Tensor bias(const_cast<void*>(desc.bias), result.dtype, {result.cols()});
  Tensor aux(desc.aux, result.dtype, {result.rows(), result.cols()});
  aux.stride = desc.aux_ld;
  for (int64_t row = 0; row < result.rows(); ++row)
    for (int64_t col = 0; col < result.cols(); ++col) {
      float value = read(product, row, col);
      if (has_bias(desc)) value += read(bias, 0, col);
      if (has_gelu(desc)) write(aux, row, col, value);
      write(result, row, col, has_gelu(desc) ? Gelu::forward<float>(value) : value);
    }
}

inline void submit_product(const EmulatedMatmul& desc, const Tensor& first, const Tensor& second, const Tensor& result,
                           bool accumulate) {
  submit([=] {
    std::vector<float> sums(size_t(result.elements()));
    const Tensor product(sums.data(), DType::kF32, result.shape);
    if (accumulate)
      for (int64_t i = 0; i < result.elements(); ++i)
        sums[size_t(i)] = read(result, i / result.cols(), i % result.cols());
    cpu_matmul({.out = product,
                .a = first,
                .b = second,
                .transpose_a = desc.transpose_b == CUBLAS_OP_T,
                .transpose_b = desc.transpose_a == CUBLAS_OP_T,
                .accumulate = accumulate});
    finish(desc, product, result);
  });
}

}  // namespace sluice::emulation

inline cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                                     cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                                     cublasLtMatrixLayout_t, cublasLtMatrixLayout_t result,
                                                     cublasLtMatmulPreference_t, int,
                                                     cublasLtMatmulHeuristicResult_t* found, int* count) {
  const cublasStatus_t status = sluice::emulation::check_epilogue(*desc, *result, sluice::emulation::Fusion::kAsked);
  *found = {};
  *count = status == CUBLAS_STATUS_SUCCESS;
  return status;
}

inline cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void* alpha, const void* a,
                                     cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                                     const void* beta, const void* c, cublasLtMatrixLayout_t, void* d,
                                     cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t*, void*, size_t,
                                     cudaStream_t) {
  using namespace sluice;
  float scale = 0, kept = 0;
  std::memcpy(&scale, alpha, 4);
  std::memcpy(&kept, beta, 4);
  if (scale != 1 || (kept != 0 && (kept != 1 || c != d))) return CUBLAS_STATUS_INVALID_VALUE;
  const cublasStatus_t status = emulation::check_epilogue(*desc, *d_layout, emulation::Fusion::kRun);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  if (a_layout->count != d_layout->count || b_layout->count != d_layout->count) return CUBLAS_STATUS_INVALID_VALUE;
  for (int32_t index = 0; index < d_layout->count; ++index)
    emulation::submit_product(*desc, emulation::transposed(b, *b_layout, index),
                              emulation::transposed(a, *a_layout, index), emulation::transposed(d, *d_layout, index),
                              kept != 0);
  return CUBLAS_STATUS_SUCCESS;
}
