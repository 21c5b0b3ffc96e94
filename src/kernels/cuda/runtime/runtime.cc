// Errors of CUDA in words, and memory of the device.
#include "kernels/cuda/runtime/runtime.h"

#include "base/error.h"

namespace sluice::cuda {

void check(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // it is reported here and is not the next launch's
  throw RunError("CUDA: {}: {} ({})", call, cudaGetErrorString(error), cudaGetErrorName(error));
}

void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS) throw RunError("cuBLAS: {}: {}", call, cublasLtGetStatusString(status));
}

void* allocate_device(size_t bytes) {
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, bytes);
  if (error == cudaSuccess) return data;
  if (error != cudaErrorMemoryAllocation) check(error, "cudaMalloc");
  cudaGetLastError();  // it is reported here and is not the next launch's
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  constexpr double kGiB = double(1 << 30);
  throw RunError(
      "the GPU has no {:.2f} GiB of memory left ({:.2f} of {:.2f} GiB are free): lower train.micro_batch or "
      "model.context, set train.recompute, or set train.precision to bf16",
      double(bytes) / kGiB, double(free) / kGiB, double(total) / kGiB);
}

}  // namespace sluice::cuda
