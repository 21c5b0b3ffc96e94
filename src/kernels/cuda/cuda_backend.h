// The CUDA backend, as the rest of the program sees it: no CUDA header is needed to include this one. Only in builds
// with CUDA (SLUICE_WITH_CUDA) and in the emulation of the tests is there anything behind it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace sluice {

struct CudaDevice {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  size_t memory_bytes = 0;
  double bandwidth = 0;         // of the memory in bytes per second, from clock and bus width; 0: not known
  std::string driver, runtime;  // versions of CUDA: "13.0"
};

// Why device number `device` cannot be used, as a sentence without a full stop; empty if it can.
std::string cuda_unavailable_reason(int device = 0);

// The devices that this process sees; none where CUDA is not usable at all.
std::vector<CudaDevice> cuda_devices();

// Throws RunError where the device cannot be used. With SLUICE_CUDA_SYNC=1 in the environment it waits for every op and
// replays no graphs, so that an error names the op it happened in. With `cudnn_attention` plain softmax attention in
// bf16 is cuDNN's; RunError where that cannot be had.
std::unique_ptr<Backend> make_cuda_backend(int device, bool cudnn_attention = false);

// Why attention cannot be cuDNN's, as a sentence without a full stop; empty if it can.
std::string cudnn_attention_unavailable_reason();

}  // namespace sluice
