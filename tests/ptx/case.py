"""The list of cases, and layouts and launches that many of them share."""

import itertools
from collections import namedtuple

import numpy as np

from device import ROUNDING

# group: what the cases of one function are called together. run(device): launches kernels and compares. quick: whether it
# belongs to the tests that always run.
Case = namedtuple("Case", "group name run quick")
CASES = []
STORAGES = ("f32", "bf16")

# Rows of a multiple of eight elements without gaps, which are read sixteen bytes at a time; and the opposite.
WHOLE, GAPS = "whole", "gaps"
LAYOUTS = (WHOLE, GAPS)


def words_of(choice):
    if not isinstance(choice, tuple):
        return str(choice)
    return ("x" if all(isinstance(part, int) for part in choice) else " ").join(map(words_of, choice))


def cases(name, *choices, quick=lambda *chosen: True):
    """Makes a case of the function for every combination of the choices."""

    def add(run):
        for chosen in itertools.product(*choices):
            words = " ".join([name, *map(words_of, chosen)])
            CASES.append(Case(name, words, lambda device, chosen=chosen: run(device, *chosen), quick(*chosen)))
        return run

    return add


class Rows:
    """Makes tensors of one layout: [rows, cols], or of another width that `gaps` makes odd as well."""

    def __init__(self, device, layout, storage, rows=7, cols=None):
        self.device, self.layout, self.storage, self.rows = device, layout, storage, rows
        self.cols = cols or (40 if layout == WHOLE else 37)

    def place(self, cols):
        return {"stride": None if self.layout == WHOLE else cols + 5, "offset": 0 if self.layout == WHOLE else 1}

    def given(self, cols=None, storage=None, writable=False, scale=1.0, shift=0.0):
        cols = cols or self.cols
        return self.device.normal(
            self.rows, cols, storage or self.storage, writable=writable, scale=scale, shift=shift, **self.place(cols)
        )

    def room(self, cols=None, storage=None):
        cols = cols or self.cols
        return self.device.room((self.rows, cols), storage or self.storage, **self.place(cols))


def map_launch(device, file, op, rows, cols, struct):
    """packs.cuh, map: a thread for every eight elements of a row."""
    packs = -(-cols // 8)
    device.launch(file, f"map_kernel<{op}>", -(-rows * packs // 256), 256, rows, cols, packs, struct)


def add_chunks(device, out, partial, step, chunks, columns, accumulate, second=None):
    """norm.cu: the shares of chunks of rows, in order."""
    device.launch(
        "norm",
        "add_chunks_kernel",
        (-(-columns // 32), 2 if second else 1),
        32 * min(chunks, 8),
        out,
        second,
        partial,
        step,
        chunks,
        columns,
        accumulate,
    )


def close_sums(device, what, tensor, want, magnitude, roundings=64):
    """Sums in fp32, so many roundings off at most of what was added up, `magnitude`; in bf16 they are rounded once more."""
    if tensor.storage == "f32":
        device.close(what, tensor, want, roundings, size=magnitude)
    else:
        fine = roundings * ROUNDING["f32"] / ROUNDING["bf16"]
        device.close(what, tensor, want, 1, size=np.abs(want) + fine * np.asarray(magnitude))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def slope(function, x):
    """The derivative at x, by a complex step."""
    return np.imag(function(x + 1e-30j)) / 1e-30
