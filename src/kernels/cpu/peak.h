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

// Does one bf16 dot product of registers more than 1.4 times the multiply-adds of f32? It does twice as many on some
// processors (Zen 4), on others half. Measured once, in some milliseconds, on the calling thread.
bool bf16_dot_is_fast();

}  // namespace sluice
