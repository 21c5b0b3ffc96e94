// What this processor's registers can do at most: the floor under matrix products.
#pragma once

namespace sluice {

// GFLOP/s (of 10^9, a multiply-add is two) of all OpenMP threads, operands in registers; 0 where there are none.
struct RegisterPeaks {
  double fma = 0;       // f32, in the instruction set that is used
  double bf16_dot = 0;  // AVX-512's vdpbf16ps
  double tiles = 0;     // AMX's tdpbf16ps
};

// The best of short turns, in all about `seconds` of wall-clock time for each.
RegisterPeaks measure_register_peaks(double seconds);

// Has this process AMX tiles for bf16?
bool has_tiles();

// Does the processor's bf16 dot product do twice the multiply-adds of f32? AMD's do (Zen 4 and later), Intel's half or
// as many. Asked of the processor and not measured: what computes a product is the same in every run.
bool has_fast_bf16_dot();

}  // namespace sluice
