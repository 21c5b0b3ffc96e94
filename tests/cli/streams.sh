#!/usr/bin/env bash
# Standard streams that are closed, full, or whose reader goes away: a run trains on and ends as ever; a command whose
# product they are fails with one sentence; an error message that cannot be told changes no exit code.
set -euo pipefail
source tests/cli/tiny_run.bash

# ends CODE WHAT COMMAND: by a shell of its own, for redirections.
ends() {
  local status=0
  bash -c "$3" || status=$?
  [[ $status -eq $1 ]] || fail "$2: exit code $status instead of $1"
}
export SLUICE folder
cd "$folder"

# ---- errors and standard error ---------------------------------------------------------------------------------------
for stderr in '2>&-' '2>/dev/full'; do
  ends 2 "a missing config, $stderr" "\"\$SLUICE\" config none.json $stderr"
  ends 2 "no arguments, $stderr" "\"\$SLUICE\" $stderr"
  ends 2 "a wrong key, $stderr" "\"\$SLUICE\" train tiny.json --set train.steps=-1 $stderr"
  ends 0 "nothing is wrong, $stderr" "\"\$SLUICE\" config tiny.json > /dev/null $stderr"
done

# ---- products on standard output -------------------------------------------------------------------------------------
for stdout in '>&-' '>/dev/full'; do
  for command in 'config tiny.json' 'config --schema' '--version' 'train --help'; do
    ends 1 "$command $stdout" "\"\$SLUICE\" $command $stdout 2> err"
    [[ $(wc -l < err) -eq 1 ]] && grep -q 'cannot write to the standard output: ' err || fail "$command $stdout: $(cat err)"
  done
done
(ulimit -f 0 && "$SLUICE" config --schema > file 2> /dev/null) && fail "a file of no bytes took the schema"
status=0
(ulimit -f 1 && "$SLUICE" config --schema > file) 2> err || status=$?
[[ $status -eq 1 ]] && grep -q 'cannot write to the standard output: File too large' err || fail "ulimit -f: $status, $(cat err)"
"$SLUICE" config --reference 2> err | head -n 1 > /dev/null || true
[[ ! -s err ]] || fail "config | head says: $(cat err)"

# ---- training --------------------------------------------------------------------------------------------------------
# trained RUN WHAT: it is what a run with a console is.
trained() {
  same_runs straight "$1"
  [[ $(cat "$1/lock") =~ ^[0-9]+$ ]] || fail "$2: the lock holds $(head -c 200 "$1/lock")"
  [[ $(grep -c 'done: 20 steps' "$1/log.txt") -eq 1 ]] || fail "$2: log.txt does not say once that it is done"
  [[ $(wc -l < "$1/log.txt") -eq $(wc -l < straight/log.txt) ]] || fail "$2: log.txt has other lines than with a console"
}
train straight
number=0
for streams in '>&-' '2>&-' '<&- >&- 2>&-' '>/dev/full 2>&1' '<&-'; do
  number=$((number + 1))
  ends 0 "train $streams" "exec > out 2> err; exec \"\$SLUICE\" train tiny.json --out run$number $streams"
  trained "run$number" "train $streams"
done

mkfifo pipe
status=0
head -n 1 < pipe > /dev/null &
"$SLUICE" train tiny.json --out head > pipe 2>&1 || status=$?
wait $!
[[ $status -eq 0 ]] || fail "train | head: exit code $status"
trained head "train | head"

# Ctrl-C ends tee too: the reader is gone when the run says that it stops.
sleep 1000 < pipe &
reader=$!
"$SLUICE" train tiny.json --out tee --set train.steps=100000000 --set log.eval_every=1 > pipe 2>&1 &
run=$!
for _ in $(seq 600); do [[ $(train_lines tee) -lt 3 ]] || break; sleep 0.05; done
kill "$reader"
wait "$reader" 2> /dev/null || true
kill -INT "$run"
status=0
wait "$run" || status=$?
[[ $status -eq 130 ]] || fail "train | tee: exit code $status instead of 130"
[[ $(newest tee) == "$(printf 'step_%08d' "$(train_lines tee)")" ]] || fail "train | tee: no checkpoint of its last step"
grep -q '"status": "stopped"' tee/info.json || fail "train | tee: info.json does not say that it was stopped"

# ---- a sweep ---------------------------------------------------------------------------------------------------------
echo '{"name": "two", "base": "tiny.json", "variants": {"softmax": {}, "vga": {"model": {"attention": "vga"}}}, "seeds": [1]}' > two.json
ends 0 "a sweep whose reader is gone" '"$SLUICE" sweep two.json --jobs 2 --out two 2>&1 | true; exit "${PIPESTATUS[0]}"'
ends 0 "a sweep without streams" '"$SLUICE" sweep two.json --out two <&- >&- 2>&-'
[[ -s two/report.html && -s two/table.md ]] || fail "a sweep whose reader is gone writes no report"
"$SLUICE" sweep two.json --jobs 2 --out three --set train.steps=100000000 > out 2>&1 &
run=$!
for _ in $(seq 600); do [[ $(train_lines three/softmax-s1) -lt 3 || $(train_lines three/vga-s1) -lt 3 ]] || break; sleep 0.05; done
kill -HUP "$run"
status=0
wait "$run" || status=$?
[[ $status -eq 129 ]] || fail "a sweep that gets SIGHUP: exit code $status instead of 129: $(cat out)"
for name in softmax-s1 vga-s1; do
  [[ $(newest "three/$name") == "$(printf 'step_%08d' "$(train_lines "three/$name")")" ]] || fail "$name has no checkpoint of its last step"
done

# ---- what may reach a terminal ---------------------------------------------------------------------------------------
# no_escape WHAT FILE...: none has a control character.
no_escape() { if grep -lP '[\x00-\x08\x0b-\x1f\x7f]' "${@:2}"; then fail "$1: a control character comes through"; fi; }
status=0
"$SLUICE" config tiny.json --set $'tra\x1b[31min.steps=3' > out 2> err || status=$?
[[ $status -eq 2 && $(wc -l < err) -eq 1 ]] || fail "a key with a control character: exit code $status: $(cat err)"
no_escape "a config key" err
status=0
"$SLUICE" config $'no\nsuch\x1b]0;title\x07.json' > out 2> err || status=$?
[[ $status -eq 2 && $(wc -l < err) -eq 1 ]] || fail "a path with a newline: exit code $status: $(cat err)"
no_escape "a path" err
cp -r straight $'odd\x1b[2Jname'
sed -i 's/"name": "[^"]*"/"name": "odd\\u001b[2Jname\\nsecond line"/' $'odd\x1b[2Jname/config.json'
"$SLUICE" compare $'odd\x1b[2Jname' straight > out 2> err || fail "compare: $(cat err)"
no_escape "compare" out err
grep -q 'odd\\x1b\[2Jname' out err || fail "compare does not show the name"

if ! command -v python3 > /dev/null; then
  echo "NOT TESTED: the terminal's width and its end, for there is no python3 here"
  exit 0
fi
cat > terminal.py <<'PY'
"""terminal.py COLUMNS CLOSE PROGRAM ARGUMENT...: runs the program on a terminal of so many columns, prints what it shows,
and exits as it does. With CLOSE (seconds) the terminal goes away after so long."""
import fcntl, os, pty, select, struct, sys, termios, time
columns, close, command = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
child, terminal = pty.fork()
if child == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
    os.environ.pop('COLUMNS', None)
    os.execv(command[0], command)
begin, shown = time.time(), b''
while close == 0 or time.time() - begin < close:
    if not select.select([terminal], [], [], 0.1)[0]: continue
    try: block = os.read(terminal, 65536)
    except OSError: break
    if not block: break
    shown += block
os.close(terminal)
status = os.waitpid(child, 0)[1]
sys.stdout.buffer.write(shown)
sys.exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
PY
for columns in 20 50 80; do
  python3 terminal.py "$columns" 0 "$SLUICE" train tiny.json --out "wide$columns" --quiet > out || fail "on a terminal: $(cat out)"
  longest=$(tr '\r' '\n' < out | sed 's/\x1b\[K//' | wc -L)
  [[ $longest -gt 9 && $longest -lt $columns ]] || fail "a line of $longest columns on a terminal of $columns"
done
# The run leads the terminal's session, and so gets SIGHUP; what it writes then goes nowhere.
status=0
python3 terminal.py 80 1.5 "$SLUICE" train tiny.json --out gone --set train.steps=100000000 > out || status=$?
[[ $status -eq 129 ]] || fail "a terminal that goes away: exit code $status instead of 129"
[[ $(newest gone) == "$(printf 'step_%08d' "$(train_lines gone)")" ]] || fail "a terminal that goes away: no checkpoint of the last step"
