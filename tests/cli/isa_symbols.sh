#!/usr/bin/env bash
# No object compiled for AVX2 or AVX-512 may define a symbol that another object could define too: the linker would keep
# one of the two, and the program could crash on a processor without those instructions.
set -euo pipefail

if ! grep -q '^CMAKE_BUILD_TYPE:.*=Release$' "$SLUICE_BUILD/CMakeCache.txt"; then
  echo "only a release build inlines the standard library"
  exit 77
fi

bad=0
for isa in avx2 avx512; do
  for object in "$SLUICE_BUILD/CMakeFiles/sluice_isa_$isa.dir"/src/kernels/cpu/isa/{,*/}*.o; do
    [[ -e $object ]] || continue
    # Weak and unique symbols (W, u) are those that the linker merges by name; weak data (V) has no instructions.
    shared=$(nm --demangle --defined-only "$object" | grep -E '^[0-9a-f]+ [Wu] ' | grep -v "sluice::$isa::" || true)
    if [[ -n $shared ]]; then
      echo "$object shares:"
      echo "$shared"
      bad=1
    fi
  done
done
exit $bad
