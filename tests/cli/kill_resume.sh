#!/usr/bin/env bash
# SIGKILL at 30 random moments, each time resumed with --resume auto: the run ends with the metrics, weights and
# optimizer state of an unbroken one. Moments fall on start-up, steps, probes and the writing of checkpoints. A run that
# finishes between two kills is compared, and another is begun.
set -euo pipefail
source tests/cli/tiny_run.bash

kills=30
RANDOM=42
steps=(--set train.steps=300 --set log.checkpoint_every=6)

begin=$(date +%s%3N)
train unbroken "${steps[@]}" || fail "the unbroken run failed: $(cat "$folder/err")"
longest=$((($(date +%s%3N) - begin) / 6 + 1))  # milliseconds that a run may live

run=1 killed=0 damaged=0
while [[ $killed -lt $kills ]]; do
  "$SLUICE" train "$folder/tiny.json" --out "$folder/run$run" "${steps[@]}" > "$folder/out" 2> "$folder/err" &
  process=$!
  moment=$((RANDOM % longest))
  sleep "$(printf '%d.%03d' $((moment / 1000)) $((moment % 1000)))"
  kill -KILL "$process" 2> /dev/null || true
  status=0
  wait "$process" 2> /dev/null || status=$?
  if grep -q damaged "$folder/out"; then damaged=$((damaged + 1)); fi
  if [[ $status -eq 137 ]]; then
    killed=$((killed + 1))
  elif [[ $status -eq 0 ]]; then
    same_runs unbroken "run$run"
    run=$((run + 1))
  else
    fail "after $killed kills the run ended with status $status: $(cat "$folder/err")"
  fi
done

train "run$run" "${steps[@]}" || fail "the last resume failed: $(cat "$folder/err")"
same_runs unbroken "run$run"
[[ $damaged -eq 0 ]] || fail "$damaged times a kill left a damaged checkpoint under its final name"
echo "$killed kills, $run run(s), each equal to the unbroken one"
