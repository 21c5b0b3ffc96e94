// Blocks on the device, and copies by way of a pinned buffer (memory.h).
#include "kernels/cuda/runtime/memory.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace sluice::cuda {
namespace {

constexpr size_t kStaging = size_t{16} << 20, kPiece = size_t{4} << 20, kAlignment = 64;

}  // namespace

Memory::Memory(const Stream& stream) : stream_(stream) {
  void* data = nullptr;
  check(cudaMallocHost(&data, kStaging), "cudaMallocHost");
  staging_ = static_cast<char*>(data);
}

Memory::~Memory() {
  cudaStreamSynchronize(stream_);
  cudaFreeHost(staging_);
}

void* Memory::allocate(size_t bytes) {
  void* data = allocate_device(std::max<size_t>(bytes, 1));
  check(cudaMemsetAsync(data, 0, bytes, stream_), "cudaMemset");
  sizes_[data] = bytes;
  allocated_ += bytes;
  return data;
}

// Called by destructors: CUDA's errors are left to the calls before and after.
void Memory::release(void* data) {
  const auto found = sizes_.find(data);
  sluice::check(found != sizes_.end(), "release: this backend has not allocated it");
  allocated_ -= found->second;
  sizes_.erase(found);
  cudaFree(data);
}

void Memory::synchronize() {
  stream_.synchronize();
  used_ = 0;
}

char* Memory::reserve(size_t bytes) {
  if (used_ + bytes > kStaging) synchronize();
  char* data = staging_ + used_;
  used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return data;
}

void Memory::upload(const Tensor& to, const void* from) {
  const size_t total = to.bytes();
  for (size_t first = 0; first < total; first += kPiece) {
    const size_t bytes = std::min(kPiece, total - first);
    char* pinned = reserve(bytes);
    std::memcpy(pinned, static_cast<const char*>(from) + first, bytes);
    check(cudaMemcpyAsync(to.as<char>() + first, pinned, bytes, cudaMemcpyHostToDevice, stream_), "copying to the GPU");
  }
}

void Memory::download(void* to, const Tensor& from) {
  // A contiguous tensor is cut into rows of a piece.
  const size_t element = size_of(from.dtype), total = from.bytes();
  const bool packed = from.contiguous();
  const size_t row = packed ? std::min(kPiece, total) : size_t(from.cols()) * element;
  const size_t pitch = packed ? row : size_t(from.stride) * element;
  sluice::check(row <= kStaging, "download: a row of a strided tensor is too long");
  char* out = static_cast<char*>(to);
  for (size_t done = 0; done < total;) {
    synchronize();
    const size_t left = total - done, width = std::min(row, left);
    const size_t height = packed ? 1 : std::min(std::max<size_t>(kPiece / row, 1), left / row);
    check(cudaMemcpy2DAsync(staging_, width, from.as<char>() + done / row * pitch, pitch, width, height,
                            cudaMemcpyDeviceToHost, stream_),
          "copying from the GPU");
    synchronize();
    std::memcpy(out + done, staging_, width * height);
    done += width * height;
  }
}

}  // namespace sluice::cuda
