#!/usr/bin/env bash
# The PTX that nvcc makes of the CUDA kernels, run by the interpreter of tests/ptx, against references in double. It needs
# nvcc, and numpy in $SLUICE_PYTHON, build/python or python3, and is skipped by what is missing.
set -euo pipefail
python=
for candidate in ${SLUICE_PYTHON:+"$SLUICE_PYTHON"} build/python/bin/python python3 /usr/bin/python3; do
  if command -v "$candidate" > /dev/null && "$candidate" -c 'import numpy' > /dev/null 2>&1; then python=$candidate && break; fi
done
if [[ -z $python ]]; then
  echo "no Python with numpy (Debian: python3-numpy): the PTX of the CUDA kernels is not run"
  exit 77
fi
# Small arrays gain nothing by the threads of numpy's libraries.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
"$python" tests/ptx/run.py
