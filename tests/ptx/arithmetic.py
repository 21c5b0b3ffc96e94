"""What single instructions compute, where numpy has no function for it. Arrays in, arrays out, an element a lane."""

import numpy as np

U4, U8 = np.uint32, np.uint64


def fma_rn_f32(x, y, z):
    # The product of two floats is exact in a double; the sum is rounded twice, which differs once in 2^28.
    return (np.multiply(x, y, dtype=np.float64) + z).astype(np.float32)


def fma_rm_f32(x, y, z):
    exact = np.multiply(x, y, dtype=np.float64) + z
    near = exact.astype(np.float32)
    return np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)


def fma_rn_f64(x, y, z):
    return (np.multiply(x, y, dtype=np.longdouble) + z).astype(np.float64)


def rcp_approximate(x):
    return (1 / x).astype(x.dtype)


def ex2_approximate(x):
    found = np.exp2(np.asarray(x, np.float64)).astype(np.float32)
    return np.where(np.abs(found) < np.finfo(np.float32).tiny, np.float32(0), found)  # .ftz


def saturated(x):
    return np.clip(np.where(np.isnan(x), 0, x), 0, 1).astype(x.dtype)


def truncated(x, kind):
    """Toward zero, to the nearest number that the kind has; NaN to 0."""
    limits = np.iinfo(kind)
    return np.clip(np.trunc(np.where(np.isnan(x), 0, x).astype(np.longdouble)), limits.min, limits.max).astype(kind)


def shl_u(x, count):
    size = 8 * x.dtype.itemsize
    return np.where(count < size, x << np.minimum(count, size - 1).astype(x.dtype), x.dtype.type(0))


def shr_u(x, count):
    size = 8 * x.dtype.itemsize
    return np.where(count < size, x >> np.minimum(count, size - 1).astype(x.dtype), x.dtype.type(0))


def shr_s(x, count):
    return x >> np.minimum(count, 8 * x.dtype.itemsize - 1).astype(x.dtype)


def bf16_bits(x):
    """To nearest, halves to even; NaNs to the one that the instruction makes."""
    bits = np.asarray(x, np.float32).view(U4)
    rounded = (bits + U4(0x7FFF) + ((bits >> U4(16)) & U4(1))) >> U4(16)
    return np.where(np.isnan(x), U4(0x7FFF), rounded).astype(U4)


def bf16_pair(high, low):
    return bf16_bits(high) << U4(16) | bf16_bits(low)


def tf32(bits):
    """To nearest, halves away from 0: ten bits of mantissa."""
    special = (bits & U4(0x7F800000)) == U4(0x7F800000)
    return np.where(special, bits, bits + U4(0x1000)) & U4(0xFFFFE000)


def permuted(low, high, choice):
    both = np.asarray(low, U8) | (np.asarray(high, U8) << U8(32))
    out = U4(0)
    for i in range(4):
        pick = (choice >> U4(4 * i)) & U4(15)
        byte = (both >> ((pick & U4(7)).astype(U8) * U8(8))) & U8(255)
        byte = np.where(pick > 7, np.where(byte & U8(128), 255, 0), byte)
        out = out | (byte.astype(U4) << U4(8 * i))
    return out


def inserted(x, y, first, count):
    """y with the lowest `count` bits of x from bit `first` on; what would lie beyond bit 31 is left out."""
    first, count = (np.asarray(number, U8) & U8(255) for number in (first, count))
    first, count = np.minimum(first, U8(32)), np.minimum(count, U8(32))
    mask = ((U8(1) << count) - U8(1)) << first
    return (np.asarray(y, U8) & ~mask | (np.asarray(x, U8) << first) & mask).astype(U4)


def quotient(x, y):
    """Toward zero, as the device divides."""
    found = x // y
    return found + ((found < 0) & (found * y != x)).astype(found.dtype) if found.dtype.kind == "i" else found


# ---- of warps: arrays [warps, 32]


def shuffled(mode, value, operand, clamp):
    """What every lane gets of another one, and whether there is one. PTX ISA, shfl.sync."""
    value, operand, clamp = (x.reshape(-1, 32) for x in (value, operand.astype(np.int64), clamp.astype(np.int64)))
    lane, segment, limit = np.arange(32)[None, :], (clamp >> 8) & 31, clamp & 31
    most, least = (lane & segment) | (limit & ~segment), lane & segment
    source = {"bfly": lane ^ operand, "idx": least | (operand & ~segment), "down": lane + operand, "up": lane - operand}[mode]
    there = source >= most if mode == "up" else source <= most
    return np.take_along_axis(value, np.where(there, source, lane) & 31, 1).reshape(-1), there.reshape(-1)


# The registers of mma's matrices (PTX ISA, "Matrix fragments"): where the element at (row, column) lies among a warp's words,
# counted register by register and lane by lane; in bf16 two to a word.


def table(rows, columns, place):
    return np.array([place(row, column) for row in range(rows) for column in range(columns)])


LEFT = {
    "bf16": table(16, 16, lambda r, c: 64 * (r // 8 + 2 * (c // 8)) + 2 * (4 * (r % 8) + c % 8 // 2) + c % 2),
    "tf32": table(16, 8, lambda r, c: 32 * (r // 8 + 2 * (c // 4)) + 4 * (r % 8) + c % 4),
}
RIGHT = {
    "bf16": table(16, 8, lambda k, n: 64 * (k // 8) + 2 * (4 * n + k % 8 // 2) + k % 2),
    "tf32": table(8, 8, lambda k, n: 32 * (k // 4) + 4 * n + k % 4),
}
SUMS = table(16, 8, lambda r, c: 32 * (2 * (r // 8) + c % 2) + 4 * (r % 8) + c // 2)
BACK = np.argsort(SUMS)


def matrix(registers, kind, places, columns):
    """[warps, rows, columns] doubles of the registers of whole warps."""
    words = np.stack([x.reshape(-1, 32) for x in registers], axis=1).reshape(-1, 32 * len(registers))
    if kind == "bf16":
        values = (words.view(np.uint16).astype(U4) << U4(16)).view(np.float32)
    else:
        values = (words & U4(0xFFFFE000)).view(np.float32) if kind == "tf32" else words
    return values.take(places, axis=1).astype(np.float64).reshape(words.shape[0], -1, columns)


def multiplied(kind, a, b, c):
    """a b + c for the registers of m16n8k16 (bf16) and m16n8k8 (tf32)."""
    product = matrix(a, kind, LEFT[kind], 16 if kind == "bf16" else 8) @ matrix(b, kind, RIGHT[kind], 8)
    out = (product + matrix(c, "f32", SUMS, 8)).astype(np.float32)
    out = out.reshape(-1, 128).take(BACK, axis=1).reshape(-1, 4, 32)
    return [out[:, i].reshape(-1) for i in range(4)]
