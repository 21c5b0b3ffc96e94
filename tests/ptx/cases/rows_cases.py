"""Ops on rows and heads: norm.cu, heads.cu, loss.cu, outlier_loss.cu, embedding.cu."""

import numpy as np

from case import GAPS, LAYOUTS, STORAGES, WHOLE, Rows, add_chunks, cases, map_launch
from device import ELEMENT, ROWS, VIEW, pack, rows, vectors, view

# The widest row of each team of norm.cu, its warps and the packs of a thread.
TEAMS = (
    (256, 1, 1),
    (512, 1, 2),
    (768, 1, 3),
    (1024, 1, 4),
    (2048, 8, 1),
    (4096, 8, 2),
    (8192, 8, 4),
    (16384, 16, 4),
    (65536, 32, 8),
)


def team_of(columns):
    return next((warps, packs) for widest, warps, packs in TEAMS if columns <= widest)


def row_statistics(x, kind, epsilon):
    mean = x.mean(1, keepdims=True) if kind == "layer" else np.zeros((len(x), 1))
    return mean, 1 / np.sqrt(((x - mean) ** 2).mean(1, keepdims=True) + epsilon)


WIDTHS = (40, 301, 760, 1024, 1500, 4000, 8000, 9001, 20000)


@cases("norm forward", ("layer", "rms"), STORAGES, WIDTHS, quick=lambda kind, storage, C: C < 3000)
def norm_forward(device, kind, storage, C):
    N, (warps, packs) = 5, team_of(C)
    make = Rows(device, WHOLE if C % 8 == 0 else GAPS, storage, rows=N, cols=C)
    x, delta, total, out = make.given(shift=1), make.given(), make.room(), make.room()
    gain, bias, statistics = device.normal(1, C), device.normal(1, C) if kind == "layer" else None, device.room((N, 2))
    args = pack(
        "B" + 4 * VIEW + "PPPf", kind == "rms", *view(x), *view(delta), *view(total), *view(out), gain, bias, statistics, 1e-5
    )
    teams = 4 if warps == 1 else 1
    device.launch(
        "norm",
        f"norm_forward_kernel<{ELEMENT[storage]}, Team<{warps}, {packs}>>",
        -(-N // teams),
        32 * warps * teams,
        args,
        vectors(x, delta, total, out, gain, bias),
    )
    device.close("sum", total, x.exact + delta.exact, 1)
    kept = total.values()
    mean, rstd = row_statistics(kept, kind, 1e-5)
    device.close("out", out, (kept - mean) * rstd * gain.exact + (bias.exact if bias else 0), 16 if storage == "f32" else 2)
    device.close("statistics", statistics, np.concatenate([mean, rstd], 1), 32)


@cases("norm backward", ("layer", "rms"), STORAGES, WIDTHS, quick=lambda kind, storage, C: C < 3000)
def norm_backward(device, kind, storage, C):
    N, (warps, packs) = 21, team_of(C)
    chunks = -(-N // 8)
    make = Rows(device, WHOLE if C % 8 == 0 else GAPS, storage, rows=N, cols=C)
    x, d_out, d_x, gain = make.given(shift=1), make.given(), make.given(writable=True), device.normal(1, C)
    mean, rstd = row_statistics(x.exact, kind, 1e-5)
    statistics = device.given(np.concatenate([mean, rstd], 1))
    d_gain, d_bias = device.normal(1, C, writable=True), device.normal(1, C, writable=True) if kind == "layer" else None
    workspace = device.room((chunks * 2, C))
    args = pack(
        "B" + 3 * VIEW + "PP??PPP",
        kind == "rms",
        *view(x),
        *view(d_out),
        *view(d_x),
        gain,
        statistics,
        True,
        True,
        d_gain,
        d_bias,
        workspace,
    )
    device.launch(
        "norm",
        f"norm_backward_kernel<{ELEMENT[storage]}, Team<{warps}, {packs}>>",
        chunks,
        32 * warps * (8 if warps == 1 else 1),
        args,
        vectors(x, d_out, d_x, gain),
    )
    add_chunks(device, d_gain, workspace, 2 * C, chunks, C, True, d_bias)
    xhat, e = (x.exact - mean) * rstd, d_out.exact * gain.exact
    mean_e = e.mean(1, keepdims=True) if kind == "layer" else 0
    want = rstd * (e - mean_e - xhat * (e * xhat).mean(1, keepdims=True))
    device.close("d_x", d_x, d_x.exact + want, 16 if storage == "f32" else 2)
    device.close("d_gain", d_gain, d_gain.exact + (d_out.exact * xhat).sum(0), 32)
    if d_bias:
        device.close("d_bias", d_bias, d_bias.exact + d_out.exact.sum(0), 32)


@cases("bias gradient", STORAGES, ((19, 40), (21, 301)))
def bias_gradient(device, storage, shape):
    N, C = shape
    make = Rows(device, WHOLE if C % 8 == 0 else GAPS, storage, rows=N, cols=C)
    d_out, chunks = make.given(), -(-N // 8)
    workspace, d_bias = device.room((chunks, C)), device.room(C)
    device.launch(
        "norm",
        f"column_sums_kernel<{ELEMENT[storage]}>",
        (-(-C // 256), chunks),
        256,
        pack(VIEW, *view(d_out)),
        workspace,
        vectors(d_out),
    )
    add_chunks(device, d_bias, workspace, C, chunks, C, False)
    device.close("d_bias", d_bias, d_out.exact.sum(0), 16)


# D, heads, whether there is a gain: with one it is a norm, without one heads get the length 1.
@cases("head norm", STORAGES, ((64, 3, True), (20, 2, True), (128, 2, True), (100, 1, False), (256, 2, True), (130, 2, False)))
def head_norm(device, storage, head):
    D, H, has_gain = head
    N, packs = 23, 1 if D <= 64 else 2 if D <= 128 else 4
    make = Rows(device, WHOLE if D % 8 == 0 else GAPS, storage, rows=N, cols=D * H)
    x, d_out, out, d_x = make.given(), make.given(), make.room(), make.room()
    gain = device.normal(1, D) if has_gain else None
    scale, epsilon, divisor = 1.25, 1e-6, float(D) if has_gain else 1.0
    args = pack(VIEW + "Pqfff", *view(x), gain, D, epsilon, scale, divisor)
    vector = vectors(x, d_out, out, d_x, gain) and D % 8 == 0
    device.launch(
        "heads", f"head_norm_kernel<{ELEMENT[storage]}, {packs}>", -(-N * H // 32), 256, args, pack(ROWS, *rows(out)), H, vector
    )
    chunks = min(max(-(-N * H // 32), 1), 256)
    partial = device.room((chunks, D))
    device.launch(
        "heads",
        f"head_norm_backward_kernel<{ELEMENT[storage]}, {packs}>",
        chunks,
        256,
        args,
        pack(ROWS, *rows(d_out)),
        pack(ROWS, *rows(d_x)),
        partial,
        H,
        vector,
    )
    heads, d = x.exact.reshape(N * H, D), scale * d_out.exact.reshape(N * H, D)
    g = gain.exact if has_gain else np.ones((1, D))
    rstd = 1 / np.sqrt((heads**2).sum(1, keepdims=True) / divisor + epsilon)
    device.close("out", out, scale * g * heads * rstd, 16 if storage == "f32" else 2)
    e, xhat = d * g, heads * rstd
    device.close("d_x", d_x, rstd * (e - xhat * (e * xhat).sum(1, keepdims=True) / divisor), 16 if storage == "f32" else 2)
    if has_gain:
        d_gain = device.room(D)
        add_chunks(device, d_gain, partial, D, chunks, D, False)
        device.close("d_gain", d_gain, (d * xhat).sum(0), 32)


@cases("rope", STORAGES, (32, 20), ("forward", "inverse"))
def rope(device, storage, D, direction):
    N, T, H, first, half, inverse = 15, 5, 3, 4, D // 2, direction == "inverse"
    make = Rows(device, WHOLE if D % 16 == 0 else GAPS, storage, rows=N, cols=D * H)
    x, packs = make.given(writable=True), -(-half // 8)
    angles = (np.arange(first + T)[:, None]) * 10.0 ** (-np.arange(half) / half)
    table = device.given(np.concatenate([np.cos(angles), np.sin(angles)], 1))
    map_launch(
        device,
        "heads",
        f"Turn<{ELEMENT[storage]}>",
        N,
        H * packs * 8,
        pack(2 * ROWS + "qqqq??", *rows(x), *rows(table), half, packs, T, first, inverse, vectors(x, table) and half % 8 == 0),
    )
    turn = np.exp((-1j if inverse else 1j) * angles[first + np.arange(N) % T])[:, None, :]
    pairs = x.exact.reshape(N, H, 2, half)
    turned = (pairs[:, :, 0] + 1j * pairs[:, :, 1]) * turn
    device.close("x", x, np.stack([turned.real, turned.imag], 2), 8 if storage == "f32" else 2)


@cases("cross entropy", STORAGES, ((300, 32), (512, 32), (1003, 256), (17001, 512)), ("loss", "gradient"))
def cross_entropy(device, storage, size, want):
    (V, threads), N, factor = size, 4, 0.25 if want == "gradient" else 0.0
    make = Rows(device, WHOLE if V % 8 == 0 else GAPS, storage, rows=N, cols=V)
    logits, losses = make.given(writable=factor != 0, scale=3), device.room(N)
    targets = np.array([5, V - 1, -1, 0])
    device.launch(
        "loss",
        f"cross_entropy_kernel<{ELEMENT[storage]}, {threads}>",
        N,
        threads,
        losses,
        pack(ROWS, *rows(logits)),
        device.given(targets, "i32"),
        V,
        factor,
        vectors(logits),
    )
    x = logits.exact
    top = x.max(1, keepdims=True)
    total = np.exp(x - top).sum(1, keepdims=True)
    there = (targets >= 0)[:, None]
    chosen = np.take_along_axis(x, np.maximum(targets, 0)[:, None], 1)
    device.close("losses", losses, np.where(there, np.log(total) + top - chosen, 0), 64)
    if factor:
        hot = np.arange(V) == targets[:, None]
        device.close(
            "gradient", logits, np.where(there, factor * (np.exp(x - top) / total - hot), 0), 64 if storage == "f32" else 2
        )


@cases("outlier loss", STORAGES, LAYOUTS)
def outlier_loss(device, storage, layout):
    N, C = 6, 4104 if layout == WHOLE else 2100
    make = Rows(device, layout, storage, rows=N, cols=C)
    x, d_x, loss = make.given(scale=3), make.given(writable=True), device.given([2.0], writable=True)
    partial, inverse = device.room(N), 1 / 5
    device.launch(
        "outlier_loss",
        f"rows_kernel<{ELEMENT[storage]}>",
        N,
        256,
        partial,
        pack(ROWS, *rows(x)),
        pack(ROWS, *rows(d_x)),
        N,
        C,
        inverse,
        0.01,
        vectors(x, d_x),
    )
    device.launch("outlier_loss", "total_kernel<float>", 1, 256, loss, partial, N, 1e-3)
    device.close("loss", loss, 2 + 1e-3 * ((x.exact * inverse) ** 4).sum(), 32)
    device.close("d_x", d_x, d_x.exact + 0.01 * 4 * inverse * (x.exact * inverse) ** 3, 8 if storage == "f32" else 2)


@cases("embedding", STORAGES, LAYOUTS, ("plain", "registers", "segment"))
def embedding(device, storage, layout, what):
    B, T, V, C, R = 3, 7, 11, 40 if layout == WHOLE else 37, 2 if what == "registers" else 0
    make = Rows(device, layout, storage, rows=B * T, cols=C)
    out, d_out, table = make.room(), make.given(), device.normal(V, C)
    tokens = device.random.integers(0, V, B * T)
    positions, registers = device.normal(T - R, C), device.normal(R, C) if R else None
    segment = device.normal(1, C) if what == "segment" else None
    aligned = layout == WHOLE
    map_launch(
        device,
        "embedding",
        f"Embed<{ELEMENT[storage]}>",
        B * T,
        C,
        pack(
            2 * ROWS + "PPPPqqqq?",
            *rows(out),
            *rows(table),
            device.given(tokens, "i32"),
            positions,
            registers,
            segment,
            V,
            C,
            T,
            R,
            aligned,
        ),
    )
    want = (table.exact[tokens].reshape(B, T, C) + np.pad(positions.exact, ((R, 0), (0, 0)))[None]).copy()
    if R:
        want[:, :R] = registers.exact
    if segment:
        want += segment.exact
    device.close("out", out, want, 3)
    sums = d_out.exact.reshape(B, T, C).sum(0)
    for rows_, first, accumulate in ((T - R, R, True), (R, 0, False)):
        if rows_:
            to = device.normal(rows_, C, writable=True) if accumulate else device.room((rows_, C))
            map_launch(
                device,
                "embedding",
                f"AddPositions<{ELEMENT[storage]}>",
                rows_,
                C,
                pack(2 * ROWS + "qqq??", *rows(to), *rows(d_out), B * T, T, first, accumulate, aligned),
            )
            device.close("d_positions", to, sums[first : first + rows_] + (to.exact if accumulate else 0), 8)


# Tokens, width; half of the tokens are one, whose run goes over several chunks.
@cases("embedding gradient", STORAGES, ((300, 37), (2100, 264), (5000, 24)), quick=lambda storage, size: size[0] < 3000)
def embedding_gradient(device, storage, size):
    N, C, V, length = *size, 40, 64
    tokens = device.random.integers(0, V, N)
    tokens[device.random.random(N) < 0.5] = 7
    stored = device.given(tokens, "i32")
    d_out = device.normal(N, C, storage, None if C % 8 == 0 else C + 5)
    d_table, keys, other = device.normal(V, C, writable=True), device.room(N, "u64"), device.room(N, "u64")
    device.launch("embedding", "sort_tiles_kernel", -(-N // 2048), 256, keys, stored, N)
    width = 2048
    while width < N:
        device.launch("embedding", "merge_kernel", -(-N // 256), 256, other, keys, width, N)
        keys, other, width = other, keys, 2 * width
    device.equal("keys", keys.values()[0], np.sort(tokens.astype(np.uint64) << np.uint64(32) | np.arange(N, dtype=np.uint64)))
    chunks = -(-N // length)
    head, tail, vector = device.room((chunks, C)), device.room((chunks, C)), C % 8 == 0
    runs = pack("PqqPP" + ROWS + "qq?", keys, N, length, head, tail, *rows(d_table), V, C, vector)
    grid = (-(-chunks // 4), -(-C // 256))
    device.launch(
        "embedding", f"add_runs_kernel<{ELEMENT[storage]}>", grid, 128, runs, pack(ROWS, *rows(d_out)), vectors(d_out)
    )
    device.launch("embedding", "join_runs_kernel", grid, 128, runs)
    want = d_table.exact.copy()
    np.add.at(want, tokens, d_out.exact)
    device.close("d_table", d_table, want, 128)
