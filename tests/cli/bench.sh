#!/usr/bin/env bash
# bench times a step, names its ops, and writes the same as JSON; a device that is not there is the user's error.
set -euo pipefail
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

small=(configs/bench/small.json --set model.context=16 --set model.width=32 --set model.vocab_size=64 --set train.batch=2
       --set device=cpu --steps 2)
"$SLUICE" bench "${small[@]}" --json "$out/bench.json" > "$out/bench.txt"
grep -q 'tokens/s' "$out/bench.txt"
grep -Eq '^ +matmul +[0-9]+ calls' "$out/bench.txt"
for key in tokens_per_second share_of_matmul_peak share_of_peak peak_operations_per_second ops matmuls; do
  grep -q "\"$key\"" "$out/bench.json"
done

if "$SLUICE" doctor --quick | grep -q 'device auto *cpu: '; then
  status=0
  "$SLUICE" bench "${small[@]}" --set device=cuda 2> "$out/error.txt" || status=$?
  [[ $status -eq 2 ]]
  grep -q 'device is cuda, but ' "$out/error.txt"
fi
