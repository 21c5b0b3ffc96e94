// The CUDA backend that tests run on: the GPU in builds with CUDA, else the emulated device (tests/cuda_emulation).
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "kernels/cuda/cuda_backend.h"

#if !SLUICE_WITH_CUDA
#include "cuda_emulation/emulator.h"
#endif

namespace sluice {

inline constexpr bool kCudaIsEmulated = !SLUICE_WITH_CUDA;

// Null where there is no usable GPU.
inline std::unique_ptr<Backend> cuda_under_test() {
  return cuda_unavailable_reason().empty() ? make_cuda_backend(0) : nullptr;
}

// The same with cuDNN's attention; null too where cuDNN cannot be had.
inline std::unique_ptr<Backend> cudnn_under_test() {
  return cuda_unavailable_reason().empty() && cudnn_attention_unavailable_reason().empty() ? make_cuda_backend(0, true)
                                                                                           : nullptr;
}

// body() twice: on the emulated device with the threads in either order, which must not change a bit of what it
// computes; on a GPU the second run must give the same bits too.
template <class Body>
void for_thread_orders(Body body) {
#if SLUICE_WITH_CUDA
  for (const char* order : {"first run", "second run"}) {
    SCOPED_TRACE(order);
    body();
  }
#else
  for (const auto order : {emulation::Order::kForward, emulation::Order::kBackward}) {
    SCOPED_TRACE(order == emulation::Order::kForward ? "threads forwards" : "threads backwards");
    emulation::set_order(order);
    body();
  }
  emulation::set_order(emulation::Order::kForward);
#endif
}

}  // namespace sluice

#define SLUICE_SKIP_WITHOUT_CUDA() \
  if (const std::string reason = ::sluice::cuda_unavailable_reason(); !reason.empty()) GTEST_SKIP() << reason
