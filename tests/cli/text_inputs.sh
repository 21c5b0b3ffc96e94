#!/usr/bin/env bash
# What the tokenizer's commands make of other people's text: links, unreadable folders, JSON by content, byte order marks,
# bad lines, empty documents, 32-bit ids, names of shards, small vocabularies.
set -euo pipefail
export OMP_WAIT_POLICY=passive
folder=$(mktemp -d)
trap 'chmod -R u+rwX "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
fail() { echo "$1"; exit 1; }
bytes() { "$SLUICE" tokenizer encode "$@" --tokenizer bytes 2> err; }
# encoded EXPECTED ARGUMENT...: the documents, each in front of a "|".
encoded() {
  local expected=$1 got
  shift
  rm -rf out
  bytes "$@" --out out/ > /dev/null || fail "encode $*: $(cat err)"
  got=$("$SLUICE" tokenizer decode out/tokens_00000.bin --tokenizer bytes | sed 's/<|endoftext|>/|/g')
  [[ $got == "$expected" ]] || fail "encode $*: \"$got\" instead of \"$expected\""
}
refused() {
  local pattern=$1 status=0
  shift
  "$@" > out.txt 2> err || status=$?
  [[ $status -eq 2 && $(wc -l < err) -eq 1 ]] || fail "$*: exit code $status: $(cat err)"
  grep -qE -e "$pattern" err || fail "$*: \"$pattern\" is not in: $(cat err)"
}

# ---- folders --------------------------------------------------------------------------------------------------------

mkdir -p corpus/wiki disk/books
printf 'wiki' > corpus/wiki/1.txt
printf 'book' > disk/books/2.txt
ln -s ../disk/books corpus/books
encoded '|wiki|book' corpus/wiki corpus/books
ln -s .. corpus/wiki/up
encoded '|book|wiki' corpus
encoded '|book' 'corpus/b*'
ln -s nothing corpus/dangling
refused 'corpus/dangling is a link to nothing, which is not there' "$SLUICE" tokenizer train corpus --out t.model
rm corpus/dangling
mkfifo corpus/pipe
refused 'corpus/pipe is a named pipe, neither a file nor a folder' "$SLUICE" tokenizer encode corpus --tokenizer bytes --print
rm corpus/pipe
if [[ $(id -u) -ne 0 ]]; then as=(); else as=(setpriv --reuid=65534 --regid=65534 --clear-groups); fi
mkdir corpus/private && chmod 755 . && chmod 000 corpus/private
if "${as[@]}" test -x "$SLUICE" 2> /dev/null; then  # root may read everything, and another user may not see the program
  refused 'cannot read the folder corpus/private: Permission denied' "${as[@]}" "$SLUICE" tokenizer encode corpus --tokenizer bytes --print
fi
chmod 700 corpus/private

# ---- JSON lines -----------------------------------------------------------------------------------------------------

mkdir c4
printf '%s\n' '{"text":"one","score":NaN}' '{"text":"two","x":1e999}' | gzip > c4/c4-train.00000-of-01024.json.gz
encoded '|one|two' c4
grep -q '^note: 1 file was read as JSON lines for what its first line is (c4/c4-train' err || fail "not told: $(cat err)"
gzip -dc c4/*.gz > lines
rm -rf out
bytes - --out out/ < lines > /dev/null
[[ $("$SLUICE" tokenizer decode out/tokens_00000.bin --tokenizer bytes) == '<|endoftext|>one<|endoftext|>two' ]] || fail "standard input"
# Of a killed command whose corpus only lacked its names, and which nothing tells to be the same as this one.
mkdir out/.mine.sluice-whole
mv out/tokens_00000.bin out/.mine.sluice-whole/00000.unfinished
echo '{"identity": null, "shards": 1}' > out/.mine.sluice-whole/corpus.json
refused 'an earlier command was killed.* is complete now \(out/mine_00000.bin\); nothing was encoded now' \
  "$SLUICE" tokenizer encode - --tokenizer bytes --out out/mine < lines
[[ $("$SLUICE" tokenizer decode out/mine_00000.bin --tokenizer bytes) == '<|endoftext|>one<|endoftext|>two' ]] || fail "its corpus"
encoded "|$(cat lines)" lines --format text
echo '[{"text":"one"}]' > list.json
refused "list.json begins as a list of JSON values.*jq -c '.\[\]' list.json" "$SLUICE" tokenizer encode list.json --tokenizer bytes --print
printf '{"a":\n1}' > object
refused 'object begins as JSON, but its first line is not one whole object' "$SLUICE" tokenizer encode object --tokenizer bytes --print
refused 'field is of JSON lines, but --format is text' "$SLUICE" tokenizer encode lines --tokenizer bytes --print --format text --field a
refused 'separator is of plain text, but --format is jsonl' "$SLUICE" tokenizer encode lines --tokenizer bytes --print --format jsonl --separator a
bytes corpus --field body --print > /dev/null
grep -q '^note: --field was of no use' err || fail "--field without JSON lines is not told: $(cat err)"

printf '%s\n' '{"text":"a"}' '{"text":null}' '{"text":""}' '{"text":"\ud83d"}' '{"text":{"b":"c"}}' '{"text":"d"}' > bad.jsonl
refused 'bad.jsonl, line 2: "text" is null in this line' "$SLUICE" tokenizer encode bad.jsonl --tokenizer bytes --print
[[ $(bytes bad.jsonl --skip-bad --print) == $'97\n\n100' ]] || fail "--print --skip-bad: $(bytes bad.jsonl --skip-bad --print)"
grep -q '^note: --skip-bad left out 3 documents: 1 null for the text, 1 no string as text, 1 a lone surrogate; the first: bad.jsonl, line 2' err ||
  fail "$(cat err)"
[[ $(bytes bad.jsonl --skip-bad --invalid replace --print | sed -n 3p) == '239 191 189' ]] || fail "a surrogate is not replaced"
encoded '|a|d' bad.jsonl --skip-bad
grep -q '^note: 1 document without text was passed over' err || fail "$(cat err)"
printf '{"text":{"b":"c"}}' > nested.jsonl
encoded '|c' nested.jsonl --field text.b

# ---- marks and other encodings --------------------------------------------------------------------------------------

printf '\xef\xbb\xbf<|doc|>\r\nfirst\r\n<|doc|>\r\nsecond' > windows.txt
encoded $'|first\r\n|second' windows.txt --separator '<|doc|>'
printf '\xff\xfeh\0i\0' > utf16.txt
refused 'utf16.txt is text in UTF-16.*`iconv -f UTF-16 -t UTF-8 utf16.txt \| sluice' "$SLUICE" tokenizer encode utf16.txt --tokenizer bytes --print
printf '\xef\xbb\xbf97 98\n' | "$SLUICE" tokenizer decode - --tokenizer bytes | grep -qx ab || fail "ids behind a mark"

# ---- shards ---------------------------------------------------------------------------------------------------------

printf 'held out' > v.txt
bytes v.txt --out data/web_val > /dev/null
bytes v.txt --out data/web > /dev/null || fail "another name is taken for this one: $(cat err)"
refused 'data/web_00000.bin is there already' "$SLUICE" tokenizer encode v.txt --tokenizer bytes --out data/web
for _ in 1 2 3 4; do printf 'a\0b\0c\0d\0'; done > ids16.bin
for _ in 1 2 3 4; do printf 'a\0\0\0b\0\0\0c\0\0\0d\0\0\0'; done > ids32.bin
decode() { "$SLUICE" tokenizer decode "$@" --tokenizer bytes; }
[[ $(decode ids16.bin --shard-format uint16) == abcdabcdabcdabcd && $(decode ids32.bin --shard-format uint32) == abcdabcdabcdabcd ]] ||
  fail "files without a header are not decoded"
refused 'ids16.bin is not a token shard.*shard-format' decode ids16.bin
refused 'ids32.bin is read as uint16 .*every second of its 16-bit tokens is 0' decode ids32.bin --shard-format uint16

# ---- vocabularies ---------------------------------------------------------------------------------------------------

echo 'a tiny text' > t.txt
refused 'vocabulary of 8192 tokens cannot be learned from this text: it has pieces for --vocab <= [0-9]+ only' \
  "$SLUICE" tokenizer train t.txt --out a.model
most=$(grep -o '<= [0-9]*' err | tr -dc 0-9)
"$SLUICE" tokenizer train t.txt --vocab "$most" --out a.model > /dev/null 2>&1 || fail "--vocab $most as advised"
# A hundred rare characters, 0.8 % of the text.
{
  for ((i = 0; i < 3000; ++i)); do echo -n 'abc '; done
  for row in b8 b9; do
    for ((i = 128; i < 178; ++i)); do printf "\\xe4\\x$row\\x$(printf %x $i)"; done
  done
} > chars.txt
refused 'its characters need --vocab >= [0-9]+; raise --vocab, or lower --coverage' "$SLUICE" tokenizer train chars.txt --vocab 300 --out b.model
refused 'it has pieces for --vocab <= [0-9]+ only' "$SLUICE" tokenizer train chars.txt --vocab 300 --coverage 0.98 --out b.model
"$SLUICE" tokenizer train chars.txt --vocab "$(grep -o '<= [0-9]*' err | tr -dc 0-9)" --coverage 0.98 --out b.model > /dev/null 2> err ||
  fail "a lower --coverage: $(cat err)"
