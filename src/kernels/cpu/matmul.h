// Matrix products on the CPU: oneDNN where it has a kernel for the types, else our own (isa/matmul.cc).
#pragma once

#include "kernels/ops.h"

namespace sluice {

void cpu_matmul(const Matmul& args);

// Which oneDNN kernel runs products of this type ("brg:avx512_core_amx_bf16"), or "own" for ours.
const char* cpu_matmul_kernel(DType type);

}  // namespace sluice
