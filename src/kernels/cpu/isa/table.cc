// The way into this instruction set's kernels.
#include "kernels/cpu/isa/kernels.h"

#define SLUICE_TEXT_OF(x) #x
#define SLUICE_TEXT(x) SLUICE_TEXT_OF(x)

namespace sluice::SLUICE_ISA {
namespace {

void launch(int place, const void* fields) {
  Ops::call(
      place, fields, []<class Op>(const Op& op) __attribute__((always_inline)) {
        if constexpr (!NotOfAnIsa<Op>) on(op);
      });
}

}  // namespace

extern const IsaKernels kTable;  // isa.cc declares it too
const IsaKernels kTable = {.name = SLUICE_TEXT(SLUICE_ISA), .launch = launch, .exercise = exercise};

}  // namespace sluice::SLUICE_ISA
