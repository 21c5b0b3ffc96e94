#!/usr/bin/env bash
# sluice sweep: every variant with every seed, at once or one by one; what is done is passed over, what was stopped goes
# on, what fails is told of and does not stop the rest; one table and report at the end.
set -euo pipefail
source "$(dirname "$0")/tiny_run.bash"

sweep() { "$SLUICE" sweep "$@" > "$folder/out" 2> "$folder/err"; }

cat > "$folder/pair.json" <<'JSON'
{
  "base": "tiny.json",
  "config": {"train": {"steps": 6}, "log": {"checkpoint_every": 2}},
  "variants": {"softmax": {}, "vga": {"model": {"attention": "vga"}}},
  "seeds": [1, 2]
}
JSON

# ---- all runs, two at a time
sweep "$folder/pair.json" --out "$folder/pair" --jobs 2 || fail "the sweep failed: $(cat "$folder/out" "$folder/err")"
for run in softmax-s1 softmax-s2 vga-s1 vga-s2; do
  [[ $(train_lines "pair/$run") -eq 6 ]] || fail "$run has $(train_lines "pair/$run") steps, not 6"
  grep -q 'step 6/6' "$folder/pair/logs/$run.txt" || fail "the log of $run is missing"
done
grep -Eq '^softmax, 2 seeds +6 +[0-9.]+ ± [0-9.]+' "$folder/out" || fail "no mean over seeds: $(cat "$folder/out")"
grep -Eq '^vga, 2 seeds ' "$folder/out" || fail "no mean of the second variant"
! grep -Eq '^vga-s1 ' "$folder/out" || fail "the printed table repeats the single runs"
grep -q '| vga-s1 |' "$folder/pair/table.md" || fail "table.md lacks the single runs"
[[ -s "$folder/pair/summary.json" && -s "$folder/pair/report.html" ]] || fail "no summary or report"
grep -q '"seed": 2' "$folder/pair/vga-s2/config.json" || fail "vga-s2 has another seed"

# ---- a run of a sweep is the run that train makes
"$SLUICE" train "$folder/tiny.json" --set seed=2 --set train.steps=6 --set log.checkpoint_every=2 \
  --set model.attention=vga --out "$folder/alone" > /dev/null
same_runs alone pair/vga-s2

# ---- again: nothing is left to do, and nothing changes
cp "$folder/pair/vga-s1/metrics.jsonl" "$folder/before"
sweep "$folder/pair.json" --out "$folder/pair"
[[ $(grep -c 'done before' "$folder/out") -eq 4 ]] || fail "done runs were trained again: $(cat "$folder/out")"
cmp "$folder/before" "$folder/pair/vga-s1/metrics.jsonl" || fail "a done run was touched"
sweep "$folder/pair.json" --out "$folder/pair" --list
[[ $(grep -c '  done$' "$folder/out") -eq 4 ]] || fail "--list: $(cat "$folder/out")"

# ---- stopped in the middle, it goes on where it was
"$SLUICE" sweep "$folder/pair.json" --out "$folder/stopped" --set train.steps=400 > "$folder/out" 2>&1 &
pid=$!
for _ in $(seq 600); do
  [[ $(train_lines stopped/softmax-s1) -ge 3 ]] && break
  sleep 0.05
done
kill -TERM $pid
status=0
wait $pid || status=$?
[[ $status -eq 143 ]] || fail "a stopped sweep ends with $status: $(cat "$folder/out")"
grep -q 'stopped by SIGTERM; the same command goes on' "$folder/out" || fail "it does not say how to go on"
done_steps=$(train_lines stopped/softmax-s1)
[[ $done_steps -ge 3 && $done_steps -lt 400 ]] || fail "the run was not stopped in the middle: $done_steps steps"
sweep "$folder/pair.json" --out "$folder/stopped" --set log.every=100 --set 'log.probe_every=0' \
  --set train.steps="$((done_steps + 5))" || fail "it does not go on: $(cat "$folder/err")"
grep -Eq 'softmax-s1 +goes on' "$folder/out" || fail "it started over: $(cat "$folder/out")"

# ---- the program's file is replaced while the sweep goes on
cp "$SLUICE" "$folder/program"
"$folder/program" sweep "$folder/pair.json" --out "$folder/replaced" > "$folder/replaced.txt" 2>&1 &
until grep -qs started "$folder/replaced.txt"; do sleep 0.02; done
rm "$folder/program"
wait $! || fail "runs failed after the program was replaced: $(cat "$folder/replaced.txt")"

# ---- a run that fails
sed 's/"softmax": {}/"broken": {"data": {"statistics": "none.txt"}}, "softmax": {}/' "$folder/pair.json" > "$folder/broken.json"
status=0
sweep "$folder/broken.json" --out "$folder/broken" || status=$?
[[ $status -eq 1 ]] || fail "a failed run: exit code $status"
grep -q 'broken-s1.*FAILED.*exit code 2.*cannot open none.txt' "$folder/out" || fail "why it failed: $(cat "$folder/out")"
grep -q '2 of 6 runs failed; the same command tries them again' "$folder/err" || fail "$(cat "$folder/err")"
[[ $(train_lines broken/vga-s2) -eq 6 ]] || fail "a failed run kept the others from being trained"

# ---- a run that cannot be started
mkdir -p "$folder/stuck/logs/softmax-s1.txt"
cp -r "$folder/pair/configs" "$folder/stuck"
status=0
sweep "$folder/pair.json" --out "$folder/stuck" || status=$?
[[ $status -eq 1 ]] || fail "a run that cannot be started: exit code $status"
grep -q 'softmax-s1.*FAILED to start: cannot write .*softmax-s1.txt: Is a directory' "$folder/out" || fail "why: $(cat "$folder/out")"
grep -q '1 of 4 runs failed' "$folder/err" || fail "$(cat "$folder/err")"
[[ $(train_lines stuck/vga-s2) -eq 6 && -s "$folder/stuck/table.md" ]] || fail "it kept the others from being trained"

# ---- a run whose metrics cannot be read is left out of the report
mv "$folder/stuck/softmax-s2/metrics.jsonl" "$folder/before"
mkdir "$folder/stuck/softmax-s2/metrics.jsonl"
rmdir "$folder/stuck/logs/softmax-s1.txt"
status=0
sweep "$folder/pair.json" --out "$folder/stuck" || status=$?
[[ $status -eq 1 ]] || fail "a run that cannot be read: exit code $status"
grep -q 'softmax-s2 is not in the report: ' "$folder/out" || fail "it is not told of: $(cat "$folder/out")"
grep -q '1 of 4 runs failed' "$folder/err" || fail "$(cat "$folder/err")"
grep -q 'softmax-s1' "$folder/stuck/table.md" || fail "the others are not in the report"

# ---- a folder that holds something else
refused() {  # refused PATTERN FOLDER: nothing is written there
  find "$2" -exec ls -ld --time-style=full-iso {} + > "$folder/before"
  status=0
  sweep "$folder/pair.json" --out "$2" || status=$?
  [[ $status -eq 2 ]] && grep -q "$1" "$folder/err" || fail "a sweep in $2: exit code $status, $(cat "$folder/err")"
  find "$2" -exec ls -ld --time-style=full-iso {} + | cmp - "$folder/before" || fail "a refused sweep wrote in $2"
}
mkdir -p "$folder/thesis/configs" "$folder/paper"
echo '{"mine": 1}' > "$folder/thesis/configs/a.json"
echo mine > "$folder/paper/chapter.tex"
refused 'is not empty and holds no sweep of Sluice.s (in it: configs)' "$folder/thesis"
refused 'is not empty and holds no sweep of Sluice.s (in it: chapter.tex)' "$folder/paper"
refused "alone is a run's folder, and a sweep has one of its own" "$folder/alone"
status=0
sweep "$folder/pair.json" --out "$folder/paper/chapter.tex" || status=$?
[[ $status -eq 2 ]] && grep -q 'chapter.tex is a file, but a sweep needs a folder' "$folder/err" || fail "a file: $(cat "$folder/err")"

# ---- among other runs, and in a folder that a start left which was killed at once; a malformed info.json is written again
mkdir -p "$folder/mixed/configs" "$folder/mixed/logs"
cp -r "$folder/alone" "$folder/mixed/other"
cp -r "$folder/pair/vga-s1" "$folder/mixed"
echo '{"status": ' > "$folder/mixed/vga-s1/info.json"
sweep "$folder/pair.json" --out "$folder/mixed" > "$folder/mixed/out.txt" || fail "a sweep among other runs: $(cat "$folder/err")"
grep -q '"status": "done"' "$folder/mixed/vga-s1/info.json" || fail "the malformed info.json stays"

# ---- wrong input
status=0
"$SLUICE" train "$folder/pair.json" > /dev/null 2> "$folder/err" || status=$?
[[ $status -eq 2 ]] && grep -q 'pair.json is a sweep, not a config: sluice sweep .*pair.json trains it' "$folder/err" ||
  fail "a sweep given to train: exit code $status, $(cat "$folder/err")"
expect_wrong() {  # expect_wrong PATTERN JSON ARGUMENT...
  local pattern=$1 status=0
  echo "$2" > "$folder/bad.json"
  shift 2
  sweep "$folder/bad.json" "$@" || status=$?
  [[ $status -eq 2 ]] && grep -q "$pattern" "$folder/err" || fail "$pattern: exit code $status, $(cat "$folder/err")"
}
expect_wrong 'unknown key variant; did you mean variants?' '{"variant": {}}'
expect_wrong 'bad.json is a config, not a sweep: sluice train .*bad.json trains it' '{"train": {"steps": 3}}'
expect_wrong 'variants names none' '{"base": "tiny.json"}'
expect_wrong 'seeds must be integers of at least 0, got -1' '{"variants": {"a": {}}, "seeds": [-1]}'
expect_wrong 'seeds names 3 twice' '{"variants": {"a": {}}, "seeds": [3, 3]}'
expect_wrong 'is to be a folder' '{"variants": {"../a": {}}}'
expect_wrong 'variants.a must be an object' '{"variants": {"a": 3}}'
expect_wrong 'variant b: unknown config key model.atention' '{"variants": {"a": {}, "b": {"model": {"atention": "vga"}}}}'
two='{"base": "tiny.json", "variants": {"softmax": {}, "vga": {"model": {"attention": "vga"}}}, "seeds": [1, 2]}'
expect_wrong 'would make the variants the same: vga of .*bad.json sets model.attention' "$two" --set model.attention=relu
expect_wrong 'would make the variants the same' "$two" --set model.attention.gate.reads=hidden
expect_wrong 'the runs. seeds are those that .*bad.json lists' "$two" --set seed=3
expect_wrong 'none.json' '{"base": "none.json", "variants": {"a": {}}}'
expect_wrong 'holds another experiment than this sweep.s: train.batch is 6 there and 5 here' \
  '{"base": "tiny.json", "config": {"train": {"steps": 6, "batch": 5}}, "variants": {"softmax": {}}, "seeds": [1]}' \
  --out "$folder/pair"
