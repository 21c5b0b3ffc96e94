"""The interpreter itself: kernels of faults.cu with a fault each, which must be named, and some without one."""

import numpy as np

import arithmetic
from case import cases
from device import Wrong
from memory import Fault

# Kernel, how it is launched, and what the fault's message must say; "" where there is none.
FAULTS = (
    ("exchange_warps<true>", "in and out", ""),
    ("exchange_warps<false>", "in and out", "race, read after write"),
    ("exchange_lanes<true>", "in and out", ""),
    ("exchange_lanes<false>", "in and out", "race, read after write"),
    ("overwrite<true>", "in and out", ""),
    ("overwrite<false>", "in and out", "race, write after read"),
    ("bytes<1>", "in and out", ""),
    ("bytes<2>", "in and out", "lanes write one place at once"),
    ("between_blocks", "two blocks", "race"),
    ("shifted", ("row", 0), ""),
    ("shifted", ("row", -1), "global memory out of bounds"),
    ("shifted", ("row", 3), "global memory out of bounds"),
    ("shifted", ("unset", 0), "reads global memory that nobody has written"),
    ("writes_input", "in", "writes what is only read"),
    ("vector_load", ("at", 0), ""),
    ("vector_load", ("at", 1), "misaligned"),
    ("dynamic_floats", ("shared", 64, 64), ""),
    ("dynamic_floats", ("shared", 63, 64), "reads shared memory that nobody has written"),
    ("dynamic_floats", ("shared", 64, 63), "shared memory out of bounds"),
    ("local_floats", ("local", 8, 7), ""),
    ("local_floats", ("local", 5, 6), "reads local memory that nobody has written"),
    ("local_floats", ("local", 8, 8), "local memory out of bounds"),
    ("shuffle_some", ("lanes", 64), ""),
    ("shuffle_some", ("lanes", 32), ""),
    ("shuffle_some", ("lanes", 40), "incomplete warp"),
    ("shuffle_half", "in and out", "a shuffle of a part of a warp"),
    ("leave_early", ("threads", 64), ""),
    ("leave_early", ("threads", 32), "barrier that not all threads"),
    ("two_barriers", "out", "barrier that not all threads"),
    ("copies<0>", "copies", "never waited for"),
    ("copies<1>", "copies", "race, read after write"),
    ("copies<2>", "copies", ""),
)


def run_kernel(device, name, how):
    kind = how[0] if isinstance(how, tuple) else how
    x, out, shared, blocks, arguments = device.normal(1, 64, shift=3), device.room(64), 0, 1, None
    if kind == "in and out":
        arguments = (out, x)
    elif kind == "two blocks":
        arguments, blocks = (device.room(128),), 2
    elif kind in ("row", "unset"):
        x = device.normal(64, 3, stride=5) if kind == "row" else device.room((64, 3), stride=5)
        arguments = (out, x, 5, how[1])
    elif kind == "in":
        arguments = (x,)
    elif kind == "out":
        arguments = (out,)
    elif kind == "at":
        arguments = (out, device.normal(1, 256, offset=how[1]))
    elif kind == "shared":
        arguments, shared = (out, how[1]), 4 * how[2]
    elif kind == "local":
        arguments = (out, *how[1:])
    elif kind == "lanes":
        arguments = (out, x, how[1])
    elif kind == "threads":
        arguments = (out, how[1])
    elif kind == "copies":
        arguments, shared = (out, device.normal(1, 256)), 1024
    device.launch("faults", name, blocks, 64, *arguments, shared=shared)


@cases("the interpreter", FAULTS)
def faults(device, fault):
    name, how, expected = fault
    try:
        run_kernel(device, name, how)
    except Fault as found:
        if expected and expected in str(found):
            return
        raise
    if expected:
        raise Wrong(f"no fault was found: {expected}")


@cases("the tolerance", (0.5, 1.5))
def tolerance(device, roundings):
    """A result that is one and a half roundings off is wrong, half a one is not."""
    x = device.given(np.full((1, 4), 3.0))
    size, want = np.full((1, 4), 3.0), x.exact + roundings * 3 * 2.0**-24
    try:
        device.close("x", x, want, 1, size=size)
    except Wrong:
        if roundings > 1:
            return
        raise
    if roundings > 1:
        raise Wrong("a wrong result was not noticed")


def bits_inserted(x, y, first, count):
    for i in range(count):
        if first + i < 32:
            y = y & ~(1 << (first + i)) | (x >> i & 1) << (first + i)
    return y


@cases("inserting bits", quick=lambda: True)
def inserting_bits(device):
    x, y = device.random.integers(0, 1 << 32, (2, 64), dtype=np.uint32)
    for first, count in ((4, 2), (0, 32), (31, 5), (16, 16), (7, 0), (32, 3), (0, 40)):
        want = [bits_inserted(int(a), int(b), first, min(count, 32)) for a, b in zip(x, y)]
        device.equal(f"bits {first}, {count}", arithmetic.inserted(x, y, first, count), np.array(want, np.uint32))
