#include "kernels/host_copy.h"

#include "kernels/types/bf16.h"

namespace sluice {

std::vector<float> host_copy(Backend& backend, const Tensor& tensor) {
  const size_t n = size_t(tensor.elements());
  std::vector<float> out(n);
  if (tensor.dtype == DType::kF32) {
    backend.download(out.data(), tensor);
  } else if (tensor.dtype == DType::kBF16) {
    std::vector<Bf16> raw(n);
    backend.download(raw.data(), tensor);
    for (size_t i = 0; i < n; ++i) out[i] = to_float(raw[i]);
  } else {
    check(tensor.dtype == DType::kF64, "host_copy: a tensor of numbers");
    std::vector<double> raw(n);
    backend.download(raw.data(), tensor);
    for (size_t i = 0; i < n; ++i) out[i] = float(raw[i]);
  }
  return out;
}

std::vector<double> host_numbers(Backend& backend, const Tensor& tensor) {
  std::vector<double> out(size_t(tensor.elements()));
  if (tensor.dtype == DType::kF64) {
    backend.download(out.data(), tensor);
    return out;
  }
  check(tensor.dtype == DType::kF32, "host_numbers: numbers of another type");
  std::vector<float> single(out.size());
  backend.download(single.data(), tensor);
  std::copy(single.begin(), single.end(), out.begin());
  return out;
}

}  // namespace sluice
