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

def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at

def fields(data):
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 1:
            value, at = struct.unpack_from("<d", data, at)[0], at + 8
        elif key & 7 == 5:
            value, at = struct.unpack_from("<f", data, at)[0], at + 4
        else:
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
        yield key >> 3, value

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
        found.append((event[2], value[1].decode(), value[2]))
assert versions == [b"brain.Event:2"], versions
assert found == [(1, "train/loss", 2.5), (2, "probe/L0H3/sink_attention", 0.25), (2, "analysis/sink_rate", 0.125),
                 (2, "analysis_layer/L1/output_kurtosis", 3.5), (300, "train/loss", 1.5)], found
PYTHON

status=0
python3 scripts/to_tensorboard.py "$folder/tb" "$folder" 2> "$folder/err" || status=$?
[[ $status -ne 0 ]] && grep -q "is no run's folder: it has no metrics.jsonl" "$folder/err" || fail "a folder that is no run: $(cat "$folder/err")"

if python3 -c 'import matplotlib' 2> /dev/null; then
  python3 scripts/plot.py "$folder/figure.pdf" "$folder"/a-s* --panels train.loss probe.sink_attention --head L0
  [[ $(head -c 5 "$folder/figure.pdf") == '%PDF-' ]] || fail "no figure"
  python3 scripts/plot.py "$folder/none.pdf" "$folder"/a-s* --panels train.lost 2> "$folder/err" && fail "an unknown panel is drawn"
  grep -qx -- '--panels train.lost: none of the runs has train.lost' "$folder/err" || fail "$(cat "$folder/err")"
else
  echo "matplotlib is not there: plot.py was not run"
fi

if ! python3 -c 'import wandb' 2> /dev/null; then
  python3 scripts/to_wandb.py "$folder/wb" "$folder/a-s1" 2> "$folder/err" && fail "it works without wandb"
  grep -qx 'to_wandb.py needs the wandb package: pip install wandb' "$folder/err" || fail "without wandb: $(cat "$folder/err")"
fi
