#!/usr/bin/env bash
# sluice quantize: the table, JSON alone on stdout, equal runs equal output, and errors with exit code 2.
set -euo pipefail
source "$(dirname "$0")/tiny_run.bash"

train run --set train.steps=10 --set model.attention.type=vga
quantize() { "$SLUICE" quantize "$folder/run" --batch 4 --batches 2 --layer-batches 1 --calibration-batches 3 "$@"; }

quantize > "$folder/table" 2> "$folder/err"
grep -q 'step_00000010 at step 10' "$folder/table" || fail "the checkpoint is not named"
for row in 'as it is' 'W8A8' 'W8 (weights alone)' 'A8 (inputs alone)' blocks.0.attention.qkv blocks.0.attention.gate \
           blocks.0.attention.output blocks.0.mlp.up blocks.0.mlp.down; do
  grep -qF "$row" "$folder/table" || fail "the table has no row \"$row\""
done
grep -q 'head' <(grep '^blocks\|^head' "$folder/table") && fail "the output head is quantized"
[[ -s $folder/err ]] && fail "standard error is not empty: $(cat "$folder/err")"

quantize --json - > "$folder/a.json"
[[ $(head -c 1 "$folder/a.json") == '{' && $(tail -n 1 "$folder/a.json") == '}' ]] || fail "stdout is not JSON alone"
quantize --json "$folder/b.json" > /dev/null
cmp "$folder/a.json" "$folder/b.json" || fail "the same command gives other figures"

quantize --weights mse --activations percentile --per-channel --weight-bits 4 --activation-bits 6 > "$folder/table"
grep -q 'int4, symmetric, per channel, least squared error' "$folder/table" || fail "options are not told (weights)"
grep -q 'uint6, asymmetric, per tensor, static, percentile 99.999' "$folder/table" || fail "options are not told (inputs)"

for rule in minmax percentile; do
  quantize --all-activations --activations $rule > "$folder/table" || fail "--all-activations with $rule"
  for row in 'W8A8, all activations' blocks.0.attention.stream blocks.0.attention.scores blocks.0.attention.weights \
             blocks.0.mlp.active head.normed; do
    grep -qF "$row" "$folder/table" || fail "the table has no row \"$row\" ($rule)"
  done
  quantize --all-activations --activations $rule > "$folder/again"
  cmp "$folder/table" "$folder/again" || fail "the same command gives other figures of all activations ($rule)"
done

# A checkpoint's folder; without the layers' part.
"$SLUICE" quantize "$folder/run/checkpoints/step_00000005" --batch 4 --batches 1 --layer-batches 0 > "$folder/table"
grep -q 'at step 5' "$folder/table" || fail "an older checkpoint is not taken"
grep -q 'only it' "$folder/table" && fail "--layer-batches 0 measures layers"

quantize --save --json "$folder/b.json" > /dev/null 2> "$folder/err"
grep -q '^saved: .*/run/quantization.json$' "$folder/err" || fail "quantize --save does not say where"
cmp "$folder/run/quantization.json" "$folder/b.json" || fail "--save keeps something else than --json"
"$SLUICE" compare "$folder/run" --markdown > "$folder/table"
grep -q 'quantized \[%\] change' "$folder/table" || fail "compare does not show the quantized model"
grep -q '^- quantized: W8A8, weights minmax per matrix, activations minmax with momentum 0.9' "$folder/table" || fail "compare does not say how it is quantized"

# Other data than the run's own, and a run whose tokenizer has moved.
source "$(dirname "$0")/moved_run.bash"
on_shard() {
  "$SLUICE" quantize "$folder/moved" --batch 1 --batches 1 --layer-batches 0 --data "$shard" --calibration-data "$shard" "$@"
}
on_shard --tokenizer "$folder/new.json" > "$folder/table" 2> "$folder/err" || fail "quantize --tokenizer: $(cat "$folder/err")"
grep -q 'W8A8' "$folder/table" || fail "no table for other data"

# expect_wrong_input PATTERN ARGUMENT...
expect_wrong_input() {
  local pattern=$1 status=0
  shift
  "$SLUICE" quantize "$@" > "$folder/out" 2> "$folder/err" || status=$?
  [[ $status -eq 2 ]] && grep -q -- "$pattern" "$folder/err" || fail "quantize $*: exit code $status, $(cat "$folder/err")"
}
expect_wrong_input 'none' "$folder/none"
expect_wrong_input '--weight-bits' "$folder/run" --weight-bits 1
expect_wrong_input '--activations' "$folder/run" --activations max
expect_wrong_input '--percentile' "$folder/run" --percentile 50
expect_wrong_input '--data: cannot open .*nothing.bin' "$folder/run" --data "$folder/nothing.bin"
expect_wrong_input '--calibration-data: cannot open .*nothing.bin' "$folder/run" --calibration-data "$folder/nothing.bin"
expect_wrong_input '--tokenizer: .*bigram_backcopy.*; --data names shards' "$folder/run" --tokenizer "$folder/new.json"
expect_wrong_input '; --calibration-data names' "$folder/run" --data "$shard" --tokenizer "$folder/new.json"
expect_wrong_input 'data.tokenizer (or --tokenizer): .*old.json' "$folder/moved"
expect_wrong_input '--tokenizer: .*none.model' "$folder/moved" --tokenizer "$folder/none.model"
expect_wrong_input '--tokenizer: .* was trained with another tokenizer' "$folder/moved" --tokenizer "$folder/other.json"
expect_wrong_input '--data: .* by another tokenizer .* than --tokenizer' "$folder/run" --data "$shard" --tokenizer "$folder/other.json"
expect_wrong_input 'cannot' "$folder/run" --batch 4 --batches 1 --layer-batches 0 --calibration-batches 1 \
  --json "$folder/run/config.json/out.json"
cp -r "$folder/run/checkpoints/step_00000005" "$folder/alone"
expect_wrong_input "lies in no run's folder" "$folder/alone" --save
