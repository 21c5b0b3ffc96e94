#!/usr/bin/env bash
# What a stranger does once: files named twice, folders in the place of files, runs that begin where nothing is left to do,
# machines with too little memory. One sentence, the right exit code, and nothing is lost.
set -euo pipefail
source tests/cli/tiny_run.bash

# ends CODE PATTERN ARGUMENT...: with this exit code, and one line on standard error that matches.
ends() {
  local code=$1 pattern=$2 status=0
  shift 2
  "$SLUICE" "$@" > "$folder/out" 2> "$folder/err" < /dev/null || status=$?
  [[ $status -eq $code ]] || fail "$*: exit code $status instead of $code: $(cat "$folder/err")"
  [[ $(grep -c '^sluice: ' "$folder/err") -eq 1 ]] || fail "$*: not one sentence: $(cat "$folder/err")"
  grep -qE -e "$pattern" "$folder/err" || fail "$*: \"$pattern\" is not in: $(cat "$folder/err")"
}

# ---- runs and their folders -------------------------------------------------------------------------------------------

train run --quiet
ends 2 "run is a run's folder, and a config is asked for, such as .*run/config.json; to go on with the run: sluice train" train "$folder/run"
"$SLUICE" train "$folder/run/config.json" --out "$folder/run" > "$folder/out" || fail "the line that was named does not go on"
grep -q 'nothing is left to train' "$folder/out" || fail "it does not go on with the run: $(cat "$folder/out")"
ends 2 'is a checkpoint, and a config is asked for' train "$folder/run/checkpoints/$(newest run)"

ends 2 'is of step 20, and train.steps is 20: .*nothing to train; raise train.steps' \
  train "$folder/tiny.json" --out "$folder/fork" --resume "$folder/run"
[[ ! -e $folder/fork ]] || fail "a fork past its end leaves a folder"

# A part that does nothing in the model is told of.
train idle --quiet --set model.attention=value_residual --set train.steps=1
grep -q 'model.attention.value_residual mixes nothing: .*model.layers = 1' "$folder/out" || fail "it is not told: $(cat "$folder/out")"

"$SLUICE" train "$folder/run/config.json" --out "$folder/second" --set seed=7 --set train.steps=2 --quiet
grep -q '"name": "second"' "$folder/second/config.json" || fail "a run from another one's config has its name"

train alone --quiet --set data.triggers=0 --set train.steps=2 --set log.probe_every=1
! grep -q backcopy "$folder/alone/metrics.jsonl" || fail "a risk of nothing is in the metrics"
"$SLUICE" train "$folder/tiny.json" --out "$folder/one" --set model.context=1 --set train.steps=1 > "$folder/out"
grep -q '; bigram risk [0-9.]* nats (no triggers)$' "$folder/out" || fail "a risk of nothing is printed: $(tail -n 1 "$folder/out")"

# ---- results in the place of what is read ----------------------------------------------------------------------------

printf 'a text of some words\n' > "$folder/text"
cat > "$folder/bytes.json" <<'JSON'
{"model": {"vocab_size": 257, "context": 16, "layers": 1, "heads": 2, "width": 16}, "data": "random", "train": {"steps": 1, "batch": 2}}
JSON
"$SLUICE" train "$folder/bytes.json" --out "$folder/bytes" --quiet
mkdir "$folder/texts"
cp "$folder/text" "$folder/texts/a.txt"
overwritten='this file is read \(.*\), and would be overwritten; name another'
kept() { find "$folder" -type f ! -name out ! -name err -exec md5sum {} + | sort; }
kept > "$folder/out.before"
before=$(kept)
ends 2 "--json .*$overwritten" eval "$folder/bytes" "$folder/text" --tokenizer bytes --json "$folder/text"
ends 2 "--json .*$overwritten" eval "$folder/bytes" "$folder/texts" --tokenizer bytes --json "$folder/texts/a.txt"
ends 2 "--json .*$overwritten" eval "$folder/bytes" "$folder/te*s/*.txt" --tokenizer bytes --json "$folder/texts/../texts/a.txt"
ends 2 "--json .*$overwritten" bench "$folder/tiny.json" --steps 1 --json "$folder/tiny.json"
ends 2 'no file of figures' compare "$folder/run" --json "$folder/run/attention/step_00000000.json"
ends 2 'no file of figures' compare "$folder/run" --json "$folder/run/config.json"
ends 2 '--json and --report both name' compare "$folder/run" --json "$folder/x" --report "$folder/./x"
[[ $(kept) == "$before" ]] || fail "a refused command has changed something: $(diff <(kept) <(echo "$before"))"
"$SLUICE" eval "$folder/bytes" "$folder/text" --tokenizer bytes --json "$folder/figures.json" > "$folder/out" ||
  fail "a place of its own is refused"

# ---- files in the place of folders, models of others in the place of runs --------------------------------------------

"$SLUICE" export "$folder/bytes" "$folder/hf" > /dev/null
ends 2 'its path is empty' train ''
ends 2 'its path is empty' bench ''
ends 2 'text is a file, and a run.s folder or a checkpoint.s is asked for' sample "$folder/text"
ends 2 'becomes a run with sluice import' sample "$folder/hf" --tokenizer bytes
ends 2 'which becomes one with sluice import' compare "$folder/hf"
ends 2 'config.json is a file, and a model.s folder is asked for' import "$folder/hf/config.json" --out "$folder/x"
ends 2 'run is a run of Sluice.s already' import "$folder/run" --out "$folder/x"
ends 2 'seed is 1.8446744073709552e.19, which does not fit in a 64-bit integer' config "$folder/tiny.json" --set seed=18446744073709551616

# ---- what is not needed may be broken --------------------------------------------------------------------------------

for info in '{"tokenizer": ' '[]' '{"tokenizer": 7}'; do
  echo "$info" > "$folder/bytes/info.json"
  "$SLUICE" sample "$folder/bytes" --tokenizer bytes --prompt a --tokens 2 > "$folder/out" 2> "$folder/err" ||
    fail "a malformed info.json stops sample: $(cat "$folder/err")"
  grep -q 'note: .*info.json.*; whether this is the tokenizer' "$folder/err" || fail "it is not told: $(cat "$folder/err")"
done

# ---- a folder that is made whole or not at all -----------------------------------------------------------------------

small() { (ulimit -f 4 && exec "$SLUICE" "$@"); }
for command in "import $folder/hf --out" "export $folder/bytes"; do
  status=0
  # shellcheck disable=SC2086
  small $command "$folder/new" > "$folder/out" 2> "$folder/err" || status=$?
  [[ $status -eq 1 ]] || fail "$command on a full disk: exit code $status: $(cat "$folder/err")"
  grep -qE "^sluice: cannot .*$folder/new/.*File too large" "$folder/err" || fail "$command: $(cat "$folder/err")"
  ! grep -q 'sluice-' "$folder/err" || fail "$command names a folder that nobody has named: $(cat "$folder/err")"
  ls -A "$folder" > "$folder/out"
  ! grep -qE '^new$|sluice-' "$folder/out" || fail "$command leaves something: $(cat "$folder/out")"
done

# ---- too little memory: a sentence, wherever it runs out -------------------------------------------------------------

if grep -q asan <(ldd "$SLUICE"); then
  exit 0  # a sanitizer takes terabytes of addresses
fi
starts=0
for size in $(seq 40000 3000 190000); do
  status=0
  (ulimit -c 0 && ulimit -v "$size" && exec "$SLUICE" train "$folder/bytes.json" --out "$folder/memory" --quiet \
    --set train.precision=$([[ $((size % 2000)) -eq 0 ]] && echo fp32 || echo bf16)) > "$folder/out" 2> "$folder/err" || status=$?
  if [[ $status -eq 127 ]]; then continue; fi  # the system cannot even load the program
  starts=$((starts + 1))
  [[ $status -le 2 ]] || fail "with $size kB: exit code $status: $(cat "$folder/err")"
  [[ $status -eq 0 ]] || grep -qE '^sluice: .*(memory|ulimit|refuses)|libgomp' "$folder/err" || fail "with $size kB: $(cat "$folder/err")"
  rm -rf "$folder/memory"
done
[[ $starts -ge 10 ]] || fail "only $starts limits were tried"
[[ $status -eq 0 ]] || fail "the largest limit is too small: $(cat "$folder/err")"
