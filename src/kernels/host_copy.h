// Copies of device tensors in host memory, as fp32.
#pragma once

#include <vector>

#include "kernels/backend.h"

namespace sluice {

// Rows packed, whatever the tensor's stride and type.
std::vector<float> host_copy(Backend& backend, const Tensor& tensor);

}  // namespace sluice
