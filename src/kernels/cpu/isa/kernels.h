// The kernels of one instruction set: specialisations of `on`, each in the file of its family. Arguments have been
// checked; a kernel switches on the dtype. An op of the list without one does not link.
#pragma once

#include "kernels/cpu/isa.h"

namespace sluice::SLUICE_ISA {

template <class Op>
void on(const Op& op);

// Arithmetic on registers (peak.cc). The processor must have the kind.
double exercise(Arithmetic kind, int64_t rounds);

}  // namespace sluice::SLUICE_ISA
