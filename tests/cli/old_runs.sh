#!/usr/bin/env bash
# Runs of version 0.1 (tests/golden/runs_0_1): they go on from their checkpoints as that version went on, and are
# measured, compared and loaded like runs of today. `many` has parts of every kind: sink_logit with an element-wise gate,
# SwiGLU, rope, grouped heads with norms, RMSNorm, Muon.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/cli/tiny_run.bash

if ! command -v python3 > /dev/null; then
  echo "no python3, which compares the metrics"
  exit 77
fi

for run in vga many; do
  cp -r "tests/golden/runs_0_1/$run" "$folder/$run"
  "$SLUICE" config "$folder/$run/config.json" > "$folder/config.json" || fail "$run: its config is not read"
  "$SLUICE" train "$folder/$run/config.json" --set train.steps=12 --out "$folder/$run" --quiet > "$folder/out" 2> "$folder/err" ||
    fail "$run does not go on: $(cat "$folder/err")"
  # Other processors round otherwise, which twelve steps carry on.
  python3 - "$folder/$run/metrics.jsonl" "tests/golden/runs_0_1/${run}_after.jsonl" << 'PY' || fail "$run goes on otherwise"
import json, math, sys

def lines(path):
    for text in open(path):
        line = json.loads(text)
        if line["step"] > 6:
            yield (line["kind"], line["step"], line.get("layer"), line.get("head")), line

now, compared = dict(lines(sys.argv[1])), 0
for place, want in lines(sys.argv[2]):
    for key, value in want.items():
        found = now[place][key]
        if isinstance(value, float):
            compared += 1
            if not math.isclose(found, value, rel_tol=1e-3, abs_tol=1e-5):
                sys.exit(f"{place} {key}: {found}, not {value}")
        elif found != value:
            sys.exit(f"{place} {key}: {found}, not {value}")
assert compared > 50, compared
PY
  for command in analyze quantize "sample --tokens 4"; do
    "$SLUICE" $command "$folder/$run/checkpoints/step_00000006" > "$folder/out" 2> "$folder/err" ||
      fail "$command of $run: $(cat "$folder/err")"
  done
  "$SLUICE" export "$folder/$run" "$folder/exported_$run" > "$folder/out" 2> "$folder/err" || fail "export of $run: $(cat "$folder/err")"
done

# As they were, beside a run of today: its figures under the columns of today.
train today --set train.steps=6 --set log.analyze_every=6 --set log.analyze_sequences=3
"$SLUICE" compare tests/golden/runs_0_1/vga tests/golden/runs_0_1/many "$folder/today" --report "$folder/page.html" \
  > "$folder/table" 2> "$folder/err" || fail "compare: $(cat "$folder/err")"
[[ $(grep -c tiny "$folder/table") -ge 3 ]] || fail "not every run is in the table"
"$SLUICE" compare tests/golden/runs_0_1/vga --json - 2> /dev/null | python3 -c '
import json, sys
run = json.load(sys.stdin)["runs"][0]["summary"]
for key in ("steps", "train_loss", "eval_loss", "backcopy_risk", "sink_attention", "gate_mean", "sink_rate", "kurtosis"):
    assert key in run, key
assert run["steps"] == 6' || fail "a figure of the old run is missing"
