#!/usr/bin/env bash
# BERT's vocab.txt wherever a tokenizer works: encode, decode, train, eval, sample and export, with what is said of text
# that does not come back; bad files.
set -euo pipefail
source "$(dirname "$0")/tiny_run.bash"
vocabulary=$(dirname "$0")/../golden/wordpiece/vocab.txt

printf 'Hello World, it is a Caf\xc3\xa9!\n--\nThe attention  of a model\n' > "$folder/text"
"$SLUICE" tokenizer encode "$folder/text" --separator -- --tokenizer "$vocabulary" --print > "$folder/ids" 2> "$folder/err"
[[ $(wc -l < "$folder/ids") -eq 2 ]] || fail "not two lines of ids: $(cat "$folder/ids")"
! grep -qE '(^| )[0-4]( |$)' "$folder/ids" || fail "special or unknown tokens in a text: $(cat "$folder/ids")"
"$SLUICE" tokenizer decode - --tokenizer "$vocabulary" < "$folder/ids" > "$folder/back" 2> "$folder/err"
printf 'hello world, it is a cafe!\nthe attention of a model\n' | cmp - "$folder/back" || fail "decoded: $(cat "$folder/back")"
losses='note: wordpiece vocab.txt \(1079 tokens\) does not keep case, accents, blanks and control characters: '
grep -qE "^${losses}this is not the text that was encoded" "$folder/err" || fail "no note: $(cat "$folder/err")"

# Each document is [CLS] (2), its tokens, [SEP] (3).
"$SLUICE" tokenizer encode "$folder/text" --separator -- --tokenizer "$vocabulary" --out "$folder/two" > "$folder/out" 2>&1
grep -q "^2 documents, .* $(($(wc -w < "$folder/ids") + 4)) tokens" "$folder/out" || fail "it counts: $(cat "$folder/out")"
"$SLUICE" tokenizer decode "$folder/two_00000.bin" --tokenizer "$vocabulary" --separator -- > "$folder/out" 2> "$folder/err"
printf 'hello world, it is a cafe!\n--\nthe attention of a model\n--\n' | cmp - "$folder/out" || fail "decoded: $(cat "$folder/out")"

# ---- a model ----------------------------------------------------------------------------------------------------------

"$SLUICE" tokenizer encode README.md --tokenizer "$vocabulary" --out "$folder/readme" > /dev/null 2>&1
train run --set model.vocab_size=1100 --set log.eval_every=20 --set log.eval_batch=4 --set train.steps=20 --set log.map_positions=8 \
  --set "data={\"type\": \"tokens\", \"train_shards\": [\"$folder/readme_00000.bin\"], \"document_mask\": true,
               \"validation_shards\": [\"$folder/readme_00000.bin\"], \"tokenizer\": \"$vocabulary\"}" || fail "$(cat "$folder/err")"
grep -q '"kind":"eval"' "$folder/run/metrics.jsonl" || fail "no evaluation"
! grep -q bits_per_byte "$folder/run/metrics.jsonl" || fail "bits per byte of text that is not kept"
grep -q 'no bits per byte, as wordpiece vocab.txt' "$folder/run/info.json" || fail "the data do not say so: $(cat "$folder/run/info.json")"

"$SLUICE" eval "$folder/run" "$folder/text" > "$folder/out" 2> "$folder/err" || fail "$(cat "$folder/err")"
grep -qE "^${losses}figures per byte are of what it keeps" "$folder/err" || fail "eval says nothing: $(cat "$folder/err")"
"$SLUICE" sample "$folder/run" --prompt "Attention is" --tokens 5 > "$folder/out" 2> "$folder/err" || fail "$(cat "$folder/err")"
grep -q '^Attention is' "$folder/out" || fail "the prompt is not there: $(cat "$folder/out")"

"$SLUICE" export "$folder/run" "$folder/exported" > "$folder/out" 2> "$folder/err" || fail "$(cat "$folder/err")"
cmp "$vocabulary" "$folder/exported/vocab.txt" || fail "another vocab.txt"
grep -q '"tokenizer_class": "BertTokenizer"' "$folder/exported/tokenizer_config.json" || fail "no BertTokenizer"
grep -q 'without the token that ends a text' "$folder/exported/README.md" || fail "the card does not cut [SEP] off"
"$SLUICE" eval "$folder/run" "$folder/text" --tokenizer "$folder/exported/tokenizer.json" > /dev/null 2>&1 ||
  fail "the exported tokenizer.json is another tokenizer"

# ---- bad files --------------------------------------------------------------------------------------------------------

# refused PATTERN FILE
refused() {
  local status=0
  "$SLUICE" tokenizer encode "$folder/text" --tokenizer "$2" --print > "$folder/out" 2> "$folder/err" || status=$?
  [[ $status -eq 2 && $(wc -l < "$folder/err") -eq 1 ]] || fail "$2: exit code $status: $(cat "$folder/err")"
  grep -qE -e "$1" "$folder/err" || fail "$2: \"$1\" is not in: $(cat "$folder/err")"
}
mkdir "$folder/bad"
bad=$folder/bad/vocab.txt
: > "$bad" && refused 'the file is empty' "$folder/bad"
printf '[UNK]\na\na\n' > "$bad" && refused 'the token "a" is there twice, as 1 and 2' "$bad"
printf '[PAD]\na\n' > "$bad" && refused 'it has no token "\[UNK\]"' "$bad"
printf '[UNK]\n\xff\n' > "$bad" && refused 'line 2 is not valid UTF-8' "$bad"
printf '[UNK]\na\n' > "$bad" && echo '{"tokenizer_class": "EsmTokenizer"}' > "$folder/bad/tokenizer_config.json"
refused "is none of BERT's" "$bad"
cp "$folder/two_00000.bin" "$bad" && refused 'is not valid UTF-8' "$bad"
sed 's/"type": "WordPiece",/"type": "WordLevel",/' "$folder/exported/tokenizer.json" > "$folder/bad/tokenizer.json"
refused 'its "model" has no "vocab" and "merges"' "$folder/bad"
