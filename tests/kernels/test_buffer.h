// Tensors for kernel tests, and the loops over instruction sets and types.
//
// A TestBuffer surrounds its tensor, and the gap behind every row of a strided one, with a pattern that `untouched`
// checks: a kernel that writes out of bounds is caught. Values go in and come out as double; what a test computes from
// `at` has therefore seen the same rounded inputs as the kernel. Bounds: storage rounding of the result, plus a
// multiple of the arithmetic's rounding of the magnitudes that were added up.
#pragma once

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "base/philox.h"
#include "kernels/backend.h"
#include "kernels/cpu/isa.h"
#include "kernels/types/bf16.h"

namespace sluice {

inline constexpr Activation kActivations[] = {Activation::kRelu, Activation::kGelu, Activation::kReluSquared,
                                              Activation::kGeluErf, Activation::kSilu};
inline constexpr DType kActivationTypes[] = {DType::kF32, DType::kBF16, DType::kF64};

// Half a unit in the last place at 1.
inline double rounding_of(DType type) {
  return type == DType::kF64 ? 0x1p-53 : type == DType::kBF16 ? 0x1p-8 : 0x1p-24;
}

class TestBuffer {
 public:
  static constexpr unsigned char kPattern = 0xA5;

  TestBuffer(DType dtype, int64_t rows, int64_t cols, int64_t stride = 0)
      : TestBuffer(dtype, Shape{rows, cols}, stride) {}
  TestBuffer(DType dtype, Shape shape, int64_t stride = 0) {
    stride_ = stride ? stride : shape.cols();
    bytes_.assign(2 * kGuard + size_t(shape.rows() * stride_) * size_of(dtype), kPattern);
    tensor_ = Tensor(nullptr, dtype, shape);
    tensor_.stride = stride_;
    for (int64_t i = 0; i < shape.elements(); ++i) set(i, 0);
  }

  Tensor tensor() const {
    Tensor out = tensor_;
    out.data = const_cast<unsigned char*>(bytes_.data()) + kGuard;
    return out;
  }
  operator Tensor() const { return tensor(); }
  // All of the memory with its patterns; `of_raw` is the tensor in a copy of it elsewhere.
  std::vector<unsigned char>& raw() { return bytes_; }
  Tensor of_raw(void* copy) const {
    Tensor out = tensor_;
    out.data = static_cast<unsigned char*>(copy) + kGuard;
    return out;
  }
  int64_t size() const { return tensor_.elements(); }

  double at(int64_t i) const {
    const Tensor t = tensor();
    const int64_t place = i / t.cols() * stride_ + i % t.cols();
    switch (t.dtype) {
      case DType::kF32: return t.as<float>()[place];
      case DType::kBF16: return to_float(t.as<Bf16>()[place]);
      case DType::kF64: return t.as<double>()[place];
      case DType::kI32: return t.as<int32_t>()[place];
    }
    return 0;
  }
  double at(int64_t row, int64_t col) const { return at(row * tensor_.cols() + col); }
  void set(int64_t i, double value) {
    const Tensor t = tensor();
    const int64_t place = i / t.cols() * stride_ + i % t.cols();
    switch (t.dtype) {
      case DType::kF32: t.as<float>()[place] = float(value); break;
      case DType::kBF16: t.as<Bf16>()[place] = to_bf16(float(value)); break;
      case DType::kF64: t.as<double>()[place] = value; break;
      case DType::kI32: t.as<int32_t>()[place] = int32_t(value); break;
    }
  }
  // Normal numbers of deviation `scale`; `stream` tells buffers apart.
  TestBuffer& randomise(uint64_t stream, double scale = 1) {
    for (int64_t i = 0; i < size(); ++i) {
      const Random4 words = philox(7, stream, uint64_t(i));
      set(i, scale * double(normal_from(words.word[0], words.word[1], 0)));
    }
    return *this;
  }
  // Integers in [0, limit).
  TestBuffer& randomise_indices(uint64_t stream, int64_t limit) {
    for (int64_t i = 0; i < size(); ++i) set(i, double(philox(7, stream, uint64_t(i)).word[0] % uint64_t(limit)));
    return *this;
  }

  bool untouched() const {
    const size_t element = size_of(tensor_.dtype), row = size_t(stride_) * element,
                 used = size_t(tensor_.cols()) * element;
    for (size_t i = 0; i < bytes_.size(); ++i) {
      const bool outside = i < kGuard || i >= bytes_.size() - kGuard || (i - kGuard) % row >= used;
      if (outside && bytes_[i] != kPattern) return false;
    }
    return true;
  }
  bool operator==(const TestBuffer& other) const { return bytes_ == other.bytes_; }

 private:
  static constexpr size_t kGuard = 192;
  std::vector<unsigned char> bytes_;
  Tensor tensor_;
  int64_t stride_ = 0;
};

// Every element becomes NaN, or -1 where it is an integer.
inline void poison(const TestBuffer& x) {
  const Tensor t = x.tensor();
  for (int64_t row = 0; row < t.rows(); ++row)
    std::memset(static_cast<char*>(t.data) + size_t(row * t.stride) * size_of(t.dtype), 0xff,
                size_t(t.cols()) * size_of(t.dtype));
}

// |got - want| within the rounding of `stored` and `steps` roundings of `magnitude` in the accumulator.
inline ::testing::AssertionResult near_value(double got, double want, DType stored, double magnitude, double steps) {
  const double bound = rounding_of(stored) * std::fabs(want) + steps * rounding_of(accumulator_of(stored)) * magnitude;
  if (std::fabs(got - want) <= bound) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << got << " is not " << want << ", off by " << std::fabs(got - want) << " > "
                                       << bound;
}

// Runs test(kernels, dtype) for every instruction set of this machine and every activation type.
inline void for_kernels(const std::function<void(const IsaKernels&, DType)>& test) {
  for (const IsaKernels* isa : available_isas())
    for (DType dtype : kActivationTypes) {
      SCOPED_TRACE(std::string(isa->name) + " " + name_of(dtype));
      test(*isa, dtype);
    }
}

// Runs work() with 1, 2 and 3 threads; what it returns must be the same.
template <class Work>
void expect_same_with_any_threads(Work work) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  const auto one = work();
  for (int threads : {2, 3}) {
    omp_set_num_threads(threads);
    EXPECT_TRUE(work() == one) << threads << " threads";
  }
  omp_set_num_threads(before);
}

// d f / d x_i by central differences, for x in f64.
inline double slope(TestBuffer& x, int64_t i, const std::function<double()>& f) {
  const double step = 1e-5, here = x.at(i);
  x.set(i, here + step);
  const double above = f();
  x.set(i, here - step);
  const double below = f();
  x.set(i, here);
  return (above - below) / (2 * step);
}

}  // namespace sluice
