#!/usr/bin/env bash
# sluice analyze: the tables, JSON alone on stdout, every checkpoint of a run, and errors with exit code 2.
set -euo pipefail
source "$(dirname "$0")/tiny_run.bash"

train run --set model.attention=vga --set log.keep=0 --set log.checkpoint_every=10 || fail "training: $(cat "$folder/err")"

analyze() { "$SLUICE" analyze "$@" > "$folder/out" 2> "$folder/err"; }
# has FILE COUNT PATTERN: so many lines of the file match.
has() { [[ $(grep -cE "$3" "$1") -eq $2 ]] || fail "$1: $(grep -cE "$3" "$1") lines, not $2, match $3"; }

analyze "$folder/run" --sequences 5 || fail "analyze: $(cat "$folder/err")"
grep -q '^vga attention, 5 sequences of 32 tokens, fp32' "$folder/out" || fail "the header: $(head -1 "$folder/out")"
grep -qE '^L0H1 ' "$folder/out" || fail "no line for head 1 of layer 0"

analyze "$folder/run" --sequences 5 --json - || fail "analyze --json -"
[[ $(head -c 1 "$folder/out") == '{' && $(tail -n 1 "$folder/out") == '}' ]] || fail "stdout is not JSON alone"
cp "$folder/out" "$folder/run.json"
has "$folder/run.json" 1 '^   "step": 20,'
# A mean over nothing is null: this model has no secondary sinks.
grep ': null' "$folder/run.json" | grep -vE '"(secondary|mlp_cosine)_' && fail "a figure is no number"
has "$folder/run.json" 3 '"gate_gradient_ratio": [0-9]'      # of the model and of two heads
has "$folder/run.json" 2 '"gate_gradient_ratio": "dL/dv'     # and the tensors that they are measured on

# The same figures again, from the checkpoint's own folder.
analyze "$folder/run/checkpoints/step_00000020" --sequences 5 --json "$folder/again.json" || fail "analyze CHECKPOINT"
diff <(grep -v '"path"' "$folder/run.json") <(grep -v '"path"' "$folder/again.json") || fail "the checkpoint differs from its run"

analyze "$folder/run" --all-checkpoints --sequences 2 --length 16 --no-gradients --json "$folder/all.json" || fail "all"
has "$folder/all.json" 2 '^   "step": [12]0,'
has "$folder/all.json" 2 '^   "length": 16,'
has "$folder/all.json" 0 'value_gradient'
grep -qE '^10 .*' "$folder/out" && grep -q '^of step 20:' "$folder/out" || fail "no rows of both steps"

# Kept in the run, where compare finds it.
analyze "$folder/run" --all-checkpoints --sequences 2 --save || fail "analyze --save: $(cat "$folder/err")"
grep -q '^saved: .*/run/analysis/step_00000020.json$' "$folder/err" || fail "analyze --save does not say where"
ls "$folder/run/analysis/step_00000010.json" "$folder/run/analysis/step_00000020.json" > /dev/null || fail "nothing saved"
"$SLUICE" compare "$folder/run" --json "$folder/compare.json" --report "$folder/report.html" > "$folder/out" 2>&1 || fail "compare"
has "$folder/compare.json" 2 '"content_gradient_ratio": [0-9.]+,?$'  # of the run; mean of its group
has "$folder/compare.json" 1 '"content_gradient_ratio": null,?$'     # and its deviation
grep -q '"mean_attention":{' "$folder/report.html" || fail "the report has no mean attention maps"
cp -r "$folder/run/checkpoints/step_00000020" "$folder/alone"

# expect_wrong_input PATTERN ARGUMENT...
expect_wrong_input() {
  local pattern=$1 status=0
  shift
  analyze "$@" || status=$?
  [[ $status -eq 2 && $(wc -l < "$folder/err") -eq 1 ]] && grep -q -- "$pattern" "$folder/err" ||
    fail "analyze $*: exit code $status, $(cat "$folder/err")"
}
expect_wrong_input 'no such folder' "$folder/none"
expect_wrong_input 'no checkpoint in it' "$folder/run/checkpoints/step_00000020" --all-checkpoints
expect_wrong_input 'model.context' "$folder/run" --length 33
expect_wrong_input 'thresholds' "$folder/run" --thresholds 0.1,1.5
expect_wrong_input '--data: cannot open' "$folder/run" --data "$folder/none.bin"
expect_wrong_input '--tokenizer: .*bigram_backcopy' "$folder/run" --tokenizer bytes

# A run whose tokenizer has moved.
source "$(dirname "$0")/moved_run.bash"
analyze "$folder/moved" --sequences 1 --tokenizer "$folder/new.json" || fail "analyze --tokenizer: $(cat "$folder/err")"
expect_wrong_input 'data.tokenizer (or --tokenizer): .*old.json' "$folder/moved"
expect_wrong_input '--tokenizer: .* was trained with another tokenizer' "$folder/moved" --tokenizer "$folder/other.json"
expect_wrong_input 'lies in no run' "$folder/alone" --sequences 1 --save
expect_wrong_input 'device' "$folder/run" --device tpu
