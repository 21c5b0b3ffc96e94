#!/usr/bin/env bash
# A masked language model of one's own text: a tokenizer, shards, training, what is measured of it, and the way to the
# transformers library and back; with what is said of mask tokens that are none.
set -euo pipefail
source "$(dirname "$0")/tiny_run.bash"

"$SLUICE" tokenizer train README.md --vocab 500 --out "$folder/own.model" > /dev/null 2>&1
"$SLUICE" tokenizer encode README.md --tokenizer "$folder/own.model" --out "$folder/text" > /dev/null 2>&1

masked() {  # NAME WORDS...
  local run=$1
  shift
  train "$run" --set model.vocab_size="${vocabulary:-504}" --set model.causal=false --set model.head_transform=true --set train.steps=4 \
    --set log.eval_every=4 --set log.eval_batch=4 --set log.map_positions=8 --set "data={\"type\": \"tokens\",
    \"train_shards\": [\"$folder/text_00000.bin\"], \"validation_shards\": [\"$folder/text_00000.bin\"],
    \"tokenizer\": \"$folder/own.model\", \"masking\": {\"share\": 0.15}}" "$@"
}
refused() {  # PATTERN WORDS...
  local status=0 pattern=$1
  shift
  "$@" > "$folder/out" 2> "$folder/err" || status=$?
  [[ $status -eq 2 && $(wc -l < "$folder/err") -eq 1 ]] || fail "exit code $status: $(cat "$folder/err")"
  grep -qE -e "$pattern" "$folder/err" || fail "\"$pattern\" is not in: $(cat "$folder/err")"
}
refused 'data.masking.token is not set, and sentencepiece .* such as 500$' masked none
vocabulary=500 refused 'such as 500, and model.vocab_size to 501$' masked none
refused 'data.masking.token is 499, which texts have: it is "' masked none --set data.masking.token=499
refused 'data.masking.token is 1, which stands between the documents of' masked none --set data.masking.token=1
refused 'data.masking.token is 1, which is data.first_token too' masked none --set data.masking.token=1 --set data.first_token=1
[[ ! -e $folder/none ]] || fail "a refused run left a folder"

masked run --set data.masking.token=500 --set model.registers=1 || fail "$(cat "$folder/err")"
refused 'eval predicts the next token, and .* is a masked language model' "$SLUICE" eval "$folder/run" README.md
refused 'sample predicts the next token' "$SLUICE" sample "$folder/run"
"$SLUICE" analyze "$folder/run" --sequences 4 > "$folder/out" 2> "$folder/err" || fail "$(cat "$folder/err")"
"$SLUICE" quantize "$folder/run" --all-activations --batches 1 --calibration-batches 2 --batch 2 --layer-batches 0 --save \
  > "$folder/out" 2> "$folder/err" || fail "$(cat "$folder/err")"
grep -q '^head.transform ' "$folder/out" || fail "the head's transform is not quantized"
grep -q '^head.output ' "$folder/out" || fail "nor is what it makes"
"$SLUICE" compare "$folder/run" --all > "$folder/out" 2> "$folder/err" || fail "$(cat "$folder/err")"
grep -q 'all activations' "$folder/out" || fail "compare does not show it: $(cat "$folder/out")"

# ---- out and back -----------------------------------------------------------------------------------------------------

"$SLUICE" export "$folder/run" "$folder/exported" > "$folder/out" 2> "$folder/err" || fail "$(cat "$folder/err")"
[[ ! -s $folder/err ]] || fail "notes: $(cat "$folder/err")"
grep -q '"sluice_mask_token": 500' "$folder/exported/config.json" || fail "config.json does not know the mask token"
grep -q '"mask_token": "\[MASK\]"' "$folder/exported/tokenizer_config.json" || fail "the tokenizer has no mask token"
grep -qF 'inputs["input_ids"][0, 1] = 500  # the mask token' "$folder/exported/README.md" || fail "the card masks nothing"
data="data={\"train_shards\": [\"$folder/text_00000.bin\"], \"validation_shards\": [\"$folder/text_00000.bin\"]}"
"$SLUICE" import "$folder/exported" --out "$folder/back" --set "$data" > "$folder/out" 2> "$folder/err" || fail "$(cat "$folder/err")"
"$SLUICE" train "$folder/back/config.json" --resume "$folder/back" --out "$folder/on" --set train.steps=2 \
  --set train.batch=2 --set train.schedule.warmup=0 --quiet > "$folder/out" 2> "$folder/err" || fail "$(cat "$folder/err")"
grep -q '"token": 500' "$folder/on/config.json" || fail "another mask token: $(grep -A6 masking "$folder/on/config.json")"
"$SLUICE" export "$folder/on" "$folder/again" > /dev/null 2> "$folder/err" || fail "$(cat "$folder/err")"
cmp "$folder/exported/tokenizer.json" "$folder/again/tokenizer.json" || fail "another tokenizer.json after the round trip"
"$SLUICE" import "$folder/exported" --out "$folder/other" --set "$data" --set data.masking.replaced=0.5 > "$folder/out" 2> "$folder/err" ||
  fail "a share must be there unless it is set: $(cat "$folder/err")"
