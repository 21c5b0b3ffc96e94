// Which instruction set's kernels run: the widest one that was compiled in and that processor and system support.
//
// __builtin_cpu_supports answers for both: it says yes to AVX and AVX-512 only where the system saves their registers.
#include "kernels/cpu/isa.h"

#include <cstdlib>
#include <string>

#include "base/error.h"

namespace sluice {

namespace baseline {
extern const IsaKernels kTable;
}
#ifdef SLUICE_HAS_ISA_AVX2
namespace avx2 {
extern const IsaKernels kTable;
static bool supported() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2");
}
}  // namespace avx2
#endif
#ifdef SLUICE_HAS_ISA_AVX512
namespace avx512 {
extern const IsaKernels kTable;
static bool supported() {
  return avx2::supported() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
}  // namespace avx512
#endif

std::vector<const IsaKernels*> available_isas() {
  std::vector<const IsaKernels*> out{&baseline::kTable};
#ifdef SLUICE_HAS_ISA_AVX2
  if (avx2::supported()) out.push_back(&avx2::kTable);
#endif
#ifdef SLUICE_HAS_ISA_AVX512
  if (avx512::supported()) out.push_back(&avx512::kTable);
#endif
  return out;
}

const IsaKernels& select_isa(const char* wanted) {
  const auto sets = available_isas();
  if (!wanted || !*wanted) return *sets.back();
  std::vector<std::string> names;
  for (const IsaKernels* set : sets) {
    if (std::string(wanted) == set->name) return *set;
    names.push_back(set->name);
  }
  throw UserError("the environment variable SLUICE_CPU_ISA is \"{}\"; this machine and build have: {}", wanted,
                  fmt::join(names, ", "));
}

const IsaKernels& isa_kernels() {
  static const IsaKernels& chosen = select_isa(std::getenv("SLUICE_CPU_ISA"));
  return chosen;
}

const char* cpu_isa_name() { return isa_kernels().name; }

}  // namespace sluice
