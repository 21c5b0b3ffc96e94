#!/usr/bin/env bash
# scripts/reproduce from configs to Markdown, with a few steps of two variants; and what it says of what it cannot do.
set -euo pipefail
command -v python3 > /dev/null || { echo "SKIPPED: python3 is not installed, scripts/reproduce was not tested"; exit 77; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export PYTHONDONTWRITEBYTECODE=1

for definition in docs/reproductions/*.json; do
  name=$(basename "$definition" .json)
  scripts/reproduce "$name" --quick > "$out/$name.log" 2>&1 || { tail -20 "$out/$name.log" >&2; exit 1; }
  page=build/reproduce_quick/$name.md
  # Each table has a line of names, a rule, and rows without an empty cell but the first line's.
  awk '/^<!-- table/ { name = $3; lines = 0 }
       name && /^\|/ { lines++; if (lines > 2 && (/\|  \|/)) { print FILENAME ": " name ": an empty cell: " $0; bad = 1 } }
       name && /^<!-- end/ { if (lines < 3) { print FILENAME ": " name ": no row"; bad = 1 } name = "" }
       END { exit bad }' "$page" >&2
  # What was measured is kept: the same tables, and nothing is trained.
  cp "$page" "$out/first.md"
  scripts/reproduce "$name" --quick --write > "$out/again.log" 2>&1
  cmp "$page" "$out/first.md"
  ! grep -q started "$out/again.log"
done

refused() {  # WORDS... -- SENTENCE
  local words=()
  while [ "$1" != -- ]; do words+=("$1"); shift; done
  local code=0
  scripts/reproduce "${words[@]}" > "$out/refused.log" 2>&1 || code=$?
  [ "$code" = 2 ] && grep -qF -- "$2" "$out/refused.log" || { cat "$out/refused.log" >&2; echo "wanted: $2" >&2; exit 1; }
}
refused nothing -- "docs/reproductions has no definition named nothing"
refused zoo --part nothing -- "zoo.json has no part nothing; there are bb"
refused zoo --write --variants nothing -- "has no variant nothing; there are softmax"
refused zoo --write --seeds 77 -- "has no seed 77; there are 1"
if ! compgen -G "data/docs_*" > /dev/null; then  # who has encoded a text needs none, and would train here
  refused zoo --part lm --runs "$out/runs" --seeds 1 --variants softmax --again -- "--text"
fi
