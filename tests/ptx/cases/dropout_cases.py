"""dropout.cu, and attention whose weights are dropped."""

import numpy as np

from case import LAYOUTS, STORAGES, Rows, cases, map_launch
from cases.attention_cases import CLASSES, SCORES, Attention, Shape, run_and_check
from device import ELEMENT, ROWS, pack, rows, vectors
from philox import Mask


@cases("dropout", STORAGES, LAYOUTS)
def dropout(device, storage, layout):
    B, T = 2, 5
    make = Rows(device, layout, storage, rows=B * T)
    x, out = make.given(), make.room()
    mask = Mask(device.random, B, 7, 0.3)
    keys = device.given(mask.keys.view(np.int32), "i32")
    struct = pack(2 * ROWS + "PqQIf?", *rows(out), *rows(x), keys, T, mask.stream(), mask.below, mask.scale, vectors(x, out))
    map_launch(device, "dropout", f"Drop<{ELEMENT[storage]}>", make.rows, make.cols, struct)
    if device.dry:
        return
    kept = np.concatenate([mask.factors(b, 0, T, make.cols) for b in range(B)])
    device.equal("dropped", out.values() == 0, kept == 0)
    device.close("out", out, x.exact * kept, 2)


OPTIONS = ({"docs": True}, {"slot": True, "sides": True}, {"window": 23, "slot": True, "gap": 3}, {"sides": True})


def options_of(score, storage, size):
    return (list(SCORES).index(score) + CLASSES.index(size) + (storage == "f32")) % len(OPTIONS)


def is_quick(score, storage, size):
    """Each option once in each storage."""
    return score == "Softmax" and size in (16, 32, 64, 128)


@cases("attention with dropout", SCORES, STORAGES, CLASSES, quick=is_quick)
def attention_dropout(device, score, storage, size):
    shape = Shape(2, 70, 2, 1, size, size, **OPTIONS[options_of(score, storage, size)])
    run_and_check(Attention(device, score, storage, shape, Mask(device.random, shape.B, 3, 0.25)))
