#!/usr/bin/env bash
# scripts/to_tensorboard.py, read back by the format's definition; scripts/plot.py and to_wandb.py where their packages are.
set -euo pipefail
command -v python3 > /dev/null || { echo "python3 is not installed"; exit 77; }

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "$1"; exit 1; }

for seed in 1 2; do
  mkdir -p "$folder/a-s$seed/analysis"
  # What `sluice analyze --save` keeps; it counts in the place of a metrics line of its step.
  echo '{"step": 2, "summary": {"sink_rate": 0.125}, "layers": [{"layer": 1, "output_kurtosis": 3.5}], "heads": []}' \
    > "$folder/a-s$seed/analysis/step_00000002.json"
  echo "{\"name\": \"a-s$seed\", \"seed\": $seed, \"model\": {}}" > "$folder/a-s$seed/config.json"
  echo '{"started": "2026-01-01T00:00:00Z", "seconds": 10.0, "steps_done": 2}' > "$folder/a-s$seed/info.json"
  cat > "$folder/a-s$seed/metrics.jsonl" <<'JSON'
{"kind":"train","step":1,"loss":2.5,"grad_norm":null}
{"kind":"probe","step":2,"layer":0,"head":3,"sink_attention":0.25}
{"kind":"analysis","step":2,"sink_rate":0.5}
{"kind":"train","step":300,"loss":1.5}
{"kind":"tra
JSON
done

python3 scripts/to_tensorboard.py "$folder/tb" "$folder/a-s1" > /dev/null
python3 - "$folder/tb/a-s1/events.out.tfevents.sluice" <<'PYTHON' || fail "the event file is wrong"
import struct, sys
sys.path.insert(0, "tests/python")
from event_fields import fields

def crc32c(data):  # bit by bit
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF

assert crc32c(b"123456789") == 0xE3069283  # the polynomial's check value

def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF

data = open(sys.argv[1], "rb").read()
at, found, versions = 0, [], []
while at < len(data):
    size, = struct.unpack_from("<Q", data, at)
    assert struct.unpack_from("<I", data, at + 8)[0] == masked(data[at:at + 8])
    event = data[at + 12:at + 12 + size]
    assert struct.unpack_from("<I", data, at + 12 + size)[0] == masked(event)
    at += size + 16
    event = dict(fields(event))
    versions += [event[3]] if 3 in event else []
    for _, value in fields(event.get(5, b"")):
        value = dict(fields(value))
        if 2 in value:  # the settings are no curves
            found.append((event[2], value[1].decode(), "nan" if value[2] != value[2] else value[2]))
assert versions == [b"brain.Event:2"], versions
assert found == [(1, "train/loss", 2.5), (1, "train/grad_norm", "nan"), (2, "probe/L0H3/sink_attention", 0.25), (2, "analysis/sink_rate", 0.125),
                 (2, "analysis_layer/L1/output_kurtosis", 3.5), (300, "train/loss", 1.5)], found
PYTHON

# wrong STATUS TEXT COMMAND...: ends with this exit status and one line that has the text.
wrong() {
  local status=0
  "${@:3}" > /dev/null 2> "$folder/err" || status=$?
  [[ $status -eq $1 && $(wc -l < "$folder/err") -eq 1 ]] && grep -qF -- "$2" "$folder/err" ||
    fail "${*:3}: exit status $status instead of $1, or not '$2': $(cat "$folder/err")"
}
tensorboard=(python3 scripts/to_tensorboard.py)
wrong 2 "is no run's folder: it has no metrics.jsonl" "${tensorboard[@]}" "$folder/tb" "$folder"
wrong 2 "nosuch is no run's folder" "${tensorboard[@]}" "$folder/tb" "$folder/a-s1" "$folder/nosuch"
wrong 2 "File exists" "${tensorboard[@]}" "$folder/a-s1/info.json" "$folder/a-s1"
wrong 2 "--interval" "${tensorboard[@]}" "$folder/tb" "$folder/a-s1" --interval 0
cp -r "$folder/a-s1" "$folder/bad"
echo '{"kind":3,"step":1}' >> "$folder/bad/metrics.jsonl"
wrong 2 "metrics.jsonl: line 5 is malformed" "${tensorboard[@]}" "$folder/tb2" "$folder/a-s1" "$folder/bad"
[[ ! -e $folder/tb2 ]] || fail "something was written of wrong input"
"${tensorboard[@]}" "$folder/tb" "$folder/a-s2" | head -n 0 || fail "whoever reads the output goes away: exit status $?"

# Followed until the run is done.
cp -r "$folder/a-s2" "$folder/live"
sed -i '$d' "$folder/live/metrics.jsonl"
"${tensorboard[@]}" "$folder/tb" "$folder/live" --follow --interval 0.02 > "$folder/out" &
follower=$!
for _ in {1..200}; do ! grep -q follows "$folder/out" || break; sleep 0.02; done
echo '{"kind":"train","step":400,"loss":1.25}' >> "$folder/live/metrics.jsonl"
echo '{"status": "done"}' > "$folder/live/info.new" && mv "$folder/live/info.new" "$folder/live/info.json"
wait $follower || fail "following ended with exit status $?"
grep -q "follows $folder/live" "$folder/out" || fail "$(cat "$folder/out")"
losses=$(tr -c '[:print:]' '\n' < "$(echo "$folder"/tb/a-s2*live*/events.out.tfevents.sluice)" | grep -c '^train/loss')
[[ $losses -eq 3 ]] || fail "the new line was not followed: $losses losses"

if python3 -c 'import matplotlib' 2> /dev/null; then
  python3 scripts/plot.py "$folder/figure.pdf" "$folder"/a-s* --panels train.loss probe.sink_attention --head L0
  [[ $(head -c 5 "$folder/figure.pdf") == '%PDF-' ]] || fail "no figure"
  wrong 2 '--panels train.lost: none of the runs has train.lost' python3 scripts/plot.py "$folder/none.pdf" "$folder"/a-s* --panels train.lost
  wrong 2 "a figure's name ends in" python3 scripts/plot.py "$folder/none.xyz" "$folder/a-s1"
  wrong 2 "nothing to draw of probe.sink_attention with --head L7" python3 scripts/plot.py "$folder/none.pdf" "$folder/a-s1" --head L7
  wrong 2 "nosuch is no run's folder" python3 scripts/plot.py "$folder/none.pdf" "$folder/nosuch"
  mkdir "$folder/other"
  cp -r "$folder/a-s1" "$folder/other/a-s1"
  sed -i 's/"model": {}/"model": {"width": 8}/' "$folder/other/a-s1/config.json"
  python3 scripts/plot.py "$folder/figure.svg" "$folder/a-s1" "$folder/other/a-s1" --panels train.loss
  grep -qF "a-s1 ($folder/a-s1)" "$folder/figure.svg" && grep -qF "a-s1 ($folder/other/a-s1)" "$folder/figure.svg" ||
    fail "two runs of one name have one label"
else
  echo "matplotlib is not there: plot.py was not run"
  wrong 2 "plot.py needs matplotlib" python3 scripts/plot.py "$folder/figure.pdf" "$folder/a-s1"
fi

if python3 -c 'import wandb' 2> /dev/null; then
  for _ in 1 2; do python3 scripts/to_wandb.py "$folder/wb" "$folder/a-s1" > /dev/null; done
  ids=$(find "$folder/wb/wandb" -name 'run-*.wandb' | sed 's/.*run-\(.*\).wandb/\1/' | sort | uniq -c)
  [[ $ids =~ ^\ +2\ [0-9a-f]{12}$ ]] || fail "two conversions of one run are not one run: $ids"
else
  wrong 2 'to_wandb.py needs the wandb package: pip install wandb' python3 scripts/to_wandb.py "$folder/wb" "$folder/a-s1"
fi
