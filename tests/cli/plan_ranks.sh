#!/usr/bin/env bash
# plan-ranks plans a corpus of long and short documents: a table, JSON, a picture; what cannot be planned is refused.
set -euo pipefail
source "$(dirname "$0")/tiny_run.bash"

# Of every ten documents nine are short, and the tenth fills a window.
for i in $(seq 200); do
  printf '%*s\n<|doc|>\n' "$(( i % 10 == 0 ? 255 : 5 + i * 7 % 40 ))" x
done > "$folder/text.txt"
"$SLUICE" tokenizer encode "$folder/text.txt" --tokenizer bytes --separator '<|doc|>' --out "$folder/text" 2> /dev/null > /dev/null
cat > "$folder/long.json" << JSON
{
  "base": "tiny.json",
  "model": {"vocab_size": 257, "context": 256},
  "data": {"type": "tokens", "train_shards": ["text_00000.bin"], "validation_shards": ["text_00000.bin"],
           "shuffle": "none", "document_mask": true}
}
JSON
sed -i "s|text_00000.bin|$folder/text_00000.bin|g" "$folder/long.json"
ranks=4
plan() { "$SLUICE" plan-ranks "$folder/long.json" --ranks "$ranks" --tile 16 --block 4 "$@" > "$folder/out" 2> "$folder/err"; }
refused() {  # refused WORDS ARGUMENT...
  local words=$1 status=0
  shift
  plan "$@" || status=$?
  [[ $status -eq 2 ]] || fail "exit code $status instead of 2 for $*: $(cat "$folder/err")"
  grep -qF -- "$words" "$folder/err" || fail "$* is refused with other words than $words: $(cat "$folder/err")"
}

# ---- what it prints and writes
plan --steps 3 --json "$folder/plan.json" --picture "$folder/plan.svg" || fail "$(cat "$folder/err")"
for title in 'fixed packing' 'variable-length packing' 'per-document context parallel' 'disaggregated attention'; do
  grep -q "^$title  *[0-9]" "$folder/out" || fail "no $title in $(cat "$folder/out")"
  grep -q "$title" "$folder/plan.svg" || fail "no $title in the picture"
done
grep -q '^</svg>$' "$folder/plan.svg" || fail "the picture has no end"
plan --steps 3 --json - && cmp "$folder/out" "$folder/plan.json" || fail "the JSON on standard output is another"
if command -v python3 > /dev/null; then
  python3 - "$folder/plan.json" "$folder/plan.svg" << 'PYTHON' || fail "see above"
import json, sys, xml.dom.minidom
plans = {plan["plan"]: plan for plan in json.load(open(sys.argv[1]))["plans"]}
pairs = {name: sum(rank["pairs"] for rank in plan["ranks_of_first_step"]) for name, plan in plans.items()}
assert len(plans) == 4 and len(set(pairs.values())) == 1, pairs
assert plans["disaggregated"]["pairs_max_over_mean"] < plans["fixed"]["pairs_max_over_mean"], plans
assert plans["disaggregated"]["tokens_per_rank"] == plans["fixed"]["tokens_per_rank"] == 256
xml.dom.minidom.parse(sys.argv[2])
PYTHON
fi

# ---- windows longer than a rank's share, and others than the model's
plan --tokens 64 || fail "$(cat "$folder/err")"
grep -q '4 ranks with 64 tokens each' "$folder/out" || fail "$(cat "$folder/out")"
plan --context 128 --tokens 96 || fail "$(cat "$folder/err")"

# ---- what is told
plan --steps 100 || fail "$(cat "$folder/err")"
grep -q 'windows are planned, but the data have' "$folder/err" || fail "it does not tell that data are read twice"
plan --most-tokens 256 --tokens 64 || fail "$(cat "$folder/err")"
plan --most-tokens 100 || fail "$(cat "$folder/err")"
grep -q 'found no room within --most-tokens 100 for [0-9]* pieces' "$folder/err" || fail "it does not tell of pieces beyond the limit"
plan --set data.document_mask=false || fail "$(cat "$folder/err")"
grep -q 'every window is one piece' "$folder/err" || fail "it does not tell that documents are not masked"
grep -q '^disaggregated attention  *1.000  *1.000 .* 0$' "$folder/out" || fail "equal windows are moved: $(cat "$folder/out")"

# ---- what is refused
refused 'no multiple of the context, 256' --tokens 100
ranks=1024 refused 'more than 67108864' --tokens 16777216
ranks=1 refused '--ranks: must be an integer from 2 to 1024'
refused 'must be a number from' --flops nan
refused 'model.attention.window is 16' --set model.attention.window=16
refused 'model.registers is 2' --set model.registers=2 --set data.document_mask=false
refused '--json and --picture both name' --json "$folder/same" --picture "$folder/same"
refused 'both go to standard output' --json - --picture -
refused 'this file is read' --json "$folder/long.json"
refused 'did you mean --tokens?' --token 8
status=0
"$SLUICE" plan-ranks "$folder/long.json" 2> "$folder/err" || status=$?
[[ $status -eq 2 ]] && grep -q -- '--ranks is required' "$folder/err" || fail "$(cat "$folder/err")"
