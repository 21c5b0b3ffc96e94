// Tensor: a non-owning view of a row-major array on one device.
//
// All dimensions but the last are contiguous rows; `stride` is the distance in elements between two rows, so that a
// slice of columns (the queries inside a fused [N, 3C] buffer, one head of [N, C]) is a Tensor too. The CUDA compiler
// reads this file, so it includes little.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

// Accessors are inlined in every build: kernels compiled for one instruction set must not leave a copy of them that the
// linker could give to all callers (cmake/isa_kernels.cmake).
#define SLUICE_ACCESSOR [[gnu::always_inline]]

namespace sluice {

enum class DType : uint8_t { kF32, kBF16, kF64, kI32 };

SLUICE_ACCESSOR constexpr size_t size_of(DType type) {
  switch (type) {
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kBF16: return 2;
    case DType::kF64: return 8;
  }
  return 0;
}

constexpr const char* name_of(DType type) {
  switch (type) {
    case DType::kF32: return "f32";
    case DType::kBF16: return "bf16";
    case DType::kF64: return "f64";
    case DType::kI32: return "i32";
  }
  return "?";
}

// The type that sums, statistics, gradients of parameters and optimizer state have for activations of type `type`.
SLUICE_ACCESSOR constexpr DType accumulator_of(DType type) { return type == DType::kF64 ? DType::kF64 : DType::kF32; }

class Shape {
 public:
  static constexpr int kMaxRank = 4;

  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<int64_t> dims) {
    for (int64_t dim : dims) dims_[rank_++] = dim;
  }
  SLUICE_ACCESSOR constexpr int rank() const { return rank_; }
  SLUICE_ACCESSOR constexpr int64_t operator[](int i) const { return dims_[i]; }
  SLUICE_ACCESSOR constexpr int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[i];
    return n;
  }
  SLUICE_ACCESSOR constexpr int64_t cols() const { return rank_ == 0 ? 1 : dims_[rank_ - 1]; }
  SLUICE_ACCESSOR constexpr int64_t rows() const { return cols() == 0 ? 0 : elements() / cols(); }
  bool operator==(const Shape&) const = default;
  std::string str() const {
    std::string out = "[";
    for (int i = 0; i < rank_; ++i) {
      if (i) out += ',';
      out += std::to_string(dims_[i]);
    }
    return out + "]";
  }

 private:
  int64_t dims_[kMaxRank] = {};
  int rank_ = 0;
};

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;
  int64_t stride = 0;  // elements between rows

  Tensor() = default;
  Tensor(void* data, DType dtype, Shape shape) : data(data), dtype(dtype), shape(shape), stride(shape.cols()) {}

  SLUICE_ACCESSOR explicit operator bool() const { return data != nullptr; }
  SLUICE_ACCESSOR int64_t rows() const { return shape.rows(); }
  SLUICE_ACCESSOR int64_t cols() const { return shape.cols(); }
  SLUICE_ACCESSOR int64_t elements() const { return shape.elements(); }
  SLUICE_ACCESSOR size_t bytes() const { return size_t(elements()) * size_of(dtype); }
  SLUICE_ACCESSOR bool contiguous() const { return stride == cols() || rows() <= 1; }

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }

  // Columns [first, first + count) of every row, as [rows, count].
  Tensor columns(int64_t first, int64_t count) const;
  // Rows [first, first + count), as [count, cols].
  Tensor row_range(int64_t first, int64_t count) const;
  Tensor reshaped(Shape to) const;
};

}  // namespace sluice
