"""Philox4x32-10 (Salmon et al. 2011), and what is drawn with it: base/philox.h, kernels/formulas/dropout.h."""

import numpy as np

LOW = 2**32 - 1
DROPOUT, SLOT = 12 << 32, 0xFFFFFFF8


def philox(seed, stream, position):
    """Four words of 32 bits: the counter is position and stream, the key is the seed."""
    counter, key = [position & LOW, position >> 32, stream & LOW, stream >> 32], [seed & LOW, seed >> 32]
    for _ in range(10):
        first, second = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [second >> 32 ^ counter[1] ^ key[0], second & LOW, first >> 32 ^ counter[3] ^ key[1], first & LOW]
        key = [(key[0] + 0x9E3779B9) & LOW, (key[1] + 0xBB67AE85) & LOW]
    return counter


class Mask:
    """What dropout takes away at one place of a model."""

    def __init__(self, random, sequences, place, probability):
        self.keys = random.integers(0, 2**32, (sequences, 2), np.uint32)  # the low word first
        self.place, self.below = place, int(probability * 65536 + 0.5)
        self.scale = 65536 / (65536 - self.below)

    def stream(self, head=0):
        return DROPOUT | head << 48 | self.place

    def of_group(self, sequence, head, row, group):
        """Factors of the eight values of a row."""
        key = int(self.keys[sequence, 1]) << 32 | int(self.keys[sequence, 0])
        words = philox(key, self.stream(head), row << 32 | group)
        bits = np.array([word >> shift & 0xFFFF for word in words for shift in (0, 16)])
        return np.where(bits < self.below, 0, self.scale)

    def factors(self, sequence, head, rows, columns):
        """[rows, columns]"""
        groups = range(-(-columns // 8))
        return np.array([np.concatenate([self.of_group(sequence, head, i, g) for g in groups])[:columns] for i in range(rows)])

    def slots(self, sequence, head, rows):
        """[rows, 1], of the weights on a bias slot."""
        return np.array([[self.of_group(sequence, head, i, SLOT)[0]] for i in range(rows)])
