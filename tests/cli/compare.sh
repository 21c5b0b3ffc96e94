#!/usr/bin/env bash
# sluice compare: the table, JSON alone on stdout, the report file, and errors with exit code 2.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

for name in a b; do
  mkdir -p "$folder/$name"
  echo "{\"name\": \"$name\", \"seed\": 1, \"model\": {\"width\": ${#name}}}" > "$folder/$name/config.json"
  echo '{"kind":"train","step":1,"loss":2.5}' > "$folder/$name/metrics.jsonl"
done

fail() { echo "$1"; exit 1; }

"$SLUICE" compare "$folder/a" "$folder/b" --report "$folder/pages/report.html" > "$folder/table" 2> "$folder/notes"
grep -qE '^a +1 +2\.500' "$folder/table" || fail "the table lacks the loss"
grep -q 'a: info.json is missing' "$folder/notes" || fail "no note about the missing info.json"
head -c 15 "$folder/pages/report.html" | grep -q '<!DOCTYPE html>' || fail "the report is no HTML"

"$SLUICE" compare "$folder/a" --markdown 2> /dev/null | grep -qF '| a | 1 | 2.500 |' || fail "no Markdown row"

mkdir -p "$folder/many"
cp "$folder/a/config.json" "$folder/many/config.json"
{
  echo '{"kind":"train","step":1,"loss":2.5}'
  echo '{"kind":"eval","step":1,"loss":2.25,"perplexity":9.5}'
} > "$folder/many/metrics.jsonl"
"$SLUICE" compare "$folder/many" > "$folder/table" 2> /dev/null
grep -q '2.250' "$folder/table" && ! grep -q '2.500' "$folder/table" || fail "the main columns"
grep -q '^1 more column: sluice compare --all' "$folder/table" || fail "it is not said that there are more columns"
"$SLUICE" compare "$folder/many" --all 2> /dev/null | grep -q '2.500' || fail "--all has not every column"
"$SLUICE" compare "$folder/many" --markdown 2> /dev/null | grep -q '2.500' || fail "Markdown has not every column"
rm -r "$folder/many"

"$SLUICE" compare "$folder/a" --json - 2> /dev/null > "$folder/out.json"
[[ $(head -c 1 "$folder/out.json") == '{' && $(tail -n 1 "$folder/out.json") == '}' ]] || fail "stdout is not JSON alone"
"$SLUICE" compare "$folder/a" --json "$folder/file.json" > "$folder/table" 2> /dev/null
cmp "$folder/out.json" "$folder/file.json" || fail "--json FILE differs from --json -"
grep -q '2.500' "$folder/table" || fail "--json FILE hides the table"

"$SLUICE" compare "$folder" > "$folder/table" 2> "$folder/notes" || fail "a folder of runs: $(cat "$folder/notes")"
grep -qE '^a +1 +2\.500' "$folder/table" && grep -qE '^b +1 +2\.500' "$folder/table" || fail "not all runs of a folder"
"$SLUICE" compare "$folder" "$folder/a" > /dev/null 2> "$folder/notes"
grep -q 'a is named twice' "$folder/notes" || fail "a run of a folder counts twice"

# expect_wrong_input PATTERN ARGUMENT...
expect_wrong_input() {
  local pattern=$1 status=0
  shift
  "$SLUICE" compare "$@" > /dev/null 2> "$folder/err" || status=$?
  [[ $status -eq 2 ]] && grep -q "$pattern" "$folder/err" || fail "compare $*: exit code $status, $(cat "$folder/err")"
}
expect_wrong_input 'no such run folder' "$folder/none"
mkdir "$folder/empty"
expect_wrong_input 'empty: neither a run.s folder .* nor a folder of runs' "$folder/empty"
expect_wrong_input 'cannot' "$folder/a" --report "$folder/a/config.json/report.html"
printf 'x\n{"kind":"train","step":2,"loss":2}\n' > "$folder/b/metrics.jsonl"
expect_wrong_input 'b/metrics.jsonl: line 1 is malformed' "$folder/a" "$folder/b"
