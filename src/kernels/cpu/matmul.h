// Matrix products on the CPU: our own (isa/matmul/matmul.cc), which widen bf16 while they pack it. On processors whose
// bf16 arithmetic is much faster than that of f32, those with AMX tiles or a fast dot product, oneDNN's for bf16.
#pragma once

#include "kernels/ops.h"

namespace sluice {

// Then tensors should have no gaps between their rows: oneDNN's AMX kernels take none, and what it has else is slow.
bool onednn_multiplies_bf16();

// RunError where there is no memory for what oneDNN needs.
void cpu_matmul(const Matmul& args);

// About what oneDNN keeps for itself: the kernels that it generates for the products of a model, and the room in which
// they work.
constexpr size_t kPreparedProductBytes = size_t{32} << 20;

}  // namespace sluice
