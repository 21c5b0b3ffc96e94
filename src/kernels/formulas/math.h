// Elementary functions that the formulas in this folder are written with. A formula is a template over its value type:
// float or double here and on a GPU, a SIMD vector in kernels/cpu/isa (vec.h overloads these names there).
#pragma once

#include <cmath>

#ifdef __CUDACC__
#define SLUICE_FORMULA __host__ __device__ __forceinline__
#else
#define SLUICE_FORMULA inline __attribute__((always_inline))
#endif

namespace sluice {

SLUICE_FORMULA float exp_of(float x) { return expf(x); }
SLUICE_FORMULA double exp_of(double x) { return exp(x); }
SLUICE_FORMULA float log_of(float x) { return logf(x); }
SLUICE_FORMULA double log_of(double x) { return log(x); }
SLUICE_FORMULA float abs_of(float x) { return fabsf(x); }
SLUICE_FORMULA double abs_of(double x) { return fabs(x); }
SLUICE_FORMULA float sqrt_of(float x) { return sqrtf(x); }
SLUICE_FORMULA double sqrt_of(double x) { return sqrt(x); }
SLUICE_FORMULA float select(bool condition, float a, float b) { return condition ? a : b; }
SLUICE_FORMULA double select(bool condition, double a, double b) { return condition ? a : b; }

// sigmoid(x) = 1 / (1 + e^-x); e^-x may overflow to infinity, which gives the right limit.
template <class V>
SLUICE_FORMULA V sigmoid_of(V x) {
  return V(1) / (V(1) + exp_of(V(0) - x));
}

// tanh(x) = 1 - 2 / (e^2x + 1)
template <class V>
SLUICE_FORMULA V tanh_of(V x) {
  return V(1) - V(2) / (exp_of(x + x) + V(1));
}

}  // namespace sluice
