#!/usr/bin/env bash
# The demo shows what the papers do: after its first 225 of 350 steps softmax has a sink and the two gated variants have
# none. (The learning rate is constant: a shorter run is the beginning of a longer one. Seed 42 has 0.48, 0.05 and 0.02.)
set -euo pipefail
if ! grep -q '^CMAKE_BUILD_TYPE:.*=Release$' "$SLUICE_BUILD/CMakeCache.txt"; then
  echo "only a release build is fast enough"
  exit 77
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

sink_of() {
  "$SLUICE" train "configs/demo/$1.json" --set train.steps=225 --set log.map_positions=0 --set log.probe_every=225 \
    --set log.every=225 --out "$out/$1" --quiet > "$out/$1.log" 2>&1 || { cat "$out/$1.log" >&2; exit 1; }
  sed -n 's/.*"kind":"probe","step":225,.*"sink_attention":\([0-9.e-]*\).*/\1/p' "$out/$1/metrics.jsonl"
}
softmax=$(sink_of softmax)
input_gated=$(sink_of input_gated)
vga=$(sink_of vga)
echo "sink attention: softmax $softmax, input_gated $input_gated, vga $vga"
awk "BEGIN { exit !($softmax > 0.4 && $input_gated < 0.15 && $vga < 0.15) }"
