// Square blocks of registers, transposed.
#pragma once

#include <utility>

#include "kernels/cpu/isa/vec.h"

namespace sluice::SLUICE_ISA {

// Bit kStep of the register's number and of the lane's change places, of two registers that differ in it.
template <int kStep, class V, int... kLane>
SLUICE_INLINE void exchange_lanes(V& a, V& b, std::integer_sequence<int, kLane...>) {
  constexpr int n = sizeof...(kLane);
  const auto first = __builtin_shufflevector(a.v, b.v, (kLane & kStep ? n + kLane - kStep : kLane)...);
  const auto second = __builtin_shufflevector(a.v, b.v, (kLane & kStep ? n + kLane : kLane + kStep)...);
  a.v = first, b.v = second;
}

// Lane l of x[i] and lane i of x[l] change places.
template <int kStep = 1, class V, int kLanes>
SLUICE_INLINE void transpose(V (&x)[kLanes]) {
  if constexpr (kStep < kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i)
      if (!(i & kStep)) exchange_lanes<kStep>(x[i], x[i + kStep], std::make_integer_sequence<int, kLanes>{});
    transpose<2 * kStep>(x);
  }
}

}  // namespace sluice::SLUICE_ISA
