# For the tests of `sluice train`: a run of a few milliseconds a step, and how to look at what it left. Needs $SLUICE.
# Sourced, not run; makes and removes $folder.

# Steps this small are mostly waiting for the other threads, which must not spin while other programs use the processors.
export OMP_WAIT_POLICY=passive

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat > "$folder/tiny.json" <<'JSON'
{
  "model": {"vocab_size": 67, "context": 32, "layers": 1, "heads": 2, "width": 32, "mlp_width": 48, "mlp": "relu",
            "bias": false, "tied_head": false, "init": "pytorch"},
  "data":  {"type": "bigram_backcopy"},
  "train": {"steps": 20, "batch": 6, "micro_batch": 4, "schedule": {"type": "constant"}},
  "log":   {"every": 1, "probe_every": 10, "probe_batch": 4, "map_positions": 8, "checkpoint_every": 5, "keep": 2}
}
JSON

fail() {
  echo "$1"
  exit 1
}

# train RUN ARGUMENT...: trains tiny.json in $folder/RUN; output in $folder/out and $folder/err.
train() {
  local run=$1
  shift
  "$SLUICE" train "$folder/tiny.json" --out "$folder/$run" "$@" > "$folder/out" 2> "$folder/err"
}

# metrics RUN: its metrics.jsonl without what the clock measures.
metrics() { sed -E 's/,"tokens_per_second":[^,}]*,"step_ms":[^,}]*//' "$folder/$1/metrics.jsonl"; }

train_lines() { grep -c '"kind":"train"' "$folder/$1/metrics.jsonl" 2> /dev/null || true; }

newest() { cat "$folder/$1/checkpoints/latest"; }

# same_runs A B: they wrote the same metrics and ended with the same weights and optimizer state.
same_runs() {
  diff <(metrics "$1") <(metrics "$2") > "$folder/difference" ||
    fail "$1 and $2 differ in their metrics: $(head -n 4 "$folder/difference")"
  [[ $(newest "$1") == "$(newest "$2")" ]] || fail "$1 ended at $(newest "$1"), $2 at $(newest "$2")"
  local file
  for file in model optimizer; do
    cmp "$folder/$1/checkpoints/$(newest "$1")/$file.safetensors" \
        "$folder/$2/checkpoints/$(newest "$2")/$file.safetensors" || fail "$1 and $2 differ in $file.safetensors"
  done
}
