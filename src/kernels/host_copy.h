// Copies of device tensors in host memory.
#pragma once

#include <vector>

#include "kernels/backend.h"

namespace sluice {

// As fp32, rows packed, whatever the tensor's stride and type.
std::vector<float> host_copy(Backend& backend, const Tensor& tensor);
// In double, which f64 keeps whole.
std::vector<double> host_numbers(Backend& backend, const Tensor& tensor);
// The other way, to a contiguous tensor of f32 or f64.
void upload_numbers(Backend& backend, const Tensor& to, const std::vector<double>& numbers);

}  // namespace sluice
