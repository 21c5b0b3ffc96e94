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
  if (tensor.dtype != DType::kF64) {
    const std::vector<float> single = host_copy(backend, tensor);
    return {single.begin(), single.end()};
  }
  std::vector<double> out(size_t(tensor.elements()));
  backend.download(out.data(), tensor);
  return out;
}

void upload_numbers(Backend& backend, const Tensor& to, const std::vector<double>& numbers) {
  if (to.dtype == DType::kF64) return backend.upload(to, numbers.data());
  check(to.dtype == DType::kF32, "upload_numbers: a tensor of f32 or f64");
  const std::vector<float> single(numbers.begin(), numbers.end());
  backend.upload(to, single.data());
}

}  // namespace sluice
