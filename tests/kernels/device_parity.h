// Runs an op on the CPU and on the CUDA backend under test, and compares every tensor it touched.
//
// A case is a list of buffers and an op over their tensors. The device works on copies of the buffers' whole memory, so
// that what it writes out of bounds is caught. Bounds: results differ by at most a unit in the last place of their
// storage type, and by `slack`, which each test derives from the magnitudes that are added up and from fp32's rounding.
#pragma once

#include "kernels/arena.h"
#include "kernels/cuda_under_test.h"
#include "kernels/test_buffer.h"

namespace sluice {

// One backend for all tests: making one costs more than most of them.
inline Backend& cuda_backend() {
  static const std::unique_ptr<Backend> backend = cuda_under_test();
  return *backend;
}
inline Backend& cpu_backend() {
  static const std::unique_ptr<Backend> backend = make_cpu_backend();
  return *backend;
}

using Tensors = std::vector<Tensor>;
using DeviceOp = std::function<void(Backend& backend, const Tensors& t)>;

// What the buffers hold after op(backend, tensors).
inline std::vector<TestBuffer> after(Backend& backend, std::vector<TestBuffer> buffers, const DeviceOp& op) {
  std::vector<void*> copies;
  Tensors tensors;
  const auto whole = [&](size_t i) { return Tensor(copies[i], DType::kI32, {int64_t(buffers[i].raw().size() / 4)}); };
  for (size_t i = 0; i < buffers.size(); ++i) {
    buffers[i].raw().resize((buffers[i].raw().size() + 3) / 4 * 4, TestBuffer::kPattern);
    copies.push_back(backend.allocate(buffers[i].raw().size()));
    backend.upload(whole(i), buffers[i].raw().data());
    tensors.push_back(buffers[i].of_raw(copies[i]));
  }
  op(backend, tensors);
  for (size_t i = 0; i < buffers.size(); ++i) {
    backend.download(buffers[i].raw().data(), whole(i));
    backend.release(copies[i]);
  }
  return buffers;
}

inline ::testing::AssertionResult agrees(double got, double want, DType stored, double slack) {
  if (got == want || (std::isnan(got) && std::isnan(want))) return ::testing::AssertionSuccess();
  const double bound = 2 * rounding_of(stored) * std::fabs(want) + slack;
  if (std::fabs(got - want) <= bound) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << got << " instead of " << want << ", off by " << std::fabs(got - want) << " > "
                                       << bound;
}

// `slack` is in roundings of 1 in fp32. Twice, with the threads in either order: the same bits.
inline void expect_parity(const std::vector<TestBuffer>& buffers, const DeviceOp& op, double slack) {
  const std::vector<TestBuffer> want = after(cpu_backend(), buffers, op);
  std::vector<TestBuffer> first;
  for_thread_orders([&] {
    std::vector<TestBuffer> got = after(cuda_backend(), buffers, op);
    for (size_t b = 0; b < got.size(); ++b) {
      SCOPED_TRACE("buffer " + std::to_string(b));
      EXPECT_TRUE(got[b].untouched());
      const DType type = got[b].tensor().dtype;
      for (int64_t i = 0; i < got[b].size(); ++i)
        ASSERT_TRUE(agrees(got[b].at(i), want[b].at(i), type, slack * 0x1p-24)) << "element " << i;
      EXPECT_TRUE(first.empty() || got[b] == first[b]) << "not the same bits again";
    }
    first = std::move(got);
  });
}

inline constexpr DType kDeviceTypes[] = {DType::kF32, DType::kBF16};

// Runs test(dtype) for the types the device computes in.
inline void for_device_types(const std::function<void(DType)>& test) {
  for (DType dtype : kDeviceTypes) {
    SCOPED_TRACE(name_of(dtype));
    test(dtype);
  }
}

}  // namespace sluice
