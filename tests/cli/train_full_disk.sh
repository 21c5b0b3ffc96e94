#!/usr/bin/env bash
# A disk that fills up while a run trains: exit code 1, one sentence, and everything that was there before stays. With
# room again the run goes on to the same end. A limit on file sizes stands for the disk, and a small tmpfs where one may
# be mounted.
set -euo pipefail
source tests/cli/tiny_run.bash

# failed PATTERN WHAT STATUS
failed() {
  [[ $3 -eq 1 ]] || fail "$2: exit code $3 instead of 1: $(cat "$folder/out" "$folder/err")"
  [[ $(wc -l < "$folder/err") -eq 1 ]] || fail "$2: not one line on stderr: $(cat "$folder/err")"
  grep -qE "$1" "$folder/err" || fail "$2: \"$1\" is not in: $(cat "$folder/err")"
}
checkpoints() { (cd "$folder/$1/checkpoints" && find . -type f -exec sha256sum {} + | sort -k 2); }

train straight --set train.steps=40
train run
before=$(checkpoints run)

# Files may have a kilobyte less than the optimizer's needs.
limit=$(($(stat -c %s "$folder/run/checkpoints/step_00000020/optimizer.safetensors") / 1024 - 1))
status=0
(ulimit -f "$limit" && train run --set train.steps=40) || status=$?
failed 'cannot save the checkpoint .*step_00000025: cannot write .*; it needs .* are free there; earlier checkpoints are' \
  "a full disk in a checkpoint" "$status"
[[ $(checkpoints run) == "$before" ]] || fail "a full disk changed the checkpoints"
grep -q '"status": "failed"' "$folder/run/info.json" || fail "info.json does not say that the run failed"
grep -q 'cannot save the checkpoint' "$folder/run/log.txt" || fail "log.txt does not say why the run ended"
train run --set train.steps=40 || fail "with room again it does not go on: $(cat "$folder/err")"
diff <(metrics straight | grep '"train"') <(metrics run | grep '"train"') > /dev/null || fail "it ended otherwise"

status=0
(ulimit -f 8 && train small --set train.steps=100 --set log.checkpoint_every=0) || status=$?
failed 'cannot write .*small/metrics.jsonl: File too large' "a full disk in the metrics" "$status"
[[ $(tail -c 2 "$folder/small/metrics.jsonl") == '}' ]] || fail "metrics.jsonl ends in a torn line"

status=0
(ulimit -f 1 && train none) || status=$?
failed 'cannot write .*none/config.json' "a disk with one kilobyte" "$status"

# A run whose checkpoints need more than the tmpfs has after the second.
export folder SLUICE
mounted=(unshare --mount --map-root-user)
if [[ $(id -u) -eq 0 ]]; then mounted=(unshare --mount); fi
mkdir "$folder/tmpfs"
if ! "${mounted[@]}" mount -t tmpfs -o size=64k tmpfs "$folder/tmpfs" 2> /dev/null; then
  echo "skipped: no tmpfs can be mounted here"
  exit 0
fi
size=$(($(du -sk "$folder/run/checkpoints/step_00000040" | cut -f 1) * 5 / 2 + 64))
status=0
"${mounted[@]}" bash -c "
  mount -t tmpfs -o size=${size}k tmpfs '$folder/tmpfs' && cd '$folder/tmpfs' &&
  '$SLUICE' train '$folder/tiny.json' --out run --set log.keep=0 > '$folder/out' 2> '$folder/err'
  echo \$? > '$folder/status'; cp -r run '$folder/from_tmpfs'"
failed 'cannot save the checkpoint run/checkpoints/step_00000015: cannot write .*: No space left on device' \
  "a full tmpfs" "$(cat "$folder/status")"
train from_tmpfs --set log.keep=0 || fail "the run from the tmpfs does not go on: $(cat "$folder/err")"
grep -q 'resumed from .* at step 10' "$folder/out" || fail "not resumed at step 10: $(cat "$folder/out")"
train straight20 --set log.keep=0
same_runs straight20 from_tmpfs
