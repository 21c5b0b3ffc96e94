// Memory in which matrix products put their packed operands.
#pragma once

#include <cstddef>

namespace sluice {

// At least so many bytes, at a cache line's start, until this thread asks again. It grows to the most that was asked
// for and stays: products follow one another. RunError where there is no memory.
void* product_workspace(size_t bytes);

// Most that a product asks for: kernels/cpu/isa/matmul.cc.
constexpr size_t kProductWorkspaceBytes = size_t{16} << 20;

}  // namespace sluice
