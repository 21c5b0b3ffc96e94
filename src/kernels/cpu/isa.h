// The instruction sets the CPU kernels are compiled for, and the one chosen at run time.
#pragma once

#include <vector>

#include "kernels/ops.h"

namespace sluice {

// Ops whose kernels are not compiled once per instruction set: bound by memory, or made of other ops.
template <class Op>
concept NotOfAnIsa = OneOf<Op, Fill, RandomUniform, RandomNormal, HeadMatmul>;

// Kinds of arithmetic that matrix products are made of: peak.h.
enum class Arithmetic { kMultiplyAdd, kBf16Dot, kTiles };

// One instruction set's kernels.
struct IsaKernels {
  const char* name;
  void (*launch)(int place, const void* fields);  // by the op's place in the list
  // Arithmetic on registers alone; returns how many operations it was, 0 where the set has none of the kind.
  double (*exercise)(Arithmetic kind, int64_t rounds);

  // Past CpuBackend, which checks.
  template <class Op>
  auto run(const Op& op) const {
    static_assert(!NotOfAnIsa<Op>);
    return launched(op, launch);
  }
};

// The widest set this processor and operating system run; SLUICE_CPU_ISA=baseline|avx2|avx512 narrows it (UserError on
// another value or one the processor lacks).
const IsaKernels& isa_kernels();
const char* cpu_isa_name();
// Every set this processor and operating system run, narrowest first: the first is always "baseline".
std::vector<const IsaKernels*> available_isas();
// The set called `wanted`, or the widest where that is null or empty; UserError on one that is not available.
const IsaKernels& select_isa(const char* wanted);

}  // namespace sluice
