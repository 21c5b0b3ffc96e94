#!/usr/bin/env bash
# sluice export and sluice import: there and back, training on, and what a wrong call is told. What the transformers
# library says to the folders is checked by scripts/check_transformers.py.
set -euo pipefail
source tests/cli/tiny_run.bash

golden=tests/golden/transformers/gpt2

# refused WORDS ARGUMENT...: the command ends with status 2 and one sentence with these words.
refused() {
  local words=$1 status=0
  shift
  "$SLUICE" "$@" > "$folder/out" 2> "$folder/err" || status=$?
  [[ $status -eq 2 ]] || fail "sluice $*: status $status instead of 2: $(cat "$folder/err")"
  [[ $(wc -l < "$folder/err") -eq 1 ]] || fail "sluice $*: not one line: $(cat "$folder/err")"
  grep -qF -- "$words" "$folder/err" || fail "sluice $*: does not say '$words': $(cat "$folder/err")"
}

# A folder of the library: in, out, and in again.
"$SLUICE" import "$golden" --out "$folder/gpt2" > "$folder/out"
grep -q "a run at step 0 with the 4452 parameters of $golden (architecture gpt2)" "$folder/out" || fail "$(cat "$folder/out")"
"$SLUICE" export "$folder/gpt2" "$folder/gpt2_hf" --logits 24 > "$folder/out"
grep -q 'architecture gpt2, 4452 parameters, .* in float32' "$folder/out" || fail "$(cat "$folder/out")"
[[ $(ls "$folder/gpt2_hf" | tr '\n' ' ') == "README.md config.json generation_config.json logits.safetensors model.safetensors " ]] || fail "$(ls "$folder/gpt2_hf")"
"$SLUICE" import "$folder/gpt2_hf" --out "$folder/again" > "$folder/out"
cmp "$folder"/{gpt2,again}/checkpoints/step_00000000/model.safetensors || fail "the weights are not the same"

# A model of our own, with a gate, and by the checkpoint's folder.
train vga --set model.attention=vga --set train.steps=5 || fail "the run failed: $(cat "$folder/err")"
"$SLUICE" export "$folder/vga/checkpoints/step_00000005" "$folder/vga_hf" --dtype bfloat16 > "$folder/out"
grep -q 'trust_remote_code=True' "$folder/out" || fail "$(cat "$folder/out")"
[[ -s $folder/vga_hf/modeling_sluice.py ]] || fail "no model file"
"$SLUICE" export "$folder/vga" "$folder/vga_exact" > "$folder/out"

# The card says what stands before a sequence and in the norms.
train registers --set model.registers=3 --set model.norm_gate=4 --set train.steps=1 || fail "the run failed: $(cat "$folder/err")"
"$SLUICE" export "$folder/registers" "$folder/registers_hf" > "$folder/out"
grep -qF '| norm, positions | layernorm with gates of rank 4, learned |' "$folder/registers_hf/README.md" || fail "no norms in the card"
grep -qF '| registers | 3 before the first token of every sequence |' "$folder/registers_hf/README.md" || fail "no registers in the card"
! grep -q '^| registers' "$folder/vga_hf/README.md" || fail "the card of a model without registers names some"

# Training on: a run of its own from the imported weights, with data and steps of its own config.
"$SLUICE" import "$folder/vga_exact" --out "$folder/back" --config "$folder/tiny.json" --set train.steps=4 > "$folder/out"
"$SLUICE" train "$folder/back/config.json" --resume "$folder/back" --out "$folder/tuned" > "$folder/out" 2> "$folder/err" ||
  fail "training on failed: $(cat "$folder/err")"
cmp "$folder/tuned/checkpoints/step_00000000/model.safetensors" \
    "$folder/vga/checkpoints/step_00000005/model.safetensors" || fail "training on began elsewhere"
[[ $(newest tuned) == step_00000004 ]] || fail "training on ended at $(newest tuned)"
# The imported run itself can be trained on too.
"$SLUICE" train "$folder/back/config.json" --out "$folder/back" > "$folder/out" 2> "$folder/err" ||
  fail "training the imported run failed: $(cat "$folder/err")"
cmp "$folder"/{back,tuned}/checkpoints/step_00000004/model.safetensors || fail "the two ways to train on differ"

# The tokenizer goes along: sentencepiece's own file, and one for the library.
"$SLUICE" tokenizer train README.md docs/*.md --vocab 400 --out "$folder/docs.model" > "$folder/out" 2> "$folder/err"
"$SLUICE" train "$folder/tiny.json" --out "$folder/text" --set model.vocab_size=400 --set data=random --set train.steps=1 \
  > "$folder/out" 2> "$folder/err" || fail "the run failed: $(cat "$folder/err")"
"$SLUICE" export "$folder/text" "$folder/text_hf" --tokenizer "$folder/docs.model" > "$folder/out"
cmp "$folder/docs.model" "$folder/text_hf/tokenizer.model" || fail "the tokenizer's file changed"
for part in '"type": "BPE"' '"eos_token": "<|endoftext|>"' '"eos_token_id": 1'; do
  grep -rqF -- "$part" "$folder/text_hf" || fail "the folder does not have $part"
done
"$SLUICE" import "$folder/text_hf" --out "$folder/text_back" > "$folder/out" 2> "$folder/err"
cmp "$folder/docs.model" "$folder/text_back/tokenizer/tokenizer.model" || fail "the tokenizer did not come back"
grep -qF "\"tokenizer\": \"$folder/text_back/tokenizer\"" "$folder/text_back/config.json" ||
  fail "the run does not know its tokenizer"
refused "no tokenizer" export "$folder/text" "$folder/x" --tokenizer "$folder/nothing.model"
refused "does not belong to the model" export "$folder/vga" "$folder/x" --tokenizer "$folder/docs.model"

refused "is there already" export "$folder/vga" "$folder/gpt2"
refused "is there already" import "$golden" --out "$folder/vga"
refused "no such folder" export "$folder/nothing" "$folder/x"
refused "no such folder" import "$folder/nothing" --out "$folder/x"
refused "float64" export "$folder/vga" "$folder/x" --dtype float64
refused "--logits 33" export "$folder/vga" "$folder/x" --logits 33
refused "24 learned positions" import "$golden" --out "$folder/x" --context 25
refused "the model is the folder's" import "$golden" --out "$folder/x" --set model.layers=3
refused "train.stepz" import "$golden" --out "$folder/x" --set train.stepz=3
cp -r "$golden" "$folder/opt"
sed -i 's/"model_type": "gpt2"/"model_type": "bloom"/' "$folder/opt/config.json"
refused 'model_type is "bloom", but Sluice imports gpt2' import "$folder/opt" --out "$folder/x"

# A field that nobody knows, and what is to be ignored.
cp -r "$golden" "$folder/odd"
sed -i 's/{/{"logit_cap": 30.5,/' "$folder/odd/config.json"
refused 'does not know logit_cap = 30.5' import "$folder/odd" --out "$folder/x"
refused '--ignore other: ' import "$folder/odd" --out "$folder/x" --ignore logit_cap --ignore other
[[ ! -e $folder/x && -z $(find "$folder" -name ".x*") ]] || fail "a refused command has left a folder"
"$SLUICE" import "$folder/odd" --out "$folder/odd_run" --ignore logit_cap > "$folder/out"
grep -qF 'as --ignore says: logit_cap = 30.5' "$folder/out" || fail "$(cat "$folder/out")"

# Weights that are not finite: every command says so and fails.
cp -r "$golden" "$folder/spoilt"
size=$(stat -c %s "$folder/spoilt/model.safetensors")
printf '\000\000\300\177' | dd of="$folder/spoilt/model.safetensors" bs=1 seek=$((size - 4)) conv=notrunc status=none
spoilt() {
  local status=0
  "$SLUICE" "$@" > "$folder/out" 2> "$folder/err" || status=$?
  [[ $status -eq 1 ]] || fail "sluice $*: status $status instead of 1: $(cat "$folder/err")"
  grep -qF '1 of 4452 weights is NaN or infinite, the first of them in' "$folder/err" || fail "sluice $*: $(cat "$folder/err")"
  ! grep -qiw -e '-\?nan' "$folder/out" || fail "sluice $*: $(cat "$folder/out")"
}
spoilt import "$folder/spoilt" --out "$folder/spoilt_run"
printf 'a\n' > "$folder/text.txt"
printf '{"type": "characters", "characters": [97, 98, 99]}' > "$folder/abc.json"
spoilt eval "$folder/spoilt_run" "$folder/text.txt" --tokenizer "$folder/abc.json"
spoilt sample "$folder/spoilt_run" --tokenizer "$folder/abc.json" --tokens 2
spoilt analyze "$folder/spoilt_run"
spoilt quantize "$folder/spoilt_run"
spoilt export "$folder/spoilt_run" "$folder/x"
[[ ! -e $folder/x && -z $(find "$folder" -name ".x*") ]] || fail "a refused command has left a folder"
echo "export and import agree"
