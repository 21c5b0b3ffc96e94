#!/usr/bin/env bash
# Wrong input to `sluice train`: exit code 2 and one sentence that names the key, the value and the limit. What was in
# the run's folder before is there afterwards.
set -euo pipefail
source tests/cli/tiny_run.bash

# one_sentence CODE WHAT STATUS: the last command ended with CODE, and said one sentence on stderr.
one_sentence() {
  [[ $3 -eq $1 ]] || fail "$2: exit code $3 instead of $1: $(cat "$folder/out" "$folder/err")"
  [[ $(wc -l < "$folder/err") -eq 1 ]] || fail "$2: not one line on stderr: $(cat "$folder/err")"
}

# refused PATTERN RUN ARGUMENT...: exit code 2, and the sentence matches.
refused() {
  local pattern=$1 status=0
  shift
  train "$@" || status=$?
  one_sentence 2 "train $*" "$status"
  grep -qE -e "$pattern" "$folder/err" || fail "train $*: \"$pattern\" is not in: $(cat "$folder/err")"
}

# refused_anew PATTERN ARGUMENT...: the same for a new run, which leaves no folder behind.
refused_anew() {
  local pattern=$1
  shift
  refused "$pattern" new "$@"
  [[ ! -e $folder/new ]] || fail "train $*: a refused run left $(find "$folder/new")"
}

# What a run has, to compare; the log may grow, the lock holds a process number.
snapshot() { (cd "$folder/$1" && find . -type f ! -name log.txt ! -name lock -exec sha256sum {} + | sort -k 2); }

# ---- the config -----------------------------------------------------------------------------------------------------

refused_anew 'unknown config key model.widht; did you mean model.width\?' --set model.widht=3
refused_anew 'train.batch must be an integer, got the string "many"' --set train.batch=many
refused_anew 'train.batch.* 0.*1' --set train.batch=0
refused_anew 'train.optimizer.lr.* -1' --set train.optimizer.lr=-1
refused_anew 'model.heads = 3 does not divide model.width = 32' --set model.heads=3
refused_anew 'attention.*"vgaa".*did you mean "vga"' --set model.attention=vgaa
refused_anew 'model.vocab_size is 60; set it to 67' --set model.vocab_size=60
refused_anew 'train.schedule.warmup \(20\) must be below train.steps \(20\)' --set train.schedule.warmup=20
refused_anew 'train.attention_backend = "cudnn" needs train.precision = "bf16", but it is fp32' --set train.attention_backend=cudnn
refused_anew 'needs attention without a bias slot, but model.attention has key_bias' \
  --set train.attention_backend=cudnn --set train.precision=bf16 --set model.attention=key_bias
refused_anew 'train.attention_backend is cudnn, but ' --set train.attention_backend=cudnn --set train.precision=bf16 --set device=auto
refused_anew '--resume nowhere: neither "auto", "never" nor a folder' --resume nowhere

echo '{"base": "b.json"}' > "$folder/a.json"
echo '{"base": "a.json"}' > "$folder/b.json"
status=0
"$SLUICE" train "$folder/a.json" --out "$folder/new" > "$folder/out" 2> "$folder/err" || status=$?
one_sentence 2 "a loop of bases" "$status"
grep -q 'leads back to itself: .*a.json -> .*b.json -> .*a.json' "$folder/err" || fail "loop: $(cat "$folder/err")"

# ---- the data -------------------------------------------------------------------------------------------------------

# int32 VALUE, uint16 VALUE: little-endian bytes.
int32() { printf "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)))"; }
uint16() { printf "$(printf '\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)))"; }
# shard FILE TOKEN...
shard() {
  local file=$1 token
  shift
  {
    int32 20240520
    int32 1
    int32 $#
    head -c $((253 * 4)) /dev/zero
    for token in "$@"; do uint16 "$token"; done
  } > "$file"
}
# Its own file: the keys of another data type do not belong here.
sed 's|"data":  {.*},|"data": {"type": "tokens", "train_shards": ["SHARD"]},|; s|"probe_every": 10|"probe_every": 0|;
     s|"map_positions": 8|"map_positions": 0|' "$folder/tiny.json" > "$folder/tokens_template.json"
# refused_shard PATTERN FILE
refused_shard() {
  local status=0
  sed "s|SHARD|$2|" "$folder/tokens_template.json" > "$folder/tokens.json"
  "$SLUICE" train "$folder/tokens.json" --out "$folder/new" > "$folder/out" 2> "$folder/err" || status=$?
  one_sentence 2 "the shard $2" "$status"
  grep -qE "$1" "$folder/err" || fail "the shard $2: \"$1\" is not in: $(cat "$folder/err")"
  [[ ! -e $folder/new ]] || fail "the shard $2: a refused run left $(find "$folder/new")"
}

shard "$folder/good.bin" $(seq 0 66)
shard "$folder/beyond.bin" $(seq 1 67)
head -c 1100 "$folder/good.bin" > "$folder/cut.bin"
head -c 100 "$folder/good.bin" > "$folder/stub.bin"
tr '\0' '\1' < "$folder/good.bin" > "$folder/other.bin"
shard "$folder/short.bin" 1 2 3
refused_shard 'data.train_shards: cannot open .*none.bin: No such file' "$folder/none.bin"
refused_shard 'data.train_shards: no file matches .*none' "$folder/none*"
refused_shard 'cut.bin is truncated: its header counts 67 tokens, which makes 1158 bytes, but it has 1100' "$folder/cut.bin"
refused_shard 'stub.bin is truncated: 100 bytes' "$folder/stub.bin"
refused_shard 'other.bin is' "$folder/other.bin"
refused_shard 'beyond.bin has token id 67 at position 66, but model.vocab_size is 67' "$folder/beyond.bin"
refused_shard 'none holds one window of model.context \+ 1 = 33 tokens' "$folder/short.bin"
sed "s|SHARD|$folder/good.bin|" "$folder/tokens_template.json" > "$folder/tokens.json"
"$SLUICE" train "$folder/tokens.json" --out "$folder/tokens" > "$folder/out" || fail "the good shard is refused"

# ---- the run's folder -----------------------------------------------------------------------------------------------

train run || fail "a good run failed: $(cat "$folder/err")"
before=$(snapshot run)
unchanged() { [[ $(snapshot run) == "$before" ]] || fail "$1 changed the run: $(diff <(echo "$before") <(snapshot run))"; }

refused 'run holds another experiment .*model.mlp is "relu", but "gelu" is asked for.*--out' run --set model.mlp=gelu
unchanged "another experiment"
refused 'seed is 42, but 43 is asked for' run --set seed=43
unchanged "another seed"
refused 'is of another model: model.attention' other --set model.attention=sigmoid --resume "$folder/run"
[[ ! -e $folder/other ]] || fail "a fork that was refused left $(find "$folder/other")"
mkdir "$folder/empty"
refused 'empty: no checkpoint in it' other2 --resume "$folder/empty"
unchanged "a resume from another folder"

echo text > "$folder/file"
refused 'file is a file, but a run needs a folder.*--out' file
[[ $(cat "$folder/file") == text ]] || fail "a file was overwritten"

# A read-only folder. Permissions do not bind root, who becomes another user, or writes where nobody can.
status=0
"$SLUICE" train "$folder/tiny.json" --out /proc/sluice > "$folder/out" 2> "$folder/err" || status=$?
one_sentence 2 "a folder in /proc" "$status"
grep -q '/proc/sluice' "$folder/err" || fail "/proc/sluice is not named: $(cat "$folder/err")"
as_user=()
if [[ $(id -u) -eq 0 ]]; then
  as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
  chown -R 65534:65534 "$folder/run"
fi
chmod 755 "$folder"
cp "$SLUICE" "$folder/sluice"
# train_in_read_only PLACE: goes on with the run, in which PLACE cannot be written.
train_in_read_only() {
  status=0
  chmod 555 "$folder/$1"
  "${as_user[@]}" "$folder/sluice" train "$folder/tiny.json" --out "$folder/run" --set train.steps=30 \
    > "$folder/out" 2> "$folder/err" || status=$?
  chmod 755 "$folder/$1"
}
if "${as_user[@]}" "$folder/sluice" --version > /dev/null 2>&1; then
  train_in_read_only run
  one_sentence 2 "a read-only folder" "$status"
  grep -qE "cannot .*$folder/run/.*: Permission denied" "$folder/err" || fail "read-only folder: $(cat "$folder/err")"
  unchanged "a read-only folder"
  checkpoints=$(snapshot run/checkpoints)
  train_in_read_only run/checkpoints
  one_sentence 1 "a read-only checkpoints folder" "$status"
  grep -qE 'cannot save the checkpoint .*: Permission denied.*earlier checkpoints are as they were' "$folder/err" ||
    fail "read-only checkpoints: $(cat "$folder/err")"
  [[ $(snapshot run/checkpoints) == "$checkpoints" ]] || fail "a failed save changed the checkpoints"
else
  echo "skipped: no other user can run the program here"
fi

# ---- damaged checkpoints --------------------------------------------------------------------------------------------

# flip RUN STEP FILE: inverts the last byte but 99.
flip() {
  local file offset byte
  file=$(printf '%s/checkpoints/step_%08d/%s' "$folder/$1" "$2" "$3")
  offset=$(($(stat -c %s "$file") - 100))
  byte=$(od -An -tu1 -j "$offset" -N 1 "$file")
  printf "$(printf '\\x%02x' $((byte ^ 255)))" | dd of="$file" bs=1 seek="$offset" conv=notrunc status=none
}

for file in model.safetensors optimizer.safetensors state.json; do
  cp -r "$folder/run" "$folder/damaged"
  flip damaged 20 "$file"
  train damaged --set train.steps=30 || fail "a damaged newest checkpoint ends the run: $(cat "$folder/err")"
  grep -q "step_00000020/$file" "$folder/out" || fail "the damaged $file is not reported: $(cat "$folder/out")"
  grep -q 'resumed from .*step_00000015 at step 15' "$folder/out" || fail "not from 15: $(cat "$folder/out")"
  [[ $(train_lines damaged) -eq 30 ]] || fail "$(train_lines damaged) train lines instead of 30"
  rm -r "$folder/damaged"
done

train run || fail "the run cannot be taken up again: $(cat "$folder/err")"
flip run 20 model.safetensors
flip run 15 optimizer.safetensors
before=$(snapshot run)
refused 'none of the 2 checkpoints is whole; the newest: .*step_00000020/model.safetensors is damaged' run
unchanged "a run without a whole checkpoint"
