#!/usr/bin/env bash
# doctor says which kernels were chosen, and SLUICE_CPU_ISA narrows the choice.
set -euo pipefail

"$SLUICE" doctor --quick | grep -Eq '^  kernels +(baseline|avx2|avx512) '
SLUICE_CPU_ISA=baseline "$SLUICE" doctor --quick | grep -Eq '^  kernels +baseline '
OMP_NUM_THREADS=1000 "$SLUICE" doctor --quick | grep -q 'set OMP_NUM_THREADS='
status=0
SLUICE_CPU_ISA=mmx "$SLUICE" doctor --quick > /dev/null 2>&1 || status=$?
[[ $status -eq 2 ]]
"$SLUICE" --version | grep -Eq '^sluice [0-9]+\.[0-9]+\.[0-9]+'
