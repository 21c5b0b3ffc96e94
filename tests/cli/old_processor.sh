#!/usr/bin/env bash
# A processor without AVX: baseline kernels, oneDNN held to SSE4.1 (which has no bf16, so our own product steps in). The
# losses are those of the widest instruction set within rounding, in fp32 and in bf16.
set -euo pipefail
source tests/cli/tiny_run.bash

losses() { sed -n 's/.*"kind":"train".*"loss":\([0-9.]*\).*/\1/p' "$folder/$1/metrics.jsonl"; }

for precision in fp32 bf16; do
  train "new_$precision" --set "train.precision=$precision" || fail "$precision: $(cat "$folder/err")"
  SLUICE_CPU_ISA=baseline ONEDNN_MAX_CPU_ISA=SSE41 train "old_$precision" --set "train.precision=$precision" ||
    fail "$precision on an old processor: $(cat "$folder/err")"
  grep -q "baseline kernels" "$folder/out" || fail "the baseline kernels were not chosen: $(cat "$folder/out")"
  [[ $(losses "old_$precision" | wc -l) -eq 20 ]] || fail "$precision: not 20 losses"
  # Losses near 4: fp32 rounds at 5e-7, and over 20 steps the differences stay far below 1e-4; a bf16 weight or activation
  # rounds at 2^-9, which averages out over 192 tokens to less than 1%.
  bound=$([[ $precision == fp32 ]] && echo 1e-4 || echo 4e-2)
  paste <(losses "new_$precision") <(losses "old_$precision") |
    awk -v bound="$bound" '{ d = $1 - $2; if (d < 0) d = -d; if (d > bound) { print "step", NR ":", $1, "and", $2; bad = 1 } }
                           END { exit bad }' || fail "$precision: the losses differ by more than $bound"
done
