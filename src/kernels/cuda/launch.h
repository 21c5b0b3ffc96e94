// What device files see of CUDA's runtime: launching a kernel, and the dynamic shared memory of a block.
//
// Device files use one-dimensional blocks of whole warps, no atomics, no cooperative groups and no assembly but
// ptx.h's. Within that vocabulary they are also compiled as C++ against tests/cuda_emulation, where they run without a
// GPU.
#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/launch_error.h"

namespace sluice::cuda {

inline constexpr int kWarp = 32;

extern __shared__ __align__(128) unsigned char dynamic_shared_memory[];

// What to say where a GPU gives a block less than `bytes`: those beside the A100 and the H100 have about 100,000.
inline std::string shared_memory_text(size_t bytes) {
  int device = 0, most = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return "a block needs " + std::to_string(bytes) + " bytes of shared memory, this GPU has " + std::to_string(most) +
         " (smaller heads and train.precision bf16 need less)";
}

// Start of the block's dynamic shared memory, 128-byte aligned.
__device__ __forceinline__ unsigned char* dynamic_shared() { return dynamic_shared_memory; }

// kernel<<<grid, block, shared_bytes, stream>>>(args...). Above 48 KB of dynamic shared memory the kernel's limit is
// raised first. Throws LaunchError; errors inside the kernel surface at the next synchronisation.
template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, A... args) {
  if (shared_bytes > 48 * 1024) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes));
    if (error != cudaSuccess) {
      cudaGetLastError();  // it is reported here and is not the next launch's
      throw LaunchError(shared_memory_text(shared_bytes), error);
    }
  }
  kernel<<<grid, block, shared_bytes, stream>>>(P(args)...);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) throw LaunchError("launching a kernel", error);
}

}  // namespace sluice::cuda
