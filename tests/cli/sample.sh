#!/usr/bin/env bash
# `sluice sample`: seeds and greedy choice, prompts, several samples, the context's end, UTF-8 whole, the end of a text;
# what is refused.
set -euo pipefail
source "$(dirname "$0")/tiny_run.bash"

sample() { "$SLUICE" sample "$@" 2> "$folder/err"; }
# refused PATTERN ARGUMENT...: exit code 2 and one sentence that matches.
refused() {
  local pattern=$1 status=0
  shift
  sample "$@" > "$folder/out" || status=$?
  [[ $status -eq 2 && $(wc -l < "$folder/err") -eq 1 ]] && grep -qE -e "$pattern" "$folder/err" ||
    fail "sample $*: exit code $status, $(cat "$folder/err")"
}

# ---- the Bigram-Backcopy task: characters ---------------------------------------------------------------------------

train run --set train.steps=5
sample "$folder/run" --prompt "to be" --tokens 20 --seed 7 > "$folder/a" || fail "$(cat "$folder/err")"
head -c 5 "$folder/a" | grep -q '^to be$' || fail "the prompt is not there: $(cat "$folder/a")"
grep -qE '^20 tokens in .* tokens/s' "$folder/err" || fail "no speed: $(cat "$folder/err")"
sample "$folder/run" --prompt "to be" --tokens 20 --seed 7 | cmp - "$folder/a" || fail "the same seed, another text"
! sample "$folder/run" --prompt "to be" --tokens 20 --seed 8 | cmp -s - "$folder/a" || fail "another seed, the same text"
printf '\xef\xbb\xbfto be' > "$folder/prompt"  # a byte order mark is no text
sample "$folder/run" --prompt-file "$folder/prompt" --tokens 20 --seed 7 | cmp - "$folder/a" || fail "--prompt-file differs"

sample "$folder/run" --temperature 0 --tokens 12 --seed 1 > "$folder/greedy"
for other in "--temperature 0 --seed 2" "--top-k 1 --seed 3" "--top-p 0.000001 --seed 4"; do
  sample "$folder/run" $other --tokens 12 | cmp - "$folder/greedy" || fail "$other is not the most likely text"
done

# BOS and 5 characters leave 26 of the context of 32; then the model goes on from the latest 16.
sample "$folder/run" --prompt "to be" --tokens 100 > "$folder/long"
[[ $(grep -c '^note: the context of 32 tokens is full' "$folder/err") -eq 1 ]] || fail "no note: $(cat "$folder/err")"
grep -q '^100 tokens in' "$folder/err" || fail "not 100 tokens: $(cat "$folder/err")"

sample "$folder/run" --tokens 5 --count 10 > "$folder/many"
[[ $(grep -c '^--- sample [0-9]* of 10 ---$' "$folder/many") -eq 10 ]] || fail "not ten samples: $(cat "$folder/many")"

refused "the prompt has 41 tokens, more than the model's context of 32" "$folder/run" --prompt "$(printf 'a%.0s' {1..40})"
refused 'the byte 0x7e is none of the 65 characters' "$folder/run" --prompt 'a~b'
refused 'no UTF-8' "$folder/run" --prompt $'a\xff'
refused 'temperature' "$folder/run" --temperature -1
refused 'top-p' "$folder/run" --top-p 0
refused 'none' "$folder/none"

# ---- bytes: characters of several tokens, and an end of text --------------------------------------------------------

# Documents of two letters, of two bytes each: the end of text is every fifth token.
for i in {1..400}; do printf '{"text":"éü"}\n'; done > "$folder/text.jsonl"
"$SLUICE" tokenizer encode "$folder/text.jsonl" --tokenizer bytes --out "$folder/shards/" > /dev/null 2>&1
train bytes --set model.vocab_size=257 --set 'data={"type":"tokens","tokenizer":"bytes"}' \
  --set "data.train_shards=[\"$folder/shards/*.bin\"]" --set train.steps=10 --set log.probe_every=0 \
  --set log.map_positions=0 || fail "$(cat "$folder/err")"
sample "$folder/bytes" --tokens 5000 --count 4 > "$folder/text" || fail "$(cat "$folder/err")"
iconv -f UTF-8 -t UTF-8 "$folder/text" > /dev/null || fail "not UTF-8"
written=$(sed -nE 's/^([0-9]+) tokens in .*/\1/p' "$folder/err")
[[ $written -lt 5000 ]] || fail "none of four texts ended: $written tokens"
refused 'there is no tokenizer' "$folder/bytes" --tokenizer "$folder/none"
