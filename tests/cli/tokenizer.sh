#!/usr/bin/env bash
# `sluice tokenizer`: text to shards and back in every format, the same for any number of threads; what is refused, and
# what an interrupted encoding leaves.
set -euo pipefail
export OMP_WAIT_POLICY=passive
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() {
  echo "$1"
  exit 1
}
tokenizer() { "$SLUICE" tokenizer "$@" 2> "$folder/err"; }
# refused PATTERN ARGUMENT...: exit code 2 and one sentence that matches.
refused() {
  local pattern=$1 status=0
  shift
  tokenizer "$@" > "$folder/out" || status=$?
  [[ $status -eq 2 ]] || fail "tokenizer $*: exit code $status instead of 2: $(cat "$folder/err")"
  [[ $(wc -l < "$folder/err") -eq 1 ]] || fail "tokenizer $*: not one line on stderr: $(cat "$folder/err")"
  grep -qE -e "$pattern" "$folder/err" || fail "tokenizer $*: \"$pattern\" is not in: $(cat "$folder/err")"
}

# A text of three documents that end with a separator line.
{ cat README.md; echo '<|doc|>'; cat docs/architecture.md; echo '<|doc|>'; cat CONTRIBUTING.md; echo '<|doc|>'; } > "$folder/text"

# ---- train, encode, decode ------------------------------------------------------------------------------------------

for type in bpe unigram characters; do
  file=$folder/$type.$([[ $type == characters ]] && echo json || echo model)
  tokenizer train "$folder/text" --separator '<|doc|>' --type $type --vocab 500 --out "$file" > "$folder/out" ||
    fail "train $type: $(cat "$folder/err")"
  grep -q "$type" "$folder/out" || fail "train $type said: $(cat "$folder/out")"
  tokenizer encode "$folder/text" --separator '<|doc|>' --tokenizer "$file" --out "$folder/$type" > "$folder/out" ||
    fail "encode $type: $(cat "$folder/err")"
  grep -q '^3 documents' "$folder/out" || fail "encode $type said: $(cat "$folder/out")"
  tokenizer decode "$folder/$type"_*.bin --tokenizer "$file" --separator '<|doc|>' | cmp - "$folder/text" ||
    fail "$type: the text did not come back"
done

# The same from standard input, compressed and from JSON lines, with one thread and with three.
tokenizer encode - --separator '<|doc|>' --tokenizer "$folder/bpe.model" --out "$folder/stdin/" < "$folder/text" > /dev/null
gzip -c "$folder/text" | OMP_NUM_THREADS=3 tokenizer encode - --separator '<|doc|>' --tokenizer "$folder/bpe.model" \
  --out "$folder/gzip/" > /dev/null
OMP_NUM_THREADS=1 tokenizer encode "$folder/text" --separator '<|doc|>' --tokenizer "$folder/bpe.model" --out "$folder/one/" > /dev/null
for other in stdin gzip one; do
  cmp "$folder/bpe_00000.bin" "$folder/$other/tokens_00000.bin" || fail "$other gives another shard"
done

# Ids in text.
echo '{"text": "a line"}' > "$folder/a.jsonl"
ids=$(tokenizer encode "$folder/a.jsonl" --tokenizer bytes --print)
[[ $ids == "97 32 108 105 110 101" ]] || fail "the bytes of \"a line\" are $ids"
[[ $(echo "$ids" | tokenizer decode - --tokenizer bytes) == "a line" ]] || fail "the ids do not come back"

# ---- bad input ------------------------------------------------------------------------------------------------------

: > "$folder/empty"
printf 'good \xff' > "$folder/invalid"
refused 'there is no file .*/none' encode "$folder/none" --tokenizer bytes --out "$folder/new"
refused 'the input has no text' encode "$folder/empty" --tokenizer bytes --out "$folder/new"
refused 'the input has no text' train "$folder/empty" --out "$folder/new"
refused 'invalid is not valid UTF-8: byte 5 of its text is 0xFF' encode "$folder/invalid" --tokenizer bytes --out "$folder/new"
refused 'invalid is not valid UTF-8' train "$folder/invalid" --type characters --out "$folder/new.json"
refused 'longer than 10.0 kB, the limit that --max-document-mb sets' encode "$folder/text" --max-document-mb 0.01 \
  --tokenizer bytes --out "$folder/new"
refused 'there is no tokenizer ".*/none.model"' encode "$folder/text" --tokenizer "$folder/none.model" --out "$folder/new"
refused 'is not a sentencepiece model, or damaged' encode "$folder/text" --tokenizer "$folder/text" --out "$folder/new"
refused 'bpe_00000.bin is there already' encode "$folder/text" --tokenizer bytes --out "$folder/bpe"
refused 'needs --out or --print, and not both' encode "$folder/text" --tokenizer bytes
refused "a characters tokenizer's file is called NAME.json" train "$folder/text" --type characters --out "$folder/new.model"
refused "a bpe tokenizer's file is called NAME.model" train "$folder/text" --out "$folder/new.json"
refused "a bpe tokenizer's file is called NAME.model" train "$folder/text" --out bytes
refused 'bpe.model is there already' train "$folder/text" --out "$folder/bpe.model"
refused 'cannot create the folder' train "$folder/text" --out "$folder/text/new.model"
refused 'vocabulary of 100000 tokens cannot be learned' train "$folder/text" --vocab 100000 --out "$folder/new"
refused 'was made with the tokenizer sentencepiece bpe.model .*, but --tokenizer is bytes' decode "$folder/bpe_00000.bin" \
  --tokenizer bytes
head -c 1000 "$folder/bpe_00000.bin" > "$folder/cut.bin"
refused 'cut.bin' decode "$folder/cut.bin" --tokenizer "$folder/bpe.model"
[[ -z $(find "$folder" -name 'new*') ]] || fail "refused commands left $(find "$folder" -name 'new*')"
tokenizer encode "$folder/invalid" --invalid replace --tokenizer bytes --print | grep -q '32 239 191 189' ||
  fail "no U+FFFD for the invalid byte"

# ---- interrupted ----------------------------------------------------------------------------------------------------

# The pipe stays open, so that the encoding waits for more text with its first shards written.
mkfifo "$folder/pipe"
"$SLUICE" tokenizer encode - --separator '<|doc|>' --tokenizer bytes --shard-tokens 100000 --out "$folder/killed/" \
  < "$folder/pipe" > /dev/null 2>&1 &
encoder=$!
exec 9> "$folder/pipe"
for _ in $(seq $((12000000 / $(wc -c < "$folder/text")))); do cat "$folder/text"; done >&9  # more than is read at once
for _ in $(seq 600); do
  [[ -z $(find "$folder/killed" -name '00001.unfinished*' 2> /dev/null) ]] || break
  sleep 0.1
done
kill -KILL $encoder
wait $encoder 2> /dev/null || true
exec 9>&-
[[ -n $(find "$folder/killed" -type f) ]] || fail "the encoding had not begun"
[[ -z $(find "$folder/killed" -name '*.bin') ]] || fail "an interrupted encoding left $(find "$folder/killed" -name '*.bin')"
