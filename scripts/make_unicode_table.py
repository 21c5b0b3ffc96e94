#!/usr/bin/env python3
"""Writes the tables that tokenizers look characters up in. The first three are of Unicode 16, as are the libraries
`tokenizers` and `tiktoken`: `pip install unicodedata2==16.0.0`. The last two are what `tokenizers` (0.23; it must be
installed) does, whose tables for BERT are of several versions of Unicode.

    scripts/make_unicode_table.py classes > src/data/splitting/unicode_classes.inc
    scripts/make_unicode_table.py newer > src/data/splitting/unicode_newer.inc
    scripts/make_unicode_table.py late_marks > src/data/splitting/unicode_late_marks.inc
    scripts/make_unicode_table.py bert > src/data/splitting/bert_classes.inc
    scripts/make_unicode_table.py bert_lowercase > src/data/splitting/bert_lowercase.inc

classes: which characters are letters, numbers or blanks (src/data/splitting/gpt2_split.cc). Letters and numbers are the general
categories L* and N*, blanks the property White_Space.

newer: which characters have come or changed since Unicode 14, that of Python 3.11 and of PCRE2 10.42, and for each an
older one of the same category and length in UTF-8 (src/data/splitting/expression.cc).

late_marks: which marks the NFC of the library `tokenizers` (0.23; it must be installed) does not know (src/data/splitting/nfc.cc).

bert: which characters BERT's cleaning removes, which are marks that are stripped, which are punctuation
(src/data/splitting/bert_text.cc).

bert_lowercase: which characters have got a small letter since Unicode 15, and how far from them it is (the same file).
"""
import sys
import unicodedata as python_unicodedata

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


def print_entries(entries, source=f"Unicode {unicodedata.unidata_version}"):
    print(f"// {source}, written by scripts/make_unicode_table.py.")
    line = ""
    for entry in entries:
        if len(line) + 1 + len(entry) > 120:
            print(line)
            line = ""
        line += (" " if line else "") + entry
    print(line)
    print(f"{len(entries)} ranges", file=sys.stderr)


def print_classes():
    entries, last = [], None
    for character in range(0x110000):
        if class_of(character) != last:
            last = class_of(character)
            entries.append(f"0x{character * 4 + last:X},")
    print_entries(entries)


# An old character of each category: one of three bytes in UTF-8, one of four.
OLD = {"Lo": (0xA000, 0x10280), "Lu": (0x1E00, 0x10400), "Ll": (0x1E01, 0x10428), "Lm": (0x1D2C, 0x16B40),
       "Mn": (0x1AB0, 0x10A01), "Mc": (0x0903, 0x11000), "Po": (0x2016, 0x10100), "Pd": (0x2010, 0x10EAD),
       "Sm": (0x2200, 0x1D6C1), "So": (0x2300, 0x1F300), "Nd": (0x0966, 0x1D7CE), "No": (0x2460, 0x10107),
       "Cf": (0x200B, 0xE0001)}
OLD_HAN = 0x20000


def stand_in(character):
    category = unicodedata.category(chr(character))
    if unicodedata.name(chr(character), "").startswith("CJK UNIFIED IDEOGRAPH"):
        return OLD_HAN
    like = OLD[category][character >= 0x10000]
    assert python_unicodedata.category(chr(like)) == category
    assert len(chr(like).encode()) == len(chr(character).encode())
    return like


def print_newer():
    assert python_unicodedata.unidata_version == "14.0.0", "run this with Python 3.11"
    ranges = []
    for character in range(0x110000):
        if unicodedata.category(chr(character)) == python_unicodedata.category(chr(character)):
            continue
        like = stand_in(character)
        if ranges and ranges[-1][1] == character - 1 and ranges[-1][2] == like:
            ranges[-1][1] = character
        else:
            ranges.append([character, character, like])
    print_entries([f"{{0x{first:X}, 0x{last:X}, 0x{like:X}}}," for first, last, like in ranges])


def print_late_marks():
    from tokenizers import normalizers

    def nfc_differs(text):
        return normalizers.NFC().normalize_str(text) != unicodedata.normalize("NFC", text)

    late = set()
    for character in range(0x110000):
        if 0xD800 <= character < 0xE000:
            continue
        text = chr(character)
        order = unicodedata.combining(text)
        # Beside a mark that it must change places with: U+0334 of order 1, or U+0345 of order 240.
        if order and nfc_differs("x" + text + "\u0334" if order >= 240 else "x\u0345" + text):
            late.add(character)
        parts = unicodedata.normalize("NFD", text)
        if parts != text and nfc_differs(parts):
            late.add(ord(parts[-1] if parts[-1] > "\uffff" else parts[0]))  # the one that is late
    ranges = []
    for character in sorted(late):
        if ranges and ranges[-1][1] == character - 1:
            ranges[-1][1] = character
        else:
            ranges.append([character, character])
    print_entries([f"{{0x{first:X}, 0x{last:X}}}," for first, last in ranges])


CHARACTERS = [character for character in range(0x110000) if not 0xD800 <= character < 0xE000]


def print_bert():
    import tokenizers
    clean = tokenizers.normalizers.BertNormalizer(True, False, False, False)
    strip = tokenizers.normalizers.BertNormalizer(False, False, True, False)
    divide = tokenizers.pre_tokenizers.BertPreTokenizer()
    entries, last = [], None
    for character in CHARACTERS:
        text = chr(character)
        removed, mark = clean.normalize_str(f"a{text}b") == "ab", strip.normalize_str(text) == ""
        punctuation = len(divide.pre_tokenize_str(f"a{text}b")) == 3
        assert removed + mark + punctuation < 2
        this = 1 if removed else 2 if mark else 3 if punctuation else 0
        if this != last:
            last = this
            entries.append(f"0x{character * 4 + last:X},")
    print_entries(entries, f"What tokenizers {tokenizers.__version__} does")


def print_bert_lowercase():
    import tokenizers
    assert python_unicodedata.unidata_version <= "15.1.0", "run this with Python 3.11 or 3.12"
    lower, ranges = tokenizers.normalizers.BertNormalizer(False, False, False, True), []
    for character in CHARACTERS:
        small = lower.normalize_str(chr(character))
        if small == chr(character).lower():
            continue
        distance = ord(small) - character
        if ranges and ranges[-1][1] == character - 1 and ranges[-1][2] == distance:
            ranges[-1][1] = character
        else:
            ranges.append([character, character, distance])
    print_entries([f"{{0x{first:X}, 0x{last:X}, {distance}}}," for first, last, distance in ranges],
                  f"What tokenizers {tokenizers.__version__} does")


assert unicodedata.unidata_version == "16.0.0", "the tables are of Unicode 16: pip install unicodedata2==16.0.0"
{"classes": print_classes, "newer": print_newer, "late_marks": print_late_marks, "bert": print_bert,
 "bert_lowercase": print_bert_lowercase}[sys.argv[1]]()
