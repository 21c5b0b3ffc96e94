#!/usr/bin/env python3
"""Writes src/data/unicode_classes.inc: which characters are letters, numbers or blanks (src/data/gpt2_split.cc).

    scripts/make_unicode_table.py > src/data/unicode_classes.inc

Letters and numbers are the general categories L* and N*, blanks the property White_Space. The Unicode version is that of
the package unicodedata2 if it is installed, else Python's own.
"""
import sys

try:
    import unicodedata2 as unicodedata
except ImportError:
    import unicodedata

# White_Space of PropList.txt; unchanged since Unicode 6.3.
BLANKS = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
OTHER, LETTER, NUMBER, BLANK = range(4)


def class_of(character):
    if character in BLANKS:
        return BLANK
    return {"L": LETTER, "N": NUMBER}.get(unicodedata.category(chr(character))[0], OTHER)


entries, last = [], None
for character in range(0x110000):
    if class_of(character) != last:
        last = class_of(character)
        entries.append(f"0x{character * 4 + last:X},")

print(f"// Unicode {unicodedata.unidata_version}, written by scripts/make_unicode_table.py.")
line = ""
for entry in entries:
    if len(line) + 1 + len(entry) > 120:
        print(line)
        line = ""
    line += (" " if line else "") + entry
print(line)
print(f"{len(entries)} ranges", file=sys.stderr)
