#!/usr/bin/env bash
# Runs whose layers lack what others have: an MLP in attention's place, and queries and keys of a fixed text that the run
# takes from its data. They train, go on, are swept, looked at and compared, and say what they do not have.
set -euo pipefail
source "$(dirname "$0")/tiny_run.bash"

# ---- a fixed text is written out with the run
text='model.attention={"qk_source": "text"}'
train text --set "$text" --set train.steps=10 || fail "it does not train: $(cat "$folder/err")"
tokens() { python3 -c 'import json, sys; print(len(json.load(open(sys.argv[1]))["model"]["attention"]["qk_source"]["tokens"]))' "$1"; }
[[ $(tokens "$folder/text/config.json") -eq 32 ]] || fail "its config has $(tokens "$folder/text/config.json") tokens"
train text --set "$text" || fail "the same command does not go on: $(cat "$folder/err")"
train whole --set "$text"
same_runs text whole
"$SLUICE" analyze "$folder/text" --sequences 4 > "$folder/out" || fail "it is not analyzed"
"$SLUICE" quantize "$folder/text" > "$folder/out" 2> "$folder/err" || fail "it is not quantized: $(cat "$folder/err")"

# A run with another text is another one.
zeros=$(printf '0,%.0s' $(seq 31))0
status=0
train text --set "model.attention={\"qk_source\": {\"type\": \"text\", \"tokens\": [$zeros]}}" || status=$?
[[ $status -eq 2 ]] || fail "another text goes on: exit code $status"
grep -q 'model.attention.qk_source.tokens' "$folder/err" || fail "it does not say why: $(cat "$folder/err")"

# ---- a sweep knows its runs again, and they are one group
cat > "$folder/pair.json" <<'JSON'
{
  "base": "tiny.json",
  "config": {"train": {"steps": 4}, "model": {"layers": 2}},
  "variants": {
    "text": {"model": {"attention": ["softmax", {"type": "vga", "qk_source": "text"}]}},
    "mlp": {"model": {"attention": "mlp"}},
    "mixed": {"model": {"attention": ["mlp", "random_qk"]}}
  },
  "seeds": [1, 2]
}
JSON
"$SLUICE" sweep "$folder/pair.json" --out "$folder/pair" > "$folder/out" 2>&1 || fail "the sweep failed: $(cat "$folder/out")"
grep -q '^text, 2 seeds ' "$folder/out" || fail "seeds are not one group: $(cat "$folder/out")"
"$SLUICE" sweep "$folder/pair.json" --out "$folder/pair" > "$folder/out" 2>&1 || fail "the sweep does not know its runs: $(cat "$folder/out")"
[[ $(grep -c 'done before' "$folder/out") -eq 6 ]] || fail "runs were trained again: $(cat "$folder/out")"

# ---- layers without heads
"$SLUICE" analyze "$folder/pair/mlp-s1" --sequences 4 --save > "$folder/out" || fail "a model without heads is not analyzed"
grep -q 'layers 0, 1 have no attention heads' "$folder/out" || fail "it does not say so: $(cat "$folder/out")"
! grep -qE 'L0H|sink rate|\|v\|' "$folder/out" || fail "it shows figures of heads: $(cat "$folder/out")"
"$SLUICE" analyze "$folder/pair/mixed-s1" --sequences 4 --save > "$folder/out" || fail "the mixed model is not analyzed"
grep -q 'layers 0 have no attention heads' "$folder/out" || fail "it does not say so: $(cat "$folder/out")"
! grep -q 'L0H' "$folder/out" || fail "a layer without heads has figures of some: $(cat "$folder/out")"
"$SLUICE" compare "$folder/pair" --report "$folder/page.html" > "$folder/out" 2>&1 || fail "they are not compared: $(cat "$folder/out")"
grep -q 'has no maps: no layer had attention weights' "$folder/out" || fail "it does not say that there are no maps: $(cat "$folder/out")"
! grep -q 'malformed' "$folder/out" || fail "what the program wrote is called malformed: $(cat "$folder/out")"
