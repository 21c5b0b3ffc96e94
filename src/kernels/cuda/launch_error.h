// A call of CUDA's that failed while launching a kernel; the host side turns it into a RunError with more to say.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace sluice::cuda {

class LaunchError : public std::runtime_error {
 public:
  LaunchError(const std::string& what, cudaError_t error)
      : std::runtime_error(what + ": " + cudaGetErrorString(error)), code(error) {}
  cudaError_t code;
};

}  // namespace sluice::cuda
