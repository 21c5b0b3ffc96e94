// Simulated quantization of one value or one SIMD vector V of scalars T: the value of the nearest point of a grid,
//
//   x -> scale * clamp(round(x / scale), low, high),   round: to the nearest integer, halves to the even one.
//
// low and high are counted from the grid's zero point, so it needs no name here: an unsigned b-bit grid with zero point
// z has low = -z and high = 2^b - 1 - z. Because both are integers, clamping may come first, which keeps what is
// rounded small enough for the rounding to be two additions. The product with 1 / scale, instead of a division, is also
// what PyTorch's fake_quantize computes. A NaN passes through.
#pragma once

#include "kernels/formulas/math.h"

namespace sluice {

// 1.5 * 2^23 and 1.5 * 2^52: adding it leaves no bits for a fraction.
SLUICE_FORMULA constexpr float rounding_constant(float) { return 12582912.0f; }
SLUICE_FORMULA constexpr double rounding_constant(double) { return 6755399441055744.0; }

template <class T>
struct QuantizationGrid {
  T scale, inverse, low, high;  // |low|, |high| below 2^22
};

template <class T>
SLUICE_FORMULA QuantizationGrid<T> quantization_grid(T scale, T low, T high) {
  return {scale, T(1) / scale, low, high};
}

template <class T, class V>
SLUICE_FORMULA V fake_quantized(V x, const QuantizationGrid<T>& grid) {
  V steps = x * V(grid.inverse);
  steps = select(steps < V(grid.low), V(grid.low), steps);
  steps = select(steps > V(grid.high), V(grid.high), steps);
  const V magic(rounding_constant(T(0)));
  return (steps + magic - magic) * V(grid.scale);
}

}  // namespace sluice
