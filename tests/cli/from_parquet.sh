#!/usr/bin/env bash
# scripts/from_parquet: Parquet and Arrow files into the tokenizer's pipe, and what of them is refused.
set -euo pipefail
command -v python3 > /dev/null || { echo "python3 is not installed"; exit 77; }
python=${SLUICE_PYTHON:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "$1"; exit 1; }

"$python" -c 'import pyarrow' 2> /dev/null || {
  ! "$python" scripts/from_parquet x 2> "$folder/err" || fail "no error without pyarrow"
  grep -q '^from_parquet needs the pyarrow package: pip install pyarrow$' "$folder/err" || fail "$(cat "$folder/err")"
  echo "pyarrow is not installed"
  exit 77
}

"$python" - "$folder" <<'PYTHON'
import sys, pyarrow as pa, pyarrow.parquet as pq
folder = sys.argv[1]
texts = [f"text {i} \u65e5\u672c\n\"quoted\" \\ " + "x" * (i % 50) for i in range(5000)]
table = pa.table({"id": list(range(5000)), "text": texts, "meta": [{"body": f"body {i}"} for i in range(5000)]})
pq.write_table(table, f"{folder}/a.parquet", row_group_size=700)
pq.write_table(table.slice(0, 3), f"{folder}/b.parquet", compression="zstd")
pq.write_table(pa.table({"text": ["one", None, ""]}), f"{folder}/null.parquet")
pq.write_table(pa.table({"a.b": ["dotted"], "text": pa.array(["x"]).dictionary_encode()}), f"{folder}/dotted.parquet")
with pa.ipc.new_file(f"{folder}/c.arrow", table.schema) as file: file.write(table)
with pa.ipc.new_stream(f"{folder}/d.arrow", table.schema) as file: file.write(table)
with open(f"{folder}/text", "w", newline="") as file:
    for text in texts: file.write(text + "\n--\n")
PYTHON
parquet() { "$python" scripts/from_parquet "$@" 2> "$folder/err"; }
# The shard's text; documents end with a line "--".
through() {
  rm -rf "$folder/out"
  parquet "$@" | "$SLUICE" tokenizer encode - --tokenizer bytes --out "$folder/out/" > /dev/null 2>&1
  "$SLUICE" tokenizer decode "$folder/out/tokens_00000.bin" --tokenizer bytes --separator --
}

for file in a.parquet c.arrow d.arrow; do
  through "$folder/$file" | cmp - "$folder/text" || fail "$file: the text did not come through"
done
[[ $(parquet "$folder/[ab].parquet" | wc -l) -eq 5003 ]] || fail "a glob"
mkdir "$folder/deep" && cp "$folder/b.parquet" "$folder/deep/"
[[ $(parquet "$folder/deep" "$folder/b.parquet" | wc -l) -eq 6 ]] || fail "a folder"
[[ $(parquet "$folder/b.parquet" --field meta.body | tail -1) == '{"text": "body 2"}' ]] || fail "a field of a field"
[[ $(parquet "$folder/c.arrow" --field meta.body | tail -1) == '{"text": "body 4999"}' ]] || fail "a field of a field, Arrow"
[[ $(parquet "$folder/dotted.parquet" --field a.b) == '{"text": "dotted"}' ]] || fail "a name with a dot"
[[ $(parquet "$folder/dotted.parquet") == '{"text": "x"}' ]] || fail "a column of a dictionary"
[[ $(parquet "$folder/null.parquet" | sed -n 2p) == '{"text": null}' ]] || fail "a row without text"

refused() {
  local pattern=$1 status=0
  shift
  parquet "$@" > "$folder/out.txt" || status=$?
  [[ $status -eq 2 && $(wc -l < "$folder/err") -eq 1 ]] || fail "$*: exit code $status: $(cat "$folder/err")"
  grep -qE "$pattern" "$folder/err" || fail "$*: $(cat "$folder/err")"
}
refused 'there is no file' "$folder/none.parquet"
refused 'has no column "body"; it has id, text, meta' "$folder/b.parquet" --field body
refused 'the column "id" holds int64, not strings' "$folder/b.parquet" --field id
refused 'cannot read .*/text' "$folder/text"
# What breaks on the way does not pass for the end.
head -c 60000 "$folder/a.parquet" > "$folder/cut.parquet"
refused 'cannot read .*cut.parquet' "$folder/cut.parquet"
"$python" - "$folder" <<'PYTHON'
import sys
data = bytearray(open(f"{sys.argv[1]}/a.parquet", "rb").read())
data[len(data) // 4:len(data) // 2] = bytes(len(data) // 2 - len(data) // 4)
open(f"{sys.argv[1]}/damaged.parquet", "wb").write(data)
PYTHON
refused 'cannot read .*damaged.parquet' "$folder/damaged.parquet"
status=0
"$SLUICE" tokenizer encode - --tokenizer bytes --print < "$folder/out.txt" > /dev/null 2> "$folder/err" || status=$?
[[ $status -eq 2 ]] || fail "a damaged file passed for a whole one"

# The tokenizer itself says what to do.
status=0
"$SLUICE" tokenizer encode "$folder/b.parquet" --tokenizer bytes --print 2> "$folder/err" || status=$?
line="scripts/from_parquet $folder/b.parquet | sluice tokenizer encode - --tokenizer bytes --print"
[[ $status -eq 2 ]] && grep -qF "\`$line\`" "$folder/err" || fail "$(cat "$folder/err")"

# The line that it names does it, for all files of a folder, whatever they are called.
mkdir "$folder/two words"
cp "$folder/a.parquet" "$folder/b.parquet" "$folder/two words"
status=0
"$SLUICE" tokenizer encode "$folder/two words" --tokenizer bytes --out "$folder/whole/" 2> "$folder/err" || status=$?
line=$(sed -n 's/.*`\(.*\)`.*/\1/p' "$folder/err")
[[ $status -eq 2 && $line == scripts/from_parquet* ]] || fail "a folder of Parquet files: $(cat "$folder/err")"
sluice() { "$SLUICE" "$@"; }
eval "$python $line" > /dev/null 2> "$folder/err" || fail "$line: $(cat "$folder/err")"
"$SLUICE" tokenizer decode "$folder/whole/tokens_00000.bin" --tokenizer bytes --separator -- > "$folder/text.out"
[[ $(grep -c '^--$' "$folder/text.out") -eq 5003 ]] || fail "$line: not all documents came through"
