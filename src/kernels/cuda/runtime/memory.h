// The backend's memory: blocks on the device, and copies between host and device through a pinned buffer.
//
// An upload is copied into the buffer and returns; the GPU fetches it when the stream gets there. Only when the buffer
// is full does an upload wait. A download waits for the stream.
#pragma once

#include <cstddef>
#include <unordered_map>

#include "kernels/cuda/runtime/runtime.h"
#include "kernels/types/tensor.h"

namespace sluice::cuda {

class Memory {
 public:
  explicit Memory(const Stream& stream);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void* allocate(size_t bytes);  // zeroed
  void release(void* data);
  size_t allocated_bytes() const { return allocated_; }

  void upload(const Tensor& to, const void* from);
  void download(void* to, const Tensor& from);
  void synchronize();

 private:
  char* reserve(size_t bytes);  // of the pinned buffer, free to write

  const Stream& stream_;
  std::unordered_map<void*, size_t> sizes_;  // of what allocate() gave
  size_t allocated_ = 0;
  char* staging_ = nullptr;
  size_t used_ = 0;  // of staging_: what the GPU may still have to fetch
};

}  // namespace sluice::cuda
