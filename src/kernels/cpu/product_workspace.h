// Where matrix products put their packed operands.
#pragma once

#include <cstddef>

namespace sluice {

// At least so many bytes, at a cache line's start, until this thread asks again. It grows to the most that was asked
// for and stays: products follow one another. RunError where there is no memory.
void* product_workspace(size_t bytes);

// Bytes of one core's second-level cache, by which products are cut; 1 MiB where the system does not tell.
size_t second_level_cache();

// About the most that a product asks for with as many threads as there are now: isa/matmul/product.h.
size_t product_workspace_bytes();

}  // namespace sluice
