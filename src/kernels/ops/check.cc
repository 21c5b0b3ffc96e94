#include "kernels/ops/check.h"

namespace sluice {

DType OpCheck::activation_type(const char* what, const Tensor& tensor) const {
  require_present(what, tensor);
  if (tensor.dtype == DType::kI32) fail(what, tensor, "f32, bf16 or f64");
  return tensor.dtype;
}

void OpCheck::matrix(const char* what, const Tensor& t, DType type, int64_t rows, int64_t cols, Layout layout,
                     Presence presence) const {
  if (!t && presence == Presence::kOptional) return;
  require_present(what, t);
  if (t.dtype != type || t.rows() != rows || t.cols() != cols)
    fail(what, t, fmt::format("{} [{},{}]", name_of(type), rows, cols));
  if (t.stride < cols || (layout == Layout::kContiguous && !t.contiguous())) fail(what, t, "contiguous rows");
}

void OpCheck::flat(const char* what, const Tensor& t, DType type, int64_t elements, Presence presence) const {
  if (!t && presence == Presence::kOptional) return;
  require_present(what, t);
  if (t.dtype != type || t.elements() != elements || !t.contiguous())
    fail(what, t, fmt::format("{} of {} contiguous elements", name_of(type), elements));
}

void OpCheck::absent(const char* what, const Tensor& t, const char* why) const {
  if (t) throw std::logic_error(fmt::format("{}: {} must be absent: {}", name_, what, why));
}

void OpCheck::require_present(const char* what, const Tensor& t) const {
  if (!t) throw std::logic_error(fmt::format("{}: {} is absent", name_, what));
}

void OpCheck::indices(const char* what, const Tensor& indices, int64_t limit, bool negative_allowed) const {
  const int32_t* index = indices.as<int32_t>();
  for (int64_t n = 0; n < indices.elements(); ++n)
    if (index[n] >= limit || (index[n] < 0 && !negative_allowed))
      throw std::logic_error(fmt::format("{}: {}[{}] is {}, there are {}", name_, what, n, index[n], limit));
}

void OpCheck::documents(const Tensor& first_key, int64_t T) const {
  if (!first_key) return;
  const int32_t* first = first_key.as<int32_t>();
  for (int64_t n = 0; n < first_key.elements(); ++n)
    if (const int64_t i = n % T; first[n] != i && (i == 0 || first[n] != first[n - 1]))
      throw std::logic_error(fmt::format("{}: first_key[{}] is {}, neither that of the row before nor the row itself",
                                         name_, n, first[n]));
}

void OpCheck::fail(const char* what, const Tensor& t, const std::string& expected) const {
  throw std::logic_error(fmt::format("{}: {} is {} {} with rows {} apart, expected {}", name_, what, name_of(t.dtype),
                                     t.shape.str(), t.stride, expected));
}

}  // namespace sluice
