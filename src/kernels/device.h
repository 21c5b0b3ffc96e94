// Which device a run uses, by the config's name for it.
#pragma once

#include <memory>
#include <string>

#include "kernels/backend.h"

namespace sluice {

// "cpu"; "cuda": GPU number `index`; "auto": a GPU where this build and machine have one that works, else the CPU.
// UserError that says what is missing where "cuda" cannot be had.
std::unique_ptr<Backend> make_backend(const std::string& device, int index = 0);

}  // namespace sluice
