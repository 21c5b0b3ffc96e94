#!/usr/bin/env bash
# SIGINT, SIGTERM and SIGHUP: the step is finished, a checkpoint written, the exit code is 130, 143 or 129, and the resumed run equals
# a straight one.
set -euo pipefail
source tests/cli/tiny_run.bash

# wait_for_steps RUN COUNT: until the run has logged that many.
wait_for_steps() {
  local tries
  for tries in $(seq 600); do
    if [[ $(train_lines "$1") -ge $2 ]]; then return; fi
    sleep 0.05
  done
  fail "$1 does not train: $(cat "$folder/out" "$folder/err")"
}

# stop_by SIGNAL CODE
stop_by() {
  local signal=$1 code=$2 status=0 last
  "$SLUICE" train "$folder/tiny.json" --out "$folder/$signal" --set train.steps=100000000 \
    > "$folder/out" 2> "$folder/err" &
  wait_for_steps "$signal" 3
  kill "-$signal" $!
  wait $! || status=$?
  [[ $status -eq $code ]] || fail "SIG$signal: exit code $status instead of $code: $(cat "$folder/err")"
  grep -q "stopped by SIG$signal after a checkpoint" "$folder/out" || fail "nothing is said about SIG$signal"
  grep -q '"status": "stopped"' "$folder/$signal/info.json" || fail "info.json does not say that it was stopped"
  last=$(train_lines "$signal")
  [[ $(newest "$signal") == "$(printf 'step_%08d' "$last")" ]] || fail "$(newest "$signal") is not step $last"

  train "$signal" --set "train.steps=$((last + 10))" || fail "SIG$signal: the resume failed: $(cat "$folder/err")"
  grep -q "resumed from .* at step $last" "$folder/out" || fail "it did not resume at step $last"
  train "straight_$signal" --set "train.steps=$((last + 10))"
  same_runs "$signal" "straight_$signal"
}

stop_by INT 130
stop_by TERM 143
stop_by HUP 129

# A SIGHUP that was ignored at the start, as nohup does, stays so.
(trap '' HUP; exec "$SLUICE" train "$folder/tiny.json" --out "$folder/nohup" --set train.steps=100000000) \
  > "$folder/out" 2> "$folder/err" &
wait_for_steps nohup 3
kill -HUP $!
wait_for_steps nohup $(($(train_lines nohup) + 3))
kill -TERM $!
status=0
wait $! || status=$?
[[ $status -eq 143 ]] || fail "nohup: exit code $status instead of 143: $(cat "$folder/err")"

# Other commands end at once, by the signal.
mkfifo "$folder/pipe"
"$SLUICE" tokenizer encode - --tokenizer bytes --print < "$folder/pipe" > /dev/null 2> "$folder/err" &
exec 3> "$folder/pipe"
kill -TERM $!
status=0
wait $! || status=$?
exec 3>&-
[[ $status -eq 143 && ! -s $folder/err ]] || fail "tokenizer encode: exit code $status: $(cat "$folder/err")"
