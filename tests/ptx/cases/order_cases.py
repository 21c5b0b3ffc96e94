"""window_order.cu: the order of rows in a permutation's slots, rows by their numbers; attention in such an order."""

import numpy as np

from case import GAPS, STORAGES, WHOLE, Rows, cases
from cases.attention_cases import CLASSES, SCORES, Attention, Shape, run_and_check
from device import ELEMENT, ROWS, pack, rows
from philox import philox

PLACE, FIRST, BEGIN, END, LENGTH, ROW, SLOT = range(7)


# ---- base/permutation.h

def place_of(seed, stream, size, slot):
    """Six rounds of a Feistel network on two halves of as few bits as hold `size`, again until it falls inside."""
    bits = max(1, ((size - 1).bit_length() + 1) // 2)
    while True:
        left, right = slot >> bits, slot & (2**bits - 1)
        for turn in range(6):
            left, right = right, left ^ (philox(seed, stream, turn << 32 | right)[0] & (2**bits - 1))
        slot = left << bits | right
        if slot < size:
            return slot


# ---- orders


def documents(B, T, random):
    """[B, T]: where the document of each place begins."""
    first = np.zeros((B, T), np.int64)
    for b in range(B):
        for cut in np.sort(random.choice(np.arange(1, T), min(3, T - 1), replace=False)):
            first[b, cut:] = cut
    return first


def order_of(slots, first, reach):
    """[7, T] for the tokens of one sequence, whose slots these are, by place."""
    T = len(slots)
    place = np.argsort(slots)
    by_row, found = slots[place], np.zeros((7, T), np.int64)
    near = np.abs(by_row[:, None] - by_row[None, :]) < reach
    found[PLACE], found[FIRST], found[SLOT] = place, first[place], slots
    found[ROW, place] = np.arange(T)
    found[BEGIN], found[END] = near.argmax(1), T - near[:, ::-1].argmax(1)
    found[LENGTH] = visible_in(found, near).sum(1)
    return found


def visible_in(order, near):
    """[T, T]: what each row sees of those near it: its document, up to its own place."""
    place = order[PLACE]
    return near & (place[None] <= place[:, None]) & (place[None] >= order[FIRST][:, None])


# T, slots, reach.
@cases("window order", ((37, 37, 5), (70, 301, 40), (300, 300, 64), (1, 1, 3), (9, 1000, 1000)), ("whole", "documents"))
def window_order(device, sizes, what):
    (T, slots, reach), B = sizes, 2
    seed, stream = 2**40 + 7, (11 << 32) + 3
    first = documents(B, T, device.random) if what == "documents" and T > 1 else np.zeros((B, T), np.int64)
    first_key = device.given(first, "i32") if what == "documents" else None
    order = device.room((7, B * T), "i32")
    target = pack("Pqq", order, B * T, T)
    device.launch("window_order", "slots_kernel", -(-slots // 256), 256, pack("QQQ", seed, stream, slots), target)
    device.launch("window_order", "rows_kernel", -(-B * T // 256), 256, first_key, reach, target)
    if device.dry:
        return
    places = np.array([place_of(seed, stream, slots, slot) for slot in range(slots)])
    device.equal("a permutation", np.sort(places), np.arange(slots))
    own = np.argsort(places)[:T]
    want = np.concatenate([order_of(own, first[b], reach) for b in range(B)], 1)
    names = ("places", "first places", "begins", "ends", "lengths", "rows", "slots")
    for name, got, plane in zip(names, order.values(), want):
        device.equal(name, got, plane)


# Rows of a sequence that are taken, that there are, columns. Where no row is named there are zeros.
@cases("gather rows", STORAGES, ((12, 12, 40), (7, 20, 37), (20, 3, 300)))
def gather_rows(device, storage, sizes):
    (taken, there, C), B = sizes, 2
    layout = WHOLE if C % 8 == 0 else GAPS
    x = Rows(device, layout, storage, rows=B * there, cols=C).given()
    out = Rows(device, layout, storage, rows=B * taken, cols=C).room()
    index = device.random.integers(-1, there, (B, taken))
    index[0, 0] = -1
    places = pack(ROWS, *rows(out)), pack(ROWS, *rows(x))
    name = f"gather_kernel<{ELEMENT[storage]}>"
    device.launch("gather_rows", name, B * taken, 256, *places, device.given(index, "i32"), taken, there, C)
    if not device.dry:
        of_all = [np.where(index[b, :, None] < 0, 0, x.exact[b * there + index[b]]) for b in range(B)]
        device.equal("out", out.values(), np.concatenate(of_all))


# ---- attention


class Ordered(Attention):
    """Rows in the order of random slots, of which there are more than tokens; a row sees those less than `reach` away."""

    def __init__(self, device, score, storage, shape, docs, reach):
        super().__init__(device, score, storage, shape)
        B, T = shape.B, shape.T
        first = documents(B, T, device.random) if docs else np.zeros((B, T), np.int64)
        slots = [device.random.permutation(T + T // 2)[:T] for _ in range(B)]
        self.planes = np.stack([order_of(slots[b], first[b], reach) for b in range(B)])
        self.near = [np.abs(np.subtract.outer(np.sort(s), np.sort(s))) < reach for s in slots]
        self.order = device.given(self.planes.transpose(1, 0, 2).reshape(7, B * T), "i32")

    def visible(self, b):
        return visible_in(self.planes[b], self.near[b])

    def check_probe(self):
        """Of the first row of its document, where it sees that: its weight, and how far it stands above all others."""
        B, T, H, skip = self.shape.B, self.shape.T, self.shape.H, int(self.shape.slot)
        weight, gap = np.zeros((B, H, T)), np.zeros((B, H, T))
        for b, h, head in self.heads():
            seen = self.visible(b)
            for i in range(T):
                start = self.planes[b, ROW, self.planes[b, FIRST, i]]
                if not seen[i, start]:
                    continue
                weight[b, h, i] = head.p[i, start + skip]
                others = [j for j in np.flatnonzero(seen[i]) if j not in (i, start)]
                if others:
                    gap[b, h, i] = head.s[i, start + skip] - head.s[i, np.array(others) + skip].mean()
        self.device.close("sink_attention", self.weight, weight, 64)
        self.device.close("sink_logit_gap", self.gap, gap, 64)


def ordered_quick(score, storage, size):
    """Some in different tiles."""
    return (score, storage, size) in (("Softmax", "f32", 32), ("ReluScore", "f32", 16), ("Softmax", "bf16", 64))


@cases("attention in an order", SCORES, STORAGES, CLASSES, quick=ordered_quick)
def attention_in_order(device, score, storage, size):
    index = list(SCORES).index(score) + CLASSES.index(size)
    D, gap = (size, 8) if index % 2 else (size - 3, 3)
    shape = Shape(1 + index % 2, 133 if index % 3 == 0 else 75, 2, 2 - index % 2, D, D if index % 4 else max(D // 2, 8))
    docs, reach = index % 3 != 2, (40, 90, 17)[index % 3]
    run_and_check(Ordered(device, score, storage, shape._replace(slot=index % 4 == 1, gap=gap), docs, reach))
