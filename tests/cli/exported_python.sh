#!/usr/bin/env bash
# What the transformers library does with exports, by scripts/check_transformers.py --smoke: the model file and the
# tokenizers, run by Python. It needs torch and transformers in $SLUICE_PYTHON, build/python (scripts/setup_python) or
# python3, and is skipped where none has them.
set -euo pipefail
source tests/cli/tiny_run.bash

# From the oldest release on that exports are made for.
has_libraries() {
  "$1" -c 'import torch, transformers as t; assert tuple(map(int, t.__version__.split(".")[:2])) >= (4, 57)' > /dev/null 2>&1
}

python=
for candidate in ${SLUICE_PYTHON:+"$SLUICE_PYTHON"} build/python/bin/python python3; do
  if command -v "$candidate" > /dev/null && has_libraries "$candidate"; then python=$candidate && break; fi
  [[ $candidate != "${SLUICE_PYTHON:-}" ]] || fail "SLUICE_PYTHON=$candidate cannot import torch and transformers 4.57 or newer"
done
if [[ -z $python ]]; then
  echo "no Python with torch and transformers 4.57 or newer: exports are not run (scripts/setup_python makes one)"
  exit 77
fi
# Model files are copied where the library keeps code; nothing may be asked of a network.
export HF_HOME=$folder/huggingface HF_HUB_OFFLINE=1 TMPDIR=$folder OMP_NUM_THREADS=2
"$python" scripts/check_transformers.py --sluice "$SLUICE" --smoke
