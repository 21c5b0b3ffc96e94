#include "kernels/cpu/peak.h"

#include <omp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/stopwatch.h"
#include "kernels/cpu/isa.h"

namespace sluice {
namespace {

// Linux gives a process its tiles when it asks for them.
bool tiles_granted() {
#if defined(__linux__) && defined(__x86_64__)
  constexpr long kRequestFeature = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool granted = syscall(SYS_arch_prctl, kRequestFeature, kTileData) == 0;
  return granted;
#else
  return false;
#endif
}

bool processor_has(Arithmetic kind) {
#ifdef __x86_64__
  switch (kind) {
    case Arithmetic::kMultiplyAdd: return true;
    case Arithmetic::kBf16Dot: return __builtin_cpu_supports("avx512bf16");
    case Arithmetic::kTiles: return __builtin_cpu_supports("amx-bf16") && tiles_granted();
  }
#endif
  return kind == Arithmetic::kMultiplyAdd;
}

double all_threads(Arithmetic kind, double seconds) {
  if (!processor_has(kind)) return 0;
  double best = 0;
  for (const Stopwatch watch; watch.seconds() < seconds;) {
    constexpr int64_t kRounds = 200000;  // a few milliseconds
    double operations = 0;
    const Stopwatch round;
#pragma omp parallel reduction(+ : operations)
    operations += isa_kernels().exercise(kind, kRounds);
    best = std::max(best, operations / round.seconds());
  }
  return best * 1e-9;
}

}  // namespace

RegisterPeaks measure_register_peaks(double seconds) {
  return {all_threads(Arithmetic::kMultiplyAdd, seconds), all_threads(Arithmetic::kBf16Dot, seconds),
          all_threads(Arithmetic::kTiles, seconds)};
}

bool has_tiles() { return processor_has(Arithmetic::kTiles); }

bool has_fast_bf16_dot() {
#ifdef __x86_64__
  return __builtin_cpu_is("amd") && processor_has(Arithmetic::kBf16Dot);
#else
  return false;
#endif
}

}  // namespace sluice
