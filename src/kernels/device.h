// Which device a run uses, by the config's name for it, and which GPUs there are.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace sluice {

// "cpu"; "cuda": GPU number `index`; "auto": a GPU where this build and machine have one that works, else the CPU.
// UserError that says what is missing where "cuda" cannot be had.
std::unique_ptr<Backend> make_backend(const std::string& device, int index = 0);

// Why no GPU can be used, as a sentence without a full stop; empty if one can.
std::string gpu_unavailable_reason();

// A line for each GPU that this process sees.
std::vector<std::string> gpu_descriptions();

}  // namespace sluice
