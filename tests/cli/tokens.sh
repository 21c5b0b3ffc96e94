#!/usr/bin/env bash
# Text to shards to a trained model: a run says what it read and gives bits per byte; mixtures and shuffled documents resume
# exactly; data that does not fit is refused before anything is written.
set -euo pipefail
source "$(dirname "$0")/tiny_run.bash"

# 300 short documents of a few kinds, and 40 others.
for i in $(seq 300); do
  printf 'The %s sat on the %s.\nIt was number %d.\n<|doc|>\n' \
    "$(( i % 7 ))th cat" "$(( i * i % 11 ))th mat" "$i"
done > "$folder/text.txt"
for i in $(seq 40); do printf 'x = %d * %d\n<|doc|>\n' "$i" "$(( i % 9 ))"; done > "$folder/code.txt"
encode() { "$SLUICE" tokenizer encode "$folder/$1.txt" --tokenizer bytes --separator '<|doc|>' --out "$folder/$1" 2> /dev/null; }
encode text > /dev/null
encode code > /dev/null
text=$folder/text_00000.bin code=$folder/code_00000.bin

tokens() {  # tokens RUN DATA ARGUMENT...: trains with data from shards
  local run=$1 data=$2
  shift 2
  train "$run" --set model.vocab_size=257 --set log.eval_every=5 --set log.probe_every=5 --set log.eval_batch=12 --set train.steps=10 \
    --set "data={\"type\": \"tokens\", \"validation_shards\": [\"$text\"], $data}" "$@"
}
one="\"train_shards\": [\"$text\"], \"tokenizer\": \"bytes\""

# ---- one source: what it says, and bits per byte
tokens one "$one" || fail "it does not train: $(cat "$folder/err")"
grep -q '"tokenizer": "bytes.*, hash ' "$folder/one/info.json" || fail "info.json does not name the tokenizer"
# Of the bytes tokenizer each token is a byte, but for those that open the documents: about one in 40.
grep '"kind":"eval"' "$folder/one/metrics.jsonl" |
  sed -E 's/.*"loss":([^,]*),.*"bits_per_byte":([^,}]*).*/\1 \2/' |
  awk '{ ratio = $2 * log(2) / $1; if (ratio <= 1 || ratio >= 1.06) bad = 1 } END { exit bad || NR != 2 }' ||
  fail "bits per byte are wrong: $(grep '"kind":"eval"' "$folder/one/metrics.jsonl")"

# ---- a vocabulary that the data do not fill
grep -q 'no token above' "$folder/out" && fail "a vocabulary that fits is told of"
tokens wide "$one" --set model.vocab_size=500 --set train.steps=1 || fail "it does not train: $(cat "$folder/err")"
grep -q 'model.vocab_size is 500, but the training data have no token above 256' "$folder/out" || fail "$(cat "$folder/out")"

# ---- several sources, shuffled documents: stopped and resumed, the run is the same
mixed="\"sources\": [{\"shards\": [\"$text\"], \"weight\": 3}, {\"shards\": [\"$code\"]}], \"shuffle\": \"documents\""
tokens straight "$mixed" || fail "the mixture does not train: $(cat "$folder/err")"
grep -q '75% .*text_00000.bin.*25% .*code_00000.bin' "$folder/straight/info.json" || fail "the shares are not told"
tokens resumed "$mixed" --set train.steps=5
tokens resumed "$mixed" || fail "it does not go on: $(cat "$folder/err")"
same_runs straight resumed

# ---- attention within documents: another model, whatever the micro-batch
masked="$one, \"document_mask\": true"
tokens masked "$masked" || fail "it does not train with masked documents: $(cat "$folder/err")"
grep -q 'documents masked' "$folder/masked/info.json" || fail "info.json does not tell of the mask"
losses() { grep -o '"kind":"train","step":1,"loss":[^,]*' "$folder/$1/metrics.jsonl"; }
[[ -n $(losses masked) && $(losses masked) != "$(losses one)" ]] || fail "the mask changes nothing"

# ---- the data lie elsewhere now: the run goes on, but not with other data
mkdir "$folder/elsewhere"
cp "$text" "$folder/elsewhere/moved.bin"
moved="\"train_shards\": [\"$folder/elsewhere/moved.bin\"], \"tokenizer\": \"bytes\""
tokens one "$moved" --set train.steps=12 --set "data.validation_shards=[\"$folder/elsewhere/moved.bin\"]" ||
  fail "moved data keep the run from going on: $(cat "$folder/err")"
for key in train validation; do
  status=0
  cp "$folder/one/config.json" "$folder/before.json"
  tokens one "$one" --set train.steps=14 --set "data.${key}_shards=[\"$code\"]" || status=$?
  [[ $status -eq 2 ]] && grep -q 'on other data' "$folder/err" || fail "other $key data: exit code $status, $(cat "$folder/err")"
  cmp -s "$folder/one/config.json" "$folder/before.json" || fail "a refusal for other $key data changed config.json"
done
cp -r "$folder/one" "$folder/metrics_only"
rm -r "$folder/metrics_only/checkpoints"
status=0
tokens metrics_only "\"train_shards\": [\"$code\"], \"tokenizer\": \"bytes\"" || status=$?
[[ $status -eq 2 ]] && grep -q 'holds another experiment' "$folder/err" || fail "metrics without a checkpoint: $status, $(cat "$folder/err")"

# ---- a shard where text belongs
status=0
"$SLUICE" eval "$folder/one" "$text" > "$folder/out" 2> "$folder/err" || status=$?
[[ $status -eq 2 ]] && grep -q 'is a shard of tokens, but text is asked for' "$folder/err" || fail "a shard given to eval: $(cat "$folder/err")"

# ---- what does not fit: exit code 2, one sentence, nothing written
refused() {  # refused PATTERN DATA ARGUMENT...
  local pattern=$1 status=0
  shift
  tokens refused "$@" || status=$?
  [[ $status -eq 2 ]] && grep -q "$pattern" "$folder/err" || fail "$pattern: exit code $status, $(cat "$folder/err")"
  [[ $(grep -vc "^note: --set" "$folder/err") -eq 1 && ! -e "$folder/refused" ]] || fail "$pattern: more than a sentence is left"
}
"$SLUICE" tokenizer train "$folder/code.txt" --type characters --out "$folder/code.json" > /dev/null 2>&1
refused 'text_00000.bin was encoded by another tokenizer (bytes.*hash.*) than data.tokenizer (characters code.json.*hash' \
  "\"train_shards\": [\"$text\"], \"tokenizer\": \"$folder/code.json\""
refused 'holds tokens of a vocabulary of 257 (bytes.*), but model.vocab_size is 200' "$one" --set model.vocab_size=200
head -c 3000 "$text" > "$folder/cut.bin"
refused 'cut.bin is truncated: its header counts [0-9]* tokens and 300 documents' "\"train_shards\": [\"$folder/cut.bin\"]"
cp "$text" "$folder/flipped.bin"
printf '\x01' | dd of="$folder/flipped.bin" bs=1 seek=1000 conv=notrunc status=none
refused 'flipped.bin is damaged: its checksum is' "\"train_shards\": [\"$folder/flipped.bin\"], \"verify\": true"
refused 'it starts neither with SLUICETK' "\"train_shards\": [\"$folder/text.txt\"]"
refused 'there is no tokenizer' "\"train_shards\": [\"$text\"], \"tokenizer\": \"$folder/none.model\""
