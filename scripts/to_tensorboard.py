#!/usr/bin/env python3
"""Runs as TensorBoard event files. Needs nothing but Python; `tensorboard --logdir OUT` shows them.

    scripts/to_tensorboard.py OUT RUN...

Each run becomes OUT/NAME/events.out.tfevents.sluice, written anew each time: a run that goes on can be converted again.
An event file is a row of records (length, masked CRC-32C of it, data, masked CRC-32C of it), and each record an `Event`
in protocol buffers' encoding, of which the three fields used here are written by hand.
"""
import argparse
import datetime
import struct
from pathlib import Path

from sluice_metrics import Run, tag

CRC_TABLE = []
for number in range(256):
    for _ in range(8):
        number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)  # Castagnoli's polynomial, reflected
    CRC_TABLE.append(number)


def masked_crc(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(data):
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, data):
    """A length-delimited field: a string or a message."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def event(wall_time, step=0, file_version=None, scalars=()):
    out = b"\x09" + struct.pack("<d", wall_time) + b"\x10" + varint(step)
    if file_version:
        out += field(3, file_version.encode())
    # Summary.Value: 1 the tag, 2 the value as a float.
    values = [field(1, name.encode()) + b"\x15" + struct.pack("<f", value) for name, value in scalars]
    return record(out + (field(5, b"".join(field(1, value) for value in values)) if values else b""))


def start_of(info):
    try:
        start = datetime.datetime.strptime(info.get("started", ""), "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return 0.0
    return start.replace(tzinfo=datetime.timezone.utc).timestamp()


def convert(run, out):
    """Times are not in the metrics: steps are spread evenly over what the run took."""
    start, seconds = start_of(run.info), run.info.get("seconds", 0)
    steps = max(1, run.info.get("steps_done", 0))
    scalars = {}  # by step
    for step, kind, layer, head, name, value in run.values():
        scalars.setdefault(step, []).append((tag(kind, layer, head, name), value))
    folder = Path(out) / run.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "events.out.tfevents.sluice"
    with open(path, "wb") as file:
        file.write(event(start, file_version="brain.Event:2"))
        for step in sorted(scalars):
            file.write(event(start + seconds * step / steps, step, scalars=scalars[step]))
    print(f"{path}: {sum(map(len, scalars.values()))} values")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("runs", nargs="+")
    args = parser.parse_args()
    for run in args.runs:
        convert(Run(run), args.out)


if __name__ == "__main__":
    main()
