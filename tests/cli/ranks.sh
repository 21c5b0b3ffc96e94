#!/usr/bin/env bash
# Several ranks under mpirun: the losses of one rank, a run that changes its number of ranks, signals, and every way in which
# ranks can fail: one sentence, the right exit code, and the others end too.
set -euo pipefail
source tests/cli/tiny_run.bash

if ! command -v mpirun > /dev/null; then
  echo "skipped: no mpirun here (openmpi-bin)"
  exit 77
fi
if ! "$SLUICE" doctor --quick | grep -q '✓ MPI'; then
  echo "skipped: this build has no MPI"
  exit 77
fi

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1
export OMPI_MCA_plm_rsh_agent=  # all ranks are here: mpirun must not insist on an ssh
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0  # MPI keeps what it allocates
launch=(mpirun --oversubscribe --bind-to none)

# 8 sequences a step, one at a time: all ranks accumulate.
sed -i 's/"batch": 6, "micro_batch": 4/"batch": 8, "micro_batch": 1/' "$folder/tiny.json"

# ranks COUNT RUN ARGUMENT...: like train, on COUNT ranks.
ranks() {
  local count=$1 run=$2
  shift 2
  "${launch[@]}" -n "$count" "$SLUICE" train "$folder/tiny.json" --out "$folder/$run" "$@" \
    > "$folder/out" 2> "$folder/err"
}

# told CODE PATTERN WHAT STATUS: the run ended with CODE and told one sentence that matches.
told() {
  [[ $4 -eq $1 ]] || fail "$3: exit code $4 instead of $1: $(cat "$folder/out" "$folder/err")"
  [[ $(grep -c '^sluice: ' "$folder/err") -eq 1 ]] || fail "$3: not told once: $(cat "$folder/err")"
  grep -qE "^sluice: $2" "$folder/err" || fail "$3: \"$2\" is not in: $(cat "$folder/err")"
}

losses() { sed -n 's/.*"kind":"train".*"loss":\([0-9.]*\).*/\1/p' "$folder/$1/metrics.jsonl"; }

# same_losses A B: equal steps, and losses near 4 that differ by less than 1e-4: rounding at 5e-7, carried on by the steps.
same_losses() {
  [[ $(losses "$1" | wc -l) -eq $(losses "$2" | wc -l) ]] || fail "$1 and $2 have other steps"
  paste <(losses "$1") <(losses "$2") | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 1e-4) { print NR ": " $0; bad = 1 } }
                                             END { exit bad }' || fail "$1 and $2 have other losses"
}

# ---- the same training ----------------------------------------------------------------------------------------------

long=(--set train.steps=200 --set log.checkpoint_every=0 --set log.probe_every=100 --set train.bucket_mb=0)
train long "${long[@]}" || fail "one rank: $(cat "$folder/err")"
for count in 2 4; do
  for stage in 0 1 2; do
    run=long_${count}_$stage
    ranks "$count" "$run" "${long[@]}" --set "train.zero=$stage" || fail "$run: $(cat "$folder/err")"
    same_losses long "$run"
    [[ $(grep -c 'ranks over MPI' "$folder/out") -eq 1 ]] || fail "not one rank logs: $(cat "$folder/out")"
  done
done
ranks 2 again "${long[@]}" --set train.zero=2 || fail "again: $(cat "$folder/err")"
same_runs long_2_2 again

train one || fail "one rank: $(cat "$folder/err")"
OMP_NUM_THREADS='' ranks 4 four || fail "four ranks: $(cat "$folder/err")"
same_losses one four
grep -qE '4 ranks share [0-9]+ processors: [0-9]+ threads? each' "$folder/out" || fail "threads: $(cat "$folder/out")"

for count in 1 4; do
  ranks 2 "moves$count" --set train.steps=8 --set train.zero=2 || fail "2 ranks: $(cat "$folder/err")"
  ranks "$count" "moves$count" --set train.zero=1 || fail "on to $count ranks: $(cat "$folder/err")"
  grep -q 'resumed from .* at step 8' "$folder/out" || fail "not resumed: $(cat "$folder/out")"
  same_losses one "moves$count"
done

# ---- wrong input ----------------------------------------------------------------------------------------------------

status=0
ranks 3 none || status=$?
told 2 'train.batch is 8, but 3 ranks can only share a multiple of 3 evenly' "a batch of 8 on 3 ranks" "$status"
[[ ! -e $folder/none ]] || fail "a refused run leaves a folder"

status=0
"${launch[@]}" -n 1 "$SLUICE" train "$folder/tiny.json" --out "$folder/none" : \
  -n 1 "$SLUICE" train "$folder/tiny.json" --out "$folder/none" --set train.optimizer.lr=0.5 \
  > "$folder/out" 2> "$folder/err" || status=$?
told 2 'rank 1 has another config than rank 0: train.optimizer.lr is 0.5 there, but 0.0003 on rank 0' "two configs" "$status"

status=0
(RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=localhost MASTER_PORT=29500 train none --set device=cpu) || status=$?
told 2 '2 ranks are asked for \(WORLD_SIZE\).*mpirun' "WORLD_SIZE on the CPU" "$status"
status=0
(RANK=two WORLD_SIZE=2 train none) || status=$?
told 2 '.*RANK' "a RANK that is no number" "$status"

# ---- signals and failures -------------------------------------------------------------------------------------------

# in_background RUN ARGUMENT...: two ranks that train for long; leaves their processes in `pid_of`.
declare -A pid_of
in_background() {
  local run=$1 pid rank
  shift
  "${launch[@]}" -n 2 "$SLUICE" train "$folder/tiny.json" --out "$folder/$run" --set train.steps=100000000 "$@" \
    > "$folder/out" 2> "$folder/err" &
  launcher=$!
  for _ in $(seq 600); do
    if [[ $(train_lines "$run") -ge 7 ]]; then break; fi
    sleep 0.05
  done
  [[ $(train_lines "$run") -ge 7 ]] || fail "$run does not train: $(cat "$folder/out" "$folder/err")"
  for pid in $(cat /proc/"$launcher"/task/*/children); do  # procps need not be there
    rank=$(tr '\0' '\n' < "/proc/$pid/environ" | sed -n 's/^OMPI_COMM_WORLD_RANK=//p')
    if [[ -n $rank ]]; then pid_of[$rank]=$pid; fi
  done
}

# ended: waits for the launcher, for half a minute at most.
ended() {
  for _ in $(seq 300); do
    if ! kill -0 "$launcher" 2> /dev/null; then break; fi
    sleep 0.1
  done
  if kill -0 "$launcher" 2> /dev/null; then
    kill -KILL "${pid_of[@]}" "$launcher" 2> /dev/null || true
    fail "$1: the others do not end: $(cat "$folder/err")"
  fi
  status=0
  wait "$launcher" || status=$?
}

in_background stopped --set train.zero=1
kill -TERM "${pid_of[1]}"
ended "SIGTERM to rank 1"
[[ $status -eq 143 ]] || fail "SIGTERM to rank 1: exit code $status: $(cat "$folder/out" "$folder/err")"
grep -q 'stopped by SIGTERM after a checkpoint' "$folder/out" || fail "SIGTERM: $(cat "$folder/out")"
last=$(train_lines stopped)
[[ $(newest stopped) == "$(printf 'step_%08d' "$last")" ]] || fail "$(newest stopped) is not step $last"
train stopped --set "train.steps=$((last + 5))" || fail "after SIGTERM: $(cat "$folder/err")"

in_background killed
kill -KILL "${pid_of[1]}"
ended "a killed rank"
[[ $status -ne 0 ]] || fail "a killed rank ends the run with exit code 0"
grep -qE 'rank 1' "$folder/err" || fail "the killed rank is not named: $(cat "$folder/err")"
train killed --set "train.steps=$(($(train_lines killed) + 5))" || fail "after a kill: $(cat "$folder/err")"

in_background hangs --set train.rank_timeout=2
kill -STOP "${pid_of[1]}"
ended "a rank that hangs"
told 1 'rank 1 of 2 died or hangs, at step [0-9]+: no answer within 2 s \(train.rank_timeout\)' "a rank that hangs" "$status"
grep -q '"status": "failed"' "$folder/hangs/info.json" || fail "info.json does not say that the run failed"

ranks 2 full --set train.steps=5 || fail "full: $(cat "$folder/err")"
# Rank 0 may have files a kilobyte smaller than the optimizer's; messages go over TCP then, for shared memory is files too.
limit=$(($(stat -c %s "$folder/full/checkpoints/step_00000005/optimizer.safetensors") / 1024 - 1))
full=("$SLUICE" train "$folder/tiny.json" --out "$folder/full")
status=0
"${launch[@]}" --mca btl tcp,self --mca btl_tcp_if_include lo -n 1 bash -c "ulimit -f $limit; exec \"\$@\"" - "${full[@]}" : \
  -n 1 "${full[@]}" > "$folder/out" 2> "$folder/err" || status=$?
told 1 'cannot save the checkpoint .*step_00000010: cannot write .*; earlier checkpoints are as they were' \
  "a folder that rank 0 cannot write" "$status"
ranks 2 full || fail "with room again: $(cat "$folder/err")"
same_losses one full

# Rank 0 saves after every step, so that the other mostly waits for that, which may take long.
in_background saves --set train.rank_timeout=2 --set log.checkpoint_every=1
kill -STOP "${pid_of[0]}"
ended "a rank 0 that hangs"
[[ $status -ne 0 ]] || fail "a rank 0 that hangs ends the run with exit code 0"
grep -q 'rank 0 of 2 died or hangs' "$folder/err" || fail "rank 0 is not named: $(cat "$folder/err")"

# A rank that is stopped before it has joined the others.
"${launch[@]}" -n 1 "$SLUICE" train "$folder/tiny.json" --out "$folder/start" --set train.rank_timeout=2 : \
  -n 1 bash -c 'kill -STOP $$; exec sleep 60' > "$folder/out" 2> "$folder/err" &
launcher=$! pid_of=()
ended "a rank stopped before its start"
[[ $status -eq 1 ]] || fail "a rank stopped before its start: exit code $status: $(cat "$folder/err")"
grep -q 'sluice: rank 1 (process [0-9]*) of 2 is stopped, at the start: no answer within 2 s' "$folder/err" ||
  fail "the rank stopped before its start is not named: $(cat "$folder/err")"
[[ ! -e $folder/start ]] || fail "a run that did not start leaves a folder"

# A rank that is stopped when all is done, while the others wait for it in the MPI library's own end.
if command -v "${CC:-cc}" > /dev/null && ! grep -q asan <(ldd "$SLUICE"); then
  printf '#include <signal.h>\nint PMPI_Finalize(void);\nint MPI_Finalize(void) { raise(SIGSTOP); return PMPI_Finalize(); }\n' > "$folder/stop.c"
  "${CC:-cc}" -shared -fPIC -o "$folder/stop.so" "$folder/stop.c"
  for rank in 0 1; do
    plain=("$SLUICE" train "$folder/tiny.json" --out "$folder/end$rank" --set train.rank_timeout=1 --set train.steps=2)
    stops=(env "LD_PRELOAD=$folder/stop.so" "${plain[@]}")
    if [[ $rank -eq 0 ]]; then both=(-n 1 "${stops[@]}" : -n 1 "${plain[@]}"); else both=(-n 1 "${plain[@]}" : -n 1 "${stops[@]}"); fi
    "${launch[@]}" "${both[@]}" > "$folder/out" 2> "$folder/err" &
    launcher=$! pid_of=()
    ended "a rank $rank that is stopped at the end"
    [[ $status -eq 1 ]] || fail "a rank $rank that is stopped at the end: exit code $status: $(cat "$folder/err")"
    grep -q "sluice: rank $rank (process [0-9]*) of 2 is stopped, at the end: no answer within 1" "$folder/err" ||
      fail "the rank $rank that is stopped at the end is not named: $(cat "$folder/err")"
    grep -q '"status": "done"' "$folder/end$rank/info.json" || fail "what was done before is not kept"
  done
fi
