#include "kernels/types/tensor.h"

#include "base/error.h"

namespace sluice {

Tensor Tensor::columns(int64_t first, int64_t count) const {
  check_le(first + count, cols(), "columns: slice beyond the row");
  Tensor out = *this;
  out.data = static_cast<char*>(data) + size_t(first) * size_of(dtype);
  out.shape = {rows(), count};
  return out;
}

Tensor Tensor::row_range(int64_t first, int64_t count) const {
  check_le(first + count, rows(), "row_range: slice beyond the tensor");
  Tensor out = *this;
  out.data = static_cast<char*>(data) + size_t(first * stride) * size_of(dtype);
  out.shape = {count, cols()};
  return out;
}

Tensor Tensor::reshaped(Shape to) const {
  check_eq(to.elements(), elements(), "reshaped: element count");
  check(contiguous(), "reshaped: the tensor must be contiguous");
  return Tensor(data, dtype, to);
}

}  // namespace sluice
