// What the host files share: errors of CUDA's calls as RunErrors, and owners of CUDA's handles. Device files do not
// include it.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <cstddef>

namespace sluice::cuda {

// Throws a RunError that names the call and what CUDA says.
void check(cudaError_t error, const char* call);
void check(cublasStatus_t status, const char* call);

// cudaMalloc; where memory is short the RunError says how much was asked for, how much there is, and which keys lower
// it.
void* allocate_device(size_t bytes);

// Device memory of a fixed size, freed with the object; not zeroed.
class DeviceBuffer {
 public:
  explicit DeviceBuffer(size_t bytes) : data_(allocate_device(bytes)), bytes_(bytes) {}
  ~DeviceBuffer() { cudaFree(data_); }  // an error here has been reported by an earlier call
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* data_;
  size_t bytes_;
};

class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate"); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  operator cudaStream_t() const { return stream_; }
  void synchronize() const { check(cudaStreamSynchronize(stream_), "an op failed (SLUICE_CUDA_SYNC=1 tells which)"); }

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace sluice::cuda
