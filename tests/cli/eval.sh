#!/usr/bin/env bash
# `sluice eval`: on a text it agrees with the loss that training computed on the shards of this text; the JSON; what is
# refused.
set -euo pipefail
source "$(dirname "$0")/tiny_run.bash"

# Two documents whose tokens, the end of text included, fill windows of 32 exactly: shards and documents are cut alike.
head -c 319 LICENSE > "$folder/a.txt"
tail -c 639 LICENSE > "$folder/b.txt"
"$SLUICE" tokenizer encode "$folder/a.txt" "$folder/b.txt" --tokenizer bytes --out "$folder/text" > /dev/null 2>&1

train run --set model.vocab_size=257 --set log.eval_every=20 --set log.eval_batch=100 --set log.probe_every=0 --set log.map_positions=0 \
  --set "data={\"type\": \"tokens\", \"train_shards\": [\"$folder/text_00000.bin\"],
               \"validation_shards\": [\"$folder/text_00000.bin\"], \"tokenizer\": \"bytes\"}" || fail "$(cat "$folder/err")"

"$SLUICE" eval "$folder/run" "$folder/a.txt" "$folder/b.txt" --json - > "$folder/out" 2> "$folder/err" || fail "$(cat "$folder/err")"
# figure KEY: its value in the JSON.
figure() { sed -n "s/^ *\"$1\": *\([^,]*\),*$/\1/p" "$folder/out"; }
trained=$(grep '"kind":"eval"' "$folder/run/metrics.jsonl" | tail -n 1 | sed 's/.*"loss":\([^,]*\),.*/\1/')
[[ $(figure documents) -eq 2 && $(figure tokens) -eq 958 && $(figure bytes) -eq 958 ]] || fail "it counts: $(cat "$folder/out")"
# Training's windows also predict the second document's opening token (its last one has no target), eval the text alone:
# one loss in some 930 differs, and no loss is beyond 12 nats.
awk -v loss="$(figure loss)" -v trained="$trained" -v perplexity="$(figure perplexity)" -v bits="$(figure bits_per_byte)" '
  function close_to(a, b) { return (a - b)^2 <= (1e-12 * b)^2 }
  BEGIN {
    near = loss > 0 && trained > 0 && (loss - trained)^2 < (12 * 32 / 928)^2
    exit !(near && close_to(perplexity, exp(loss)) && close_to(bits, loss / log(2)))
  }' || fail "eval and training disagree: $trained, $(cat "$folder/out")"

"$SLUICE" eval "$folder/run" "$folder/a.txt" --stride 8 --json "$folder/eval.json" > "$folder/out" || fail "a stride fails"
grep -q 'windows of 32 tokens, 8 apart' "$folder/out" || fail "the stride is not told: $(cat "$folder/out")"
grep -q '"stride": 8' "$folder/eval.json" || fail "the JSON has no stride"

for label in 0 1 0 1; do echo "{\"ctx\": \"A man\", \"endings\": [\"runs\", \"sits\"], \"label\": $label}"; done > "$folder/h.jsonl"
"$SLUICE" eval "$folder/run" --hellaswag "$folder/h.jsonl" > "$folder/out" 2> "$folder/err" || fail "$(cat "$folder/err")"
grep -q 'HellaSwag, 4 examples: 50.00 % (±25.00) by sum, 50.00 %' "$folder/out" || fail "HellaSwag: $(cat "$folder/out")"

# refused PATTERN ARGUMENT...
refused() {
  local pattern=$1 status=0
  shift
  "$SLUICE" eval "$@" > "$folder/out" 2> "$folder/err" || status=$?
  [[ $status -eq 2 && $(wc -l < "$folder/err") -eq 1 ]] || fail "eval $*: exit code $status: $(cat "$folder/err")"
  grep -qE -e "$pattern" "$folder/err" || fail "eval $*: \"$pattern\" is not in: $(cat "$folder/err")"
}
: > "$folder/empty"
"$SLUICE" tokenizer train "$folder/a.txt" --type characters --out "$folder/other.json" > /dev/null 2>&1
refused 'needs a text, or --hellaswag' "$folder/run"
refused 'has no token to predict' "$folder/run" "$folder/empty"
refused '--stride 33 is larger than model.context, which is 32' "$folder/run" "$folder/a.txt" --stride 33
refused 'was trained with another tokenizer \(bytes .*\) than characters other.json' "$folder/run" "$folder/a.txt" \
  --tokenizer "$folder/other.json"
refused 'line 1: not an example of HellaSwag' "$folder/run" --hellaswag <(echo '{}')
train synthetic || fail "$(cat "$folder/err")"
refused 'has no data.tokenizer, so that --tokenizer must name' "$folder/synthetic" "$folder/a.txt"
refused 'does not belong to the model in .*, which has 67 tokens' "$folder/synthetic" "$folder/a.txt" --tokenizer bytes
