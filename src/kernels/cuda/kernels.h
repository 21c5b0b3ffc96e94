// The CUDA kernels as the host sees them. An op's are put on the queue by a specialisation of `on` in the device file
// of its family; ops that need more than a queue are CudaBackend's own (cuda_backend.cc). Arguments have been checked.
// All are asynchronous, allocate nothing and read nothing back, so that a graph can record them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>

#include "kernels/types/op_types.h"
#include "kernels/types/tensor.h"

namespace sluice::cuda {

inline constexpr size_t kScratchBytes = size_t{32} << 20;

// Where kernels are put, and kScratchBytes of device memory that each may use until it is done.
struct Queue {
  cudaStream_t stream;
  void* scratch;
};

// An op of the list without one does not link.
template <class Op>
void on(const Op& op, const Queue& queue);

// How many f32 elements of workspace an op's kernels want.
template <class Sizes>
int64_t workspace_for(const Sizes& sizes);

// --- tensors as device code takes them
enum class Element : uint8_t { kF32, kBf16 };

// Rows of `cols` elements, `stride` elements apart, in device memory; no data: absent.
struct View {
  void* data = nullptr;
  int64_t rows = 0, cols = 0, stride = 0;
  Element element = Element::kF32;

  explicit operator bool() const { return data != nullptr; }
};

// An f32 or bf16 tensor, or an absent one.
inline View view_of(const Tensor& t) {
  if (!t) return {};
  if (t.dtype != DType::kF32 && t.dtype != DType::kBF16)
    throw std::logic_error("the CUDA backend computes in f32 and bf16 only");
  return {t.data, t.rows(), t.cols(), t.stride, t.dtype == DType::kBF16 ? Element::kBf16 : Element::kF32};
}

// A parameter, gradient or statistic: f32, or null where absent.
inline float* floats(const Tensor& t) {
  if (t && t.dtype != DType::kF32) throw std::logic_error("the CUDA backend computes in f32 and bf16 only");
  return t.as<float>();
}

// --- what several files put on a stream
// elementwise.cu: out += bias, where there is one; then activated = f(out), where present: what follows a product that
// could not be fused.
void add_bias_and_activate(const View& out, const float* bias, const View& activated, Activation kind,
                           cudaStream_t stream);
// Whether this build has code for the current device: cudaErrorNoKernelImageForDevice if not.
cudaError_t kernel_image_status();

// norm.cu: out[c] (+)= sum over chunks of partial[chunk * step + c], c < C, in order; the same for a second array C
// further on, where there is one.
inline constexpr int64_t kRowChunks = 256;  // partial sums over rows at most: the workspace is [kRowChunks][2][C]
void add_chunks(float* first_out, float* second_out, const float* partial, int64_t step, int64_t chunks, int64_t C,
                bool accumulate, cudaStream_t stream);

// optimizer.cu: partial[kSumBlocks] receives parts of the sum of x, or of x^2: as many as it returns. Their sum in
// order is the result.
inline constexpr int kSumBlocks = 256;
int partial_sums(double* partial, const View& x, bool squares, cudaStream_t stream);

}  // namespace sluice::cuda
