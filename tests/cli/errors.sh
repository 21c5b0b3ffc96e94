#!/usr/bin/env bash
# Wrong input ends with exit code 2 and one sentence on stderr; nothing goes to stdout.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# expect CODE PATTERN ARGUMENT...
expect() {
  local code=$1 pattern=$2 status=0
  shift 2
  "$SLUICE" "$@" > "$folder/out" 2> "$folder/err" || status=$?
  if [[ $status -ne $code || -s $folder/out || $(wc -l < "$folder/err") -ne 1 ]] || ! grep -qE "$pattern" "$folder/err"; then
    echo "sluice $*: expected exit code $code and \"$pattern\", got $status and:"
    cat "$folder/out" "$folder/err"
    exit 1
  fi
}

echo '{}' > "$folder/fine.json"
config() { echo "$1" > "$folder/config.json"; }

expect 2 'there is no command "trian"; did you mean train\?' trian
expect 2 'there is no option "--bogus"' --bogus
expect 2 'there is no option --sett; did you mean --set\?' train config.json --sett x=1
expect 2 'there is no option --zzzz; try sluice compare --help' compare --zzzz=3 run
expect 2 'there is no option --quik; did you mean --quick\?' doctor --quik
expect 2 'there is no option --vocb; did you mean --vocab\?' tokenizer train text.txt --out t.model --vocb 300
expect 2 'required; try sluice tokenizer train --help' tokenizer train
expect 2 'there is no option --temp; did you mean --temperature\?' sample run --temp 1
expect 2 'did you mean sluice train my.json\?' my.json
expect 2 'not expected: extra; try sluice doctor --help' doctor extra
expect 2 "cannot open $folder/none.json: No such file" config "$folder/none.json"
expect 2 'needs a config file' config

config '{"model": {"layers": 2,}}'
expect 2 'config.json:1:24: not valid JSON' config "$folder/config.json"
config '{"model": {"layer": 2}}'
expect 2 'unknown config key model.layer; did you mean model.layers\?' config "$folder/config.json"
expect 2 "config.json: unknown config key" config "$folder/config.json"
echo "{\"base\": \"config.json\"}" > "$folder/top.json"
expect 2 "$folder/config.json: unknown config key model.layer;" config "$folder/top.json"
expect 2 'sluice: unknown config key model.layer;' config "$folder/fine.json" --set model.layer=2
config '{"model": {"layers": "two"}}'
expect 2 'model.layers must be an integer, got the string "two"' config "$folder/config.json"
config '{"base": "config.json"}'
expect 2 'leads back to itself: .*config.json -> .*config.json' config "$folder/config.json"
config '{}'
expect 2 'train.steps must be an integer, got the string "many"' config "$folder/config.json" --set train.steps=many
expect 2 'takes key=value' config "$folder/config.json" --set train.steps

# A full output device is a failed run, not a silent success.
status=0
"$SLUICE" config --schema > /dev/full 2> "$folder/err" || status=$?
[[ $status -eq 1 ]] && grep -q 'cannot write' "$folder/err"
