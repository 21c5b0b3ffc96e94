#!/usr/bin/env bash
# Hostile and strange files: each reader ends soon, with exit code 2 and one short sentence that names the file. Depth, named
# pipes and folders in the place of files, sizes beyond any machine, names that lead elsewhere, numbers that are none.
set -euo pipefail
source tests/cli/tiny_run.bash

# refuses PATTERN ARGUMENT...: exit code 2 within seconds, one line of at most 5,000 bytes that matches, in our own words.
refuses() {
  local pattern=$1 status=0
  shift
  timeout 20 "$SLUICE" "$@" > "$folder/out" 2> "$folder/err" < /dev/null || status=$?
  local said="$(head -c 3000 "$folder/err")"
  [[ $status -eq 2 ]] || fail "$*: exit code $status instead of 2: $said"
  [[ $(wc -l < "$folder/err") -eq 1 && $(wc -c < "$folder/err") -le 5000 ]] || fail "$*: not one short line: $said"
  grep -qE -e "$pattern" "$folder/err" || fail "$*: \"$pattern\" is not in: $said"
  ! grep -qE 'json.exception|filesystem error|basic_filebuf|std::' "$folder/err" || fail "$*: a library's words: $said"
}

# accepts ARGUMENT...: exit code 0 within seconds; output in $folder/out and $folder/err.
accepts() {
  local status=0
  timeout 20 "$SLUICE" "$@" > "$folder/out" 2> "$folder/err" < /dev/null || status=$?
  [[ $status -eq 0 ]] || fail "$*: exit code $status: $(head -c 3000 "$folder/err")"
}

repeat() { head -c $(($2 * ${#1})) < <(yes "$1" | tr -d '\n'); }
nested() { repeat '[' 100000 && repeat ']' 100000; }

train run --quiet
newest=$folder/run/checkpoints/$(newest run)
checkpoint=${newest#"$folder/run/"}
"$SLUICE" export "$folder/run" "$folder/hf" > /dev/null
printf 'a text of some words\n' > "$folder/text"

# broken NAME FILE: a copy of the run as $folder/NAME whose FILE is the standard input; prints its path.
broken() {
  rm -rf "${folder:?}/$1"
  cp -r "$folder/run" "$folder/$1"
  rm -rf "${folder:?}/$1/$2"
  cat > "$folder/$1/$2"
}

# ---- depth ----------------------------------------------------------------------------------------------------------

deep='200 brackets'
{ printf '{"x":' && nested && printf '}'; } > "$folder/deep.json"
echo '{"base": "deep.json"}' > "$folder/on_deep.json"
{ printf '{"ctx": ' && nested && printf '}\n'; } > "$folder/deep.jsonl"
refuses "deep.json:1:[0-9]+: .*$deep" config "$folder/deep.json"
refuses "deep.json:1:.*$deep" config "$folder/on_deep.json"
refuses "deep.json:1:.*$deep" train "$folder/deep.json" --out "$folder/new"
refuses "deep.json:1:.*$deep" bench "$folder/deep.json"
refuses "deep.json:1:.*$deep" sweep "$folder/deep.json" --list
refuses "--set.*$deep" config "$folder/tiny.json" --set "data.train_shards=$(repeat '[' 1000)"
refuses 'the key has more than 200 parts' config "$folder/tiny.json" --set "$(repeat a. 40000)a=1"
refuses "deep.json:1:.*$deep" tokenizer encode "$folder/text" --tokenizer "$folder/deep.json" --print
refuses 'deep.jsonl, line 1' tokenizer encode "$folder/deep.jsonl" --tokenizer bytes --print
refuses "deep.jsonl, line 1:.*$deep" eval "$folder/run" --hellaswag "$folder/deep.jsonl"
mkdir "$folder/gpt2"
cp "$folder/deep.json" "$folder/gpt2/vocab.json"
touch "$folder/gpt2/merges.txt"
refuses "vocab.json:1:.*$deep" tokenizer encode "$folder/text" --tokenizer "$folder/gpt2" --print

broken deep config.json < "$folder/deep.json"
refuses "deep/config.json:1:.*$deep" compare "$folder/deep"
refuses "deep/config.json is damaged" train "$folder/tiny.json" --out "$folder/deep"
broken deep metrics.jsonl < <(cat "$folder/deep.json" && echo && cat "$folder/run/metrics.jsonl")
refuses "metrics.jsonl: line 1 .*$deep" compare "$folder/deep"
broken deep info.json < "$folder/deep.json"
accepts compare "$folder/deep"
grep -q "info.json is malformed.*$deep" "$folder/err" || fail "no note of info.json: $(head -c 1000 "$folder/err")"
broken deep "$checkpoint/state.json" < "$folder/deep.json"
refuses "state.json:1:.*$deep" sample "$folder/deep/$checkpoint" --tokens 1

rm -rf "$folder/hf_deep" && cp -r "$folder/hf" "$folder/hf_deep"
cp "$folder/deep.json" "$folder/hf_deep/config.json"
refuses "config.json:1:.*$deep" import "$folder/hf_deep" --out "$folder/new"
cp "$folder/hf/config.json" "$folder/hf_deep/config.json"
size=$(stat -c %s "$folder/deep.json")
{ printf "$(printf '\\x%02x' $((size & 255)) $((size >> 8 & 255)) $((size >> 16 & 255)) 0 0 0 0 0)" && cat "$folder/deep.json"; } \
  > "$folder/hf_deep/model.safetensors"
refuses "model.safetensors \(header\):1:.*$deep" import "$folder/hf_deep" --out "$folder/new"
rm "$folder/hf_deep/model.safetensors"
cp "$folder/deep.json" "$folder/hf_deep/model.safetensors.index.json"
refuses "index.json:1:.*$deep" import "$folder/hf_deep" --out "$folder/new"

# ---- pipes, folders, devices ----------------------------------------------------------------------------------------

mkfifo "$folder/pipe"
for kind in pipe gpt2; do
  what=$([[ $kind == pipe ]] && echo 'it is a named pipe, but must be a file' || echo 'it is a folder, but must be a file')
  refuses "$kind(: it is a named pipe, but must be a file| is a folder, and a config is asked for)" config "$folder/$kind"
  refuses "$kind: $what" sweep "$folder/$kind"
  refuses "$kind: $what" train "$folder/tiny.json" --out "$folder/new" --set data.statistics="$folder/$kind"
  refuses "$kind is not a file" analyze "$folder/run" --data "$folder/$kind"
  refuses "$kind: $what" sample "$folder/run" --prompt-file "$folder/$kind"
done
refuses 'pipe: it is a named pipe' tokenizer encode "$folder/text" --tokenizer "$folder/pipe" --print
refuses '/dev/zero: it is a device, but must be a file' config /dev/zero
refuses 'a folder' tokenizer encode "$folder/text" --tokenizer "$folder/tiny.json/" --print || true
for file in config.json metrics.jsonl "$checkpoint/state.json" "$checkpoint/model.safetensors"; do
  for kind in pipe gpt2; do
    rm -rf "$folder/odd" && cp -r "$folder/run" "$folder/odd"
    rm "$folder/odd/$file"
    [[ $kind == pipe ]] && mkfifo "$folder/odd/$file" || mkdir "$folder/odd/$file"
    if [[ $file == checkpoints* ]]; then
      refuses "$(basename "$file")" sample "$folder/odd/$checkpoint" --tokens 1
    else
      status=0
      timeout 20 "$SLUICE" compare "$folder/odd" > "$folder/out" 2> "$folder/err" || status=$?
      [[ $status -le 2 ]] || fail "compare with $file as $kind: exit code $status"
      grep -qE "$(basename "$file")" "$folder/err" || fail "compare with $file as $kind: $(cat "$folder/err")"
    fi
  done
done
for file in config.json model.safetensors; do
  rm -rf "$folder/odd" && cp -r "$folder/hf" "$folder/odd"
  rm "$folder/odd/$file" && mkfifo "$folder/odd/$file"
  refuses "$file: it is a named pipe" import "$folder/odd" --out "$folder/new"
done
# What a shell hands on is read to its end.
accepts config <(cat "$folder/tiny.json")
[[ $(cat "$folder/text" | "$SLUICE" tokenizer encode /dev/stdin --tokenizer bytes --print | wc -w) -eq 21 ]] || fail "a text in a pipe"

# ---- time and size --------------------------------------------------------------------------------------------------

{ printf '{"k0": 0' && seq -f ', "k%.0f": 0' 300000 | tr -d '\n' && printf '}'; } > "$folder/keys.json"
refuses 'keys.json: it has 300001 keys, but a config or sweep has at most 10000' config "$folder/keys.json"
refuses 'keys.json: it has 300001 keys' sweep "$folder/keys.json"
{ printf '{"name": "x", ' && tail -c +2 "$folder/keys.json"; } | broken keys config.json
refuses 'keys/config.json: it has 300002 keys, but a config or sweep has at most 10000' compare "$folder/keys" "$folder/run"
{
  printf '{"step": 20, "sequences": 1, "length": 0, "summary": {}, "layers": [], "heads": [], "residual_norm": [[]],'
  printf ' "curves": [{"layer": 0, "head": 0'
  seq -f ', "k%.0f": []' 300000 | tr -d '\n'
  printf '}]}'
} | broken curves of_others
mkdir -p "$folder/curves/analysis"
mv "$folder/curves/of_others" "$folder/curves/analysis/step_00000020.json"
accepts compare "$folder/curves"
{ printf '{"' && repeat a 5000000 && printf '": 1}'; } > "$folder/long.json"
refuses 'unknown config key a+\.\.\.; the config has "name"' config "$folder/long.json"
{ printf '{"model": "' && repeat b 5000000 && printf '"}'; } > "$folder/long.json"
refuses 'model must be an object, got the string "b+\.\.\."' config "$folder/long.json"
{ printf '{"a": 1, "' && repeat c 5000000 && printf '": 1, "' && repeat c 5000000 && printf '": 1}'; } > "$folder/long.json"
refuses 'the key "c+\.\.\." stands here a second time' config "$folder/long.json"
# Many keys below one that is long: kept each with the group around it they would have 9 GB.
{ printf '{"' && repeat g 1000000 && printf '": {"k0": 0' && seq -f ', "k%.0f": 0' 9000 | tr -d '\n' && printf '}}'; } > "$folder/long.json"
refuses 'long.json: its keys, each written with .* have 9.0 GB' config "$folder/long.json"
refuses 'long.json: its keys, each written with' sweep "$folder/long.json"
broken long config.json < "$folder/long.json"
refuses 'long/config.json: its keys, each written with' compare "$folder/long"
mkdir "$folder/bases"
for i in $(seq 150); do echo "{\"base\": \"$((i + 1)).json\"}" > "$folder/bases/$i.json"; done
refuses 'chain of bases has more than 100 files' config "$folder/bases/1.json"
printf '{"variants": {"a": {}, "b": {}}, "seeds": [%s]}' "$(seq -s , 0 5000)" > "$folder/many.json"
refuses 'many.json: 2 variants with 5001 seeds are 10002 runs, but a sweep has at most 10000' sweep "$folder/many.json"
{ printf '{"variants": {"a": {"data": {"statistics": "' && repeat s 2000000 && printf '"}}}, "seeds": [%s]}' "$(seq -s , 0 999)"; } > "$folder/many.json"
refuses 'many.json: the configs of its 1000 runs have 2.0 GB, but those of a sweep have at most 1.1 GB' sweep "$folder/many.json"
truncate -s 65M "$folder/large.json"
refuses 'large.json: it has more than 67.1 MB, the limit for a JSON file' config "$folder/large.json"
{ printf '{"ctx": "' && repeat d 2000000 && printf '"}\n'; } > "$folder/line.jsonl"
refuses 'line.jsonl, line 1 has more than 1.0 MB, the limit for a line' eval "$folder/run" --hellaswag "$folder/line.jsonl"
{ repeat e 17000000 && echo; } > "$folder/line"
broken long metrics.jsonl < "$folder/line"
refuses 'metrics.jsonl, line 1 has more than 16.8 MB' compare "$folder/long"

for sizes in "model.context=1048576 train.batch=16777216 train.micro_batch=16777216 model.vocab_size=16777216:train.micro_batch" \
             "model.vocab_size=16777216 model.width=65536 model.heads=256 model.layers=1000:model.layers" \
             "model.mlp_width=262144 model.context=1048576 train.batch=16777216 train.micro_batch=16777216:model.mlp_width"; do
  settings=()
  for setting in ${sizes%:*}; do settings+=(--set "$setting"); done
  refuses "this needs .* GiB of memory .* GiB are available: the largest is .*${sizes#*:}" \
    train "$folder/tiny.json" --out "$folder/new" "${settings[@]}"
  [[ ! -e $folder/new ]] || fail "a run that does not fit left a folder"
done

# ---- names and numbers ----------------------------------------------------------------------------------------------

for name in .. . a/b ../a $'a\eb' $'a\nb' $'\xff'; do
  refuses 'name|UTF-8' train "$folder/tiny.json" --set "name=$name"
done
echo '{"variants": {"a": {}}, "name": "../../x"}' > "$folder/out.json"
refuses 'name is "../../x", but it names a folder' sweep "$folder/out.json" --list
long=$(repeat x 300)
refuses "File name too long" config "$folder/$long"
refuses "File name too long" compare "$folder/$long"
refuses "File name too long" sample "$folder/$long"
refuses "File name too long" train "$folder/tiny.json" --out "$folder/$long"
refuses "File name too long" eval "$folder/$long" "$folder/text"
refuses "File name too long" tokenizer encode "$folder/$long" --tokenizer bytes --print
refuses "File name too long" import "$folder/$long" --out "$folder/new"

for bad in nan inf -1 1e400 x ''; do
  refuses '--temperature: must be a number from 0 to 1000' sample "$folder/run" --temperature "$bad"
  refuses '--top-p: must be a number from' sample "$folder/run" --top-p "$bad"
  refuses '--max-document-mb: must be a number from' eval "$folder/run" "$folder/text" --max-document-mb "$bad"
  refuses '--thresholds: must be a number from 0 to 1' analyze "$folder/run" --thresholds "$bad"
  refuses '--percentile: must be a number from' quantize "$folder/run" --percentile "$bad"
  refuses '--sample-mb: must be a number from' tokenizer train "$folder/text" --out "$folder/t.model" --sample-mb "$bad"
done
for bad in -1 18446744073709551616 1.5 x; do
  refuses '--seed: must be an integer of at least 0' sample "$folder/run" --seed "$bad"
  refuses '--seed: must be an integer of at least 0' tokenizer train "$folder/text" --out "$folder/t.model" --seed "$bad"
done
for bad in 0 -1 4611686018427387904 9223372036854775808 1e3; do
  refuses '--batch: must be an integer from 1' eval "$folder/run" "$folder/text" --batch "$bad"
  refuses '--limit: must be an integer from 1' eval "$folder/run" --hellaswag "$folder/text" --limit "$bad"
  refuses '--steps: must be an integer from 1 to 10000' bench "$folder/tiny.json" --steps "$bad"
  refuses '--jobs: must be an integer from 1 to 1024' sweep "$folder/tiny.json" --jobs "$bad"
done
refuses 'of memory .*--batch' eval "$folder/run" "$folder/text" --tokenizer bytes --batch 1048576

# ---- places for results, looked at before the work ------------------------------------------------------------------

refuses '--json .*/nowhere/x.json: cannot write in the folder .*nowhere: No such file' \
  eval "$folder/run" "$folder/text" --json "$folder/nowhere/x.json"
for command in "analyze $folder/run" "quantize $folder/run" "bench $folder/tiny.json" "compare $folder/run"; do
  refuses '--json .*nowhere/x.json: cannot write in the folder' $command --json "$folder/nowhere/x.json"
  refuses '--json .*: this is a folder; name a file' $command --json "$folder/gpt2"
done
refuses '--report .*: cannot write there: .*text is no folder' compare "$folder/run" --json "$folder/first.json" --report "$folder/text/x.html"
[[ ! -e $folder/first.json ]] || fail "one result was written though the other has no place"
accepts compare "$folder/run" --json /dev/null
[[ -c /dev/null ]] || fail "/dev/null was replaced by a file"
