"""Stages of attention: affine scale, exclusion of the own value, means of prefixes, mixes, differences of heads."""

import numpy as np

from case import GAPS, LAYOUTS, STORAGES, WHOLE, Rows, add_chunks, cases, close_sums, map_launch, sigmoid, slope
from device import ELEMENT, ROWS, VIEW, pack, rows, vectors, view


def loose(storage, f32=32):
    """Roundings that a result of a few sums may be off by: in bf16 its own counts."""
    return f32 if storage == "f32" else 2


# ---- value_heads.cuh: D, heads, key/value heads. Eight to 32 lanes hold a head.

HEADS = ((64, 4, 2), (20, 3, 3), (128, 4, 1), (256, 2, 2), (300, 2, 1), (512, 2, 1))


def value_heads(device, file, op, storage, N, H, KV, D, struct):
    lanes, packs = next(
        (lanes, packs) for widest, lanes, packs in ((64, 8, 1), (128, 16, 1), (256, 32, 1), (512, 32, 2)) if D <= widest
    )
    slice_ = f"HeadSlice<{ELEMENT[storage]}, {lanes}, {packs}>"
    device.launch(file, f"value_heads_kernel<{slice_}, {lanes}, {op}>", -(-N * KV * lanes // 256), 256, N, KV, struct)


class ValueHeads:
    """Results y, values v and the gradient of what becomes of y."""

    def __init__(self, device, storage, head, rows_=13):
        self.D, self.H, self.KV = head
        self.make = Rows(device, WHOLE if self.D % 8 == 0 else GAPS, storage, rows=rows_)
        self.y, self.v, self.d_out = (self.make.given(n * self.D) for n in (self.H, self.KV, self.H))
        self.out, self.d_y, self.d_v = (self.make.room(n * self.D) for n in (self.H, self.H, self.KV))
        self.vector = vectors(self.y, self.v, self.d_out, self.out, self.d_y, self.d_v) and self.D % 8 == 0
        self.group = self.H // self.KV
        self.shape = (rows_, self.H, self.D)

    def heads(self, x):
        return x.exact.reshape(self.make.rows, -1, self.D)

    def of_groups(self, x):
        """Sums over the heads of each group."""
        return x.reshape(self.make.rows, self.KV, self.group, -1).sum(2)


def clipped(z):
    return np.where(np.real(z) <= -5, 0, np.where(np.real(z) >= 5, 1, (z + 5) / 10))


@cases("affine", STORAGES, HEADS, ("linear", "sigmoid"), quick=lambda storage, head, phi: head[0] < 256)
def affine(device, storage, head, phi):
    t = ValueHeads(device, storage, head)
    D, H, N = t.D, t.H, t.make.rows
    logits, d_logits = t.make.given(H, scale=4), t.make.room(H)
    average = device.normal(1, H)
    function = sigmoid if phi == "sigmoid" else clipped
    for backward in (False, True):
        struct = pack(
            "B" + 8 * ROWS + "Pqqqq?",
            phi == "sigmoid",
            *rows(t.y),
            *rows(t.v),
            *rows(logits),
            *rows(t.out),
            *rows(t.d_out),
            *rows(t.d_y),
            *rows(t.d_v),
            *rows(d_logits),
            average,
            N,
            t.KV,
            t.group,
            D,
            t.vector,
        )
        value_heads(device, "affine", f"Affine<{ELEMENT[storage]}, {str(backward).lower()}>", storage, N, H, t.KV, D, struct)
    y, u, d = t.heads(t.y), np.repeat(t.heads(t.v), t.group, axis=1), t.heads(t.d_out)
    a, m = function(logits.exact)[..., None], average.exact[0][None, :, None]
    device.close("out", t.out, a * (y - u) + m * u, loose(storage))
    device.close("d_y", t.d_y, a * d, loose(storage))
    device.close("d_u", t.d_v, t.of_groups((m - a) * d), loose(storage))
    device.close("d_logits", d_logits, slope(function, logits.exact) * (d * (y - u)).sum(2), loose(storage, 64))
    mean = device.normal(1, H, writable=True)
    device.launch(
        "affine", f"mean_kernel<{ELEMENT[storage]}>", H, 256, phi == "sigmoid", pack(VIEW, *view(logits)), mean, 0.5 / N
    )
    device.close("mean", mean, mean.exact + 0.5 * function(logits.exact).mean(0), 16)


@cases("exclude self", STORAGES, HEADS, quick=lambda storage, head: head[0] < 256)
def exclude_self(device, storage, head):
    t = ValueHeads(device, storage, head)
    D, H, N = t.D, t.H, t.make.rows
    t.v.bytes_of(device.heap.data)[0] = 0  # nothing is taken out along a value of zero
    t.v.exact[0] = 0
    for backward in (False, True):
        struct = pack(
            6 * ROWS + "qqqq?",
            *rows(t.y),
            *rows(t.v),
            *rows(t.out),
            *rows(t.d_out),
            *rows(t.d_y),
            *rows(t.d_v),
            N,
            t.KV,
            t.group,
            D,
            t.vector,
        )
        value_heads(
            device, "exclude_self", f"Exclude<{ELEMENT[storage]}, {str(backward).lower()}>", storage, N, H, t.KV, D, struct
        )
    y, v, d = t.heads(t.y), np.repeat(t.heads(t.v), t.group, axis=1), t.heads(t.d_out)
    square = (v * v).sum(2, keepdims=True)
    inverse = np.where(square > 0, 1 / np.where(square > 0, square, 1), 0)

    def result(y, v):
        return y - (y * v).sum(2, keepdims=True) * inverse * v

    device.close("out", t.out, result(y, v), loose(storage))
    device.close("d_y", t.d_y, result(d, v), loose(storage))  # the projection is its own transpose
    a, b = (y * v).sum(2, keepdims=True) * inverse, (d * v).sum(2, keepdims=True) * inverse
    device.close("d_v", t.d_v, t.of_groups(2 * a * b * v - b * y - a * d), loose(storage))


@cases("prefix mean", STORAGES, ((40, 40), (7, 33), (101, 5)), ("whole", "documents", "goes on", "one divisor"))
def prefix_mean(device, storage, size, what):
    (T, C), B = size, 2
    make = Rows(device, WHOLE if C % 8 == 0 else GAPS, storage, rows=B * T, cols=C)
    x, out, d_out, d_x = make.given(), make.room(), make.given(), make.given(writable=True)
    position, divisor = 3 if what == "goes on" else 0, 5.0 if what == "one divisor" else 0.0
    first = np.zeros((B, T), np.int64)
    if what == "documents":
        first[0, T // 3 :], first[1, T - 1 :] = T // 3, T - 1
    sums = device.normal(B, C, writable=True)
    sequence = ("Pqqd", device.given(first, "i32") if what == "documents" else None, T)
    strips = -(-C // 32)
    device.launch(
        "prefix_mean",
        f"scan_kernel<Forward<{ELEMENT[storage]}>>",
        B * strips,
        256,
        strips,
        pack(sequence[0] + 2 * ROWS + "Pq", *sequence[1:], position, divisor, *rows(x), *rows(out), sums, C),
    )
    device.launch(
        "prefix_mean",
        f"scan_kernel<Backward<{ELEMENT[storage]}>>",
        B * strips,
        256,
        strips,
        pack(sequence[0] + 2 * ROWS + "q", *sequence[1:], 0, divisor, *rows(d_out), *rows(d_x), C),
    )
    row, key = np.arange(T)[:, None], np.arange(T)[None, :]
    seen = (key[None] <= row[None]) & (key[None] >= first[:, :, None])

    def shares(position):
        count = position + row[None] - first[:, :, None] + 1
        return seen / (divisor if divisor else count)

    carried = sums.exact[:, None] if position else 0
    forward = shares(position)
    totals = (seen @ x.exact.reshape(B, T, C)) + carried
    device.close("out", out, totals * forward.max(2, keepdims=True), loose(storage))
    device.close(
        "d_x", d_x, d_x.exact + (shares(0).transpose(0, 2, 1) @ d_out.exact.reshape(B, T, C)).reshape(B * T, C), loose(storage)
    )
    device.close("sums", sums, totals[:, -1], 32)


@cases("mix", STORAGES, LAYOUTS, ("fixed", "learned"))
def mix(device, storage, layout, kind):
    make = Rows(device, layout, storage, rows=21)
    x, y, d_out, out, d_x, d_y = make.given(), make.given(), make.given(), make.room(), make.room(), make.given(writable=True)
    learned = kind == "learned"
    a, b = (device.normal(1, 1), device.normal(1, 1)) if learned else (None, None)
    shares = (a, b, 0.75, -0.5)
    of_x, of_y = (a.exact[0, 0], b.exact[0, 0]) if learned else shares[2:]
    vector, name, N, C = vectors(x, y, d_out, out, d_x, d_y), ELEMENT[storage], make.rows, make.cols
    map_launch(
        device, "mix", f"Mix<{name}>", N, C, pack("PPff" + 3 * ROWS + "?", *shares, *rows(out), *rows(x), *rows(y), vector)
    )
    chunks = min(N, 5)  # the host takes up to 256
    partial = device.room((chunks, 2)) if learned else None
    device.launch(
        "mix",
        f"mix_backward_kernel<{name}>",
        chunks,
        256,
        pack("PPff" + 5 * ROWS + "qq??", *shares, *rows(x), *rows(y), *rows(d_out), *rows(d_x), *rows(d_y), N, C, True, vector),
        partial,
    )
    device.close("out", out, of_x * x.exact + of_y * y.exact, loose(storage, 8))
    device.close("d_x", d_x, of_x * d_out.exact, loose(storage, 8))
    device.close("d_y", d_y, d_y.exact + of_y * d_out.exact, loose(storage, 8))
    if learned:
        d_a, d_b = device.normal(1, 1, writable=True), device.normal(1, 1, writable=True)
        add_chunks(device, d_a, partial, 2, chunks, 1, True, d_b)
        for what, to, other in (("d_x_share", d_a, x), ("d_y_share", d_b, y)):
            terms = d_out.exact * other.exact
            device.close(what, to, to.exact + terms.sum(), 32, size=np.abs(terms).sum())


# D, heads of the result, signal heads to a noise head, noise heads side by side.
@cases("difference", STORAGES, ((24, 4, 1, 2), (20, 6, 2, 1), (72, 4, 2, 2)), ("one factor", "factors of rows", "clamped factors of heads"))
def difference(device, storage, layout, kind):
    D, heads, signal, noise = layout
    noise_heads = heads // signal
    make = Rows(device, WHOLE if D % 8 == 0 else GAPS, storage, rows=11)
    columns = (heads + noise_heads) * D
    x, out, d_out, d_x = make.given(columns), make.room(heads * D), make.given(heads * D), make.room(columns)
    of_rows, d_lambda = kind == "factors of rows", make.room(heads)
    clamped = kind == "clamped factors of heads"  # some of them beyond 0 and 1
    logits, learned = (make.given(heads), None) if of_rows else (None, device.normal(1, heads if clamped else 1, shift=0.5))
    struct = (*rows(logits), learned, clamped, heads, signal, noise)
    packs, vector, name = -(-D // 8), vectors(x, out, d_out, d_x) and D % 8 == 0, ELEMENT[storage]
    map_launch(
        device,
        "difference",
        f"Difference<{name}>",
        make.rows,
        heads * packs * 8,
        pack(2 * ROWS + ROWS + "P?qqqqq?", *rows(out), *rows(x), *struct, D, packs, vector),
    )
    device.launch(
        "difference",
        f"difference_backward_kernel<{name}>",
        -(-make.rows * noise_heads // 32),
        256,
        pack(4 * ROWS + ROWS + "P?qqqqq?", *rows(d_x), *rows(d_lambda), *rows(d_out), *rows(x), *struct, make.rows, D, vector),
    )
    # Blocks side by side: signal * noise heads, then the noise heads.
    blocks = x.exact.reshape(make.rows, -1, signal * noise + noise, D)
    signals, noises = blocks[:, :, : signal * noise].reshape(make.rows, heads, D), blocks[:, :, signal * noise :].reshape(
        make.rows, -1, D
    )
    if of_rows:
        factor, by_learned = sigmoid(logits.exact)[..., None], slope(sigmoid, logits.exact)
    else:
        inside = (learned.exact > 0) & (learned.exact < 1)
        factor, by_learned = (np.clip(learned.exact[..., None], 0, 1), inside) if clamped else (learned.exact[0, 0], 1)
    d = d_out.exact.reshape(make.rows, heads, D)
    device.close("out", out, signals - factor * np.repeat(noises, signal, axis=1), loose(storage, 8))
    d_noise = -(factor * d).reshape(make.rows, noise_heads, signal, D).sum(2)
    d_blocks = np.concatenate([d.reshape(make.rows, -1, signal * noise, D), d_noise.reshape(make.rows, -1, noise, D)], 2)
    device.close("d_x", d_x, d_blocks, loose(storage, 8))
    d_factor = -(d * np.repeat(noises, signal, axis=1)).sum(2)
    device.close("d_lambda", d_lambda, d_factor * by_learned, loose(storage, 64))


@cases("difference factor", (16, 70))
def difference_factor(device, D):
    x, out, H, initial = device.normal(4, D, scale=0.3), device.room(1), 5, 0.8
    device.launch("difference", "factor_kernel", 1, 32, out, x, initial, D)
    d_out, d_x = device.normal(1, H), device.normal(4, D, writable=True)
    device.launch("difference", "factor_backward_kernel", 1, 32, d_x, x, d_out, H, D, True)
    v = x.exact
    first, second = np.exp(v[0] @ v[1]), np.exp(v[2] @ v[3])
    device.close("out", out, first - second + initial, 32)
    total = d_out.exact.sum()
    device.close("d_x", d_x, d_x.exact + total * np.stack([first * v[1], first * v[0], -second * v[3], -second * v[2]]), 32)


# Rows of a sequence, columns.
@cases("share rows", STORAGES, ((5, 40), (9, 37), (1, 300)))
def share_rows(device, storage, size):
    (T, C), B = size, 3
    layout = WHOLE if C == 40 else GAPS
    one, all_ = Rows(device, layout, storage, rows=T, cols=C), Rows(device, layout, storage, rows=B * T, cols=C)
    x, out, d_out, d_x = one.given(), all_.room(), all_.given(), one.given(writable=True)
    name = ELEMENT[storage]
    struct = pack(2 * ROWS + "q?", *rows(out), *rows(x), T, vectors(out, x))
    map_launch(device, "share_rows", f"Share<{name}>", B * T, C, struct)
    struct = pack(2 * ROWS + "qq?", *rows(d_x), *rows(d_out), T, B, vectors(d_x, d_out))
    map_launch(device, "share_rows", f"SumOfSequences<{name}>", T, C, struct)
    if not device.dry:
        device.equal("out", out.values(), np.tile(x.exact, (B, 1)))
    terms = np.concatenate([d_x.exact[None], d_out.exact.reshape(B, T, C)])
    close_sums(device, "d_x", d_x, terms.sum(0), np.abs(terms).sum(0), B)
