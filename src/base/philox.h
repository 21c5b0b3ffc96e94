// Philox4x32-10, the counter-based generator of Salmon et al. 2011 ("Parallel random numbers: as easy as 1, 2, 3").
//
// A draw is a pure function of (seed, stream, position): nothing is stored, so data order and initialisation are the
// same after a resume and on any number of threads or ranks. `stream` separates uses (see Stream), `position` counts
// inside a use.
#pragma once

#include <cmath>
#include <cstdint>

// Kernels draw too, on every device and for every instruction set: no copy of it is shared (cmake/isa_kernels.cmake).
#ifdef __CUDACC__
#define SLUICE_COUNTED __host__ __device__ __forceinline__
#else
#define SLUICE_COUNTED inline __attribute__((always_inline))
#endif

namespace sluice {

// What a stream of random numbers is for. The low 32 bits of a stream are free for an index (a tensor, an epoch).
enum class Stream : uint64_t {
  kInit = uint64_t{1} << 32,
  kTrainData = uint64_t{2} << 32,
  kHeldOutData = uint64_t{3} << 32,
  kShuffle = uint64_t{4} << 32,
  kBench = uint64_t{5} << 32,
  kTextSample = uint64_t{6} << 32,
  kDocuments = uint64_t{7} << 32,
  kMixture = uint64_t{8} << 32,
  kSample = uint64_t{9} << 32,
  kFixedRows = uint64_t{10} << 32,
  kWindowOrder = uint64_t{11} << 32,
  kDropout = uint64_t{12} << 32,  // with what else its counters hold: kernels/formulas/dropout.h
  kMasking = uint64_t{13} << 32,
};

struct Random4 {
  uint32_t word[4];
};

SLUICE_COUNTED Random4 philox(uint64_t seed, uint64_t stream, uint64_t position) {
  constexpr uint32_t kMul0 = 0xD2511F53u, kMul1 = 0xCD9E8D57u, kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
  uint32_t c0 = uint32_t(position), c1 = uint32_t(position >> 32), c2 = uint32_t(stream), c3 = uint32_t(stream >> 32);
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{kMul0} * c0, p1 = uint64_t{kMul1} * c2;
    const uint32_t n0 = uint32_t(p1 >> 32) ^ c1 ^ k0, n2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
    c0 = n0, c1 = uint32_t(p1), c2 = n2, c3 = uint32_t(p0);
    k0 += kWeyl0, k1 += kWeyl1;
  }
  return {{c0, c1, c2, c3}};
}

// Uniform in [0, 1) with 24 bits: exact in fp32.
inline float uniform24(uint32_t word) { return float(word >> 8) * 0x1p-24f; }

// Uniform in [0, 1) with 53 bits.
inline double uniform53(uint32_t high, uint32_t low) { return double((uint64_t{high} << 32 | low) >> 11) * 0x1p-53; }

// Standard normal by Box-Muller; `which` picks the cosine (0) or sine (1) partner of a pair of words.
inline float normal_from(uint32_t a, uint32_t b, int which) {
  const double radius = sqrt(-2.0 * log((double(a) + 0.5) * 0x1p-32));
  const double angle = 6.283185307179586476925 * (double(b) * 0x1p-32);
  return float(radius * (which == 0 ? cos(angle) : sin(angle)));
}

}  // namespace sluice
