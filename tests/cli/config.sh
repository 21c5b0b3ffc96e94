#!/usr/bin/env bash
# The generated files in docs/ are current; every config and sweep in configs/ resolves; a resolved config
# resolves to itself.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

for pair in "--schema docs/config.schema.json" "--reference docs/config.md"; do
  read -r option file <<< "$pair"
  if ! "$SLUICE" config "$option" | diff "$file" -; then
    echo "$file is out of date: build/release/sluice config $option > $file"
    exit 1
  fi
done

while IFS= read -r config; do
  "$SLUICE" config "$config" > "$folder/once.json"
  "$SLUICE" config "$folder/once.json" > "$folder/twice.json"
  diff "$folder/once.json" "$folder/twice.json"
done < <(find configs -name '*.json' -not -path 'configs/sweeps/*')

for sweep in configs/sweeps/*.json; do
  "$SLUICE" sweep "$sweep" --list > "$folder/runs"
  [[ -s "$folder/runs" ]]
done
