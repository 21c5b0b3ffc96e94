#!/usr/bin/env bash
# bench times a step, names its ops, and writes the same as JSON; a device that is not there is the user's error.
set -euo pipefail
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

small=(configs/bench/small.json --set model.context=16 --set model.width=32 --set model.vocab_size=64 --set train.batch=2
       --set device=cpu --steps 2)
"$SLUICE" bench "${small[@]}" --json "$out/bench.json" > "$out/bench.txt"
grep -q 'tokens/s' "$out/bench.txt"
grep -Eq '^ +matmul +[0-9]+ calls' "$out/bench.txt"
grep -Eq '^ +f32 [0-9]+x[0-9]+x[0-9]+.* [0-9]+ calls .* GFLOP/s, [0-9]+% of the registers' "$out/bench.txt"
for key in tokens_per_second share_of_matmul_peak share_of_peak peak_operations_per_second register_peak ops matmuls; do
  grep -q "\"$key\"" "$out/bench.json"
done

# One op: correct, and its calls by shape.
op() { "$SLUICE" bench op "$1" "${small[@]:0:11}" --repeats 2 "${@:2}"; }
op attention_forward --json "$out/op.json" > "$out/op.txt"
grep -q 'attention_forward, with the tensors of a step' "$out/op.txt"
grep -Eq '^  4 calls a step, .* GB/s' "$out/op.txt"
grep -q '"difference"' "$out/op.json"
# Windows: what they leave out is no operation, and layers with one are timed apart from those without.
"$SLUICE" bench "${small[@]}" --set model.attention.window=4 --json "$out/window.json" > "$out/bench.txt"
operations() { sed -nE 's/^ *"operations": ([0-9]+).*/\1/p' "$1"; }
# 4 layers, 4 heads, 2 sequences, 12 x 12 pairs out of sight (two operations a pair and feature, half of them masked), 7 x 8 features
(($(operations "$out/bench.json") - $(operations "$out/window.json") == 4 * 4 * 2 * 12 * 12 * 7 * 8))
op attention_backward --set 'model.attention=["softmax",{"type":"softmax","window":4}]' > "$out/op.txt"
[[ $(grep -c '^  2 calls a step' "$out/op.txt") -eq 2 && $(grep -c '; window 4$' "$out/op.txt") -eq 1 ]]
# Every op that a step of a model with many parts runs is one that may be timed.
parts=(--set model.mlp=swiglu --set model.position=rope --set model.qk_norm=true --set 'model.attention={"type":"vga","exclude_self":true,"affine":"linear","value_residual":"learned"}')
"$SLUICE" bench "${small[@]}" "${parts[@]}" > "$out/parts.txt"
ran=$(sed -nE 's/^ +([a-z_]+) +[0-9]+ calls.*/\1/p' "$out/parts.txt" | grep -vE '^(upload|download)$')
[[ $(wc -w <<< "$ran") -ge 15 ]]
for name in $ran; do op "$name" "${parts[@]}" > "$out/op.txt" || { cat "$out/op.txt"; exit 1; }; done
status=0
op atention_forward 2> "$out/error.txt" || status=$?
[[ $status -eq 2 ]] && grep -q 'did you mean attention_forward' "$out/error.txt"
status=0
op attention_decode 2> "$out/error.txt" || status=$?
[[ $status -eq 2 ]] && grep -q 'no step of this config runs attention_decode' "$out/error.txt"
status=0
"$SLUICE" bench 2> "$out/error.txt" || status=$?
[[ $status -eq 2 ]] && grep -q 'bench needs a config' "$out/error.txt"

if "$SLUICE" doctor --quick | grep -q 'device auto *cpu: '; then
  status=0
  "$SLUICE" bench "${small[@]}" --set device=cuda 2> "$out/error.txt" || status=$?
  [[ $status -eq 2 ]]
  grep -q 'device is cuda, but ' "$out/error.txt"
fi
