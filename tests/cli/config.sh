#!/usr/bin/env bash
# The generated files in docs/ are current; every config and sweep in configs/ resolves; a resolved config
# resolves to itself.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

for generated in "docs/config.schema.json config --schema" "docs/config.md config --reference" \
  "docs/figures.md analyze --reference"; do
  read -r file command option <<< "$generated"
  if ! "$SLUICE" "$command" "$option" | diff "$file" -; then
    echo "$file is out of date: scripts/update_docs writes it"
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
