// Which device a run uses, by the config's name for it, and which GPUs there are.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace sluice {

// "cpu"; "cuda": GPU number `index`; "auto": a GPU where this build and machine have one that works, else the CPU.
// `attention`: "own", or "cudnn" for plain softmax attention in bf16 on a GPU. UserError that says what is missing
// where "cuda" or "cudnn" cannot be had.
std::unique_ptr<Backend> make_backend(const std::string& device, int index = 0, const std::string& attention = "own");

// Why no GPU can be used, as a sentence without a full stop; empty if one can.
std::string gpu_unavailable_reason();

// Why attention cannot be cuDNN's, as a sentence without a full stop; empty if it can.
std::string cudnn_unavailable_reason();

// A line for each GPU that this process sees.
std::vector<std::string> gpu_descriptions();

}  // namespace sluice
