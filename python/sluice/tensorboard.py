"""TensorBoard's event files, written by hand.

A file is a row of records (length, masked CRC-32C of it, data, masked CRC-32C of it), and each record an `Event` in protocol
buffers' encoding: of it the wall time, the step, the file's version, summaries and the mark of a new session, after which
TensorBoard drops what it had from that step on.
"""
import math
import struct

CRC_TABLE = []
for number in range(256):
    for _ in range(8):
        number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)  # Castagnoli's polynomial, reflected
    CRC_TABLE.append(number)

LARGEST_FLOAT = 3.4028234663852886e38


def masked_crc(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(data):
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def split_records(content):
    """The records of a file; None if it is none that was written here, or one that ends within a record."""
    records, at = [], 0
    while at < len(content):
        size = int.from_bytes(content[at:at + 8], "little")
        if size > len(content) - at - 16:
            return None
        records.append(content[at:at + 16 + size])
        at += 16 + size
    return records


def without_time(one):
    """A record's event but for its wall time, which comes first."""
    return one[12 + 9:-4]


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, data):
    """A length-delimited field: a string or a message."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def utf8(content):
    """Half a surrogate pair, which JSON can hold and UTF-8 cannot, becomes a question mark."""
    return content.encode("utf-8", "replace")


def double(number, value):
    return varint(number << 3 | 1) + struct.pack("<d", value)


def single(value):
    """A value as float: what is too large for one is infinite, which TensorBoard marks, as it does what is no number."""
    if abs(value) > LARGEST_FLOAT:
        value = math.copysign(math.inf, value)
    return struct.pack("<f", value)


def event(wall_time, step=0, rest=b""):
    return record(double(1, wall_time) + b"\x10" + varint(step) + rest)


def version_event(wall_time):
    return event(wall_time, 0, field(3, b"brain.Event:2"))


def session_event(wall_time, step):
    """What was written for this and later steps no longer holds."""
    return event(wall_time, step, field(7, b"\x08\x01"))


def summary_event(wall_time, step, values):
    return event(wall_time, step, field(5, b"".join(field(1, value) for value in values)))


# ---- Summary.Value: 1 the tag, 2 a float, 8 a tensor, 9 what shows it ------------------------------------------------

def scalar(tag, value):
    return field(1, utf8(tag)) + b"\x15" + single(value)


def text(tag, content):
    tensor = b"\x08\x07" + field(2, field(2, b"\x08\x01")) + field(8, utf8(content))  # strings, of one dimension
    return field(1, utf8(tag)) + field(8, tensor) + field(9, field(1, field(1, b"text")) + b"\x20\x02")


def hyperparameters(settings, start):
    """The session's start for the page of hyperparameters; settings are {name: bool, number or string}."""
    entries = b"".join(field(1, field(1, utf8(name)) + field(2, setting(value))) for name, value in settings.items())
    content = b"\x08\x00" + field(3, entries + double(5, start))
    nothing = b"\x08\x01" + field(2, field(2, b"\x08\x01")) + field(5, struct.pack("<f", 0))
    return (field(1, b"_hparams_/session_start_info") + field(8, nothing) +
            field(9, field(1, field(1, b"hparams") + field(2, content))))


def setting(value):
    if isinstance(value, bool):
        return b"\x20" + bytes([value])
    if isinstance(value, str):
        return field(3, utf8(value))
    try:
        return double(2, value)
    except OverflowError:
        return field(3, utf8(str(value)))
