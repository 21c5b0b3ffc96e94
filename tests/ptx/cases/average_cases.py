"""key_only.cu, running averages by the keys' own scores; attention_decode.cu, one query a sequence over a cache."""

import numpy as np

from case import STORAGES, Rows, cases, sigmoid
from cases import attention_reference as reference
from cases.attention_cases import CLASSES, SCORES, Attention, Shape, registered
from device import ELEMENT, ROWS, pack, rows, vectors


def running(scores, values, first, before=None):
    """Averages of [T, D] values by e^score over the rows from `first` on, and what a decoder keeps: sums in double."""
    T = len(scores)
    seen = (np.arange(T)[None] <= np.arange(T)[:, None]) & (np.arange(T)[None] >= first[:, None])
    weights = np.exp(scores)[None] * seen
    sums, masses = weights @ values, weights.sum(1)
    if before:
        mass = before[2] * np.exp(before[1])
        sums, masses = sums + mass * before[0], masses + mass
    return sums / masses[:, None], masses


@cases(
    "key only",
    STORAGES,
    ((2, 19, 4, 2, 24, 16), (1, 40, 2, 2, 17, 37), (1, 9, 2, 1, 256, 200)),
    ("whole", "documents", "resume"),
)
def key_only(device, storage, shape, what):
    B, T, H, KV, D, V = shape
    make = Rows(device, "whole" if D % 8 == 0 and V % 8 == 0 else "gaps", storage, rows=B * T)
    q, k, v, d_out = (make.given(n) for n in (H * D, KV * D, KV * V, H * V))
    out, d_q, d_k, d_v = (make.room(n) for n in (H * V, H * D, KV * D, KV * V))
    first = np.zeros((B, T), np.int64)
    if what == "documents":
        first[:, T // 3 :] = T // 3
        first[-1, T - 2 :] = T - 2
    betas, resume, scale = device.room((B * H, T)), what == "resume", 0.3
    kept = device.normal(B * H, V + 2, writable=True)
    if resume:
        kept.exact[:, -1] = np.abs(kept.exact[:, -1]) + 1
        kept.bytes_of(device.heap.data)[:] = kept.exact.astype(np.float32).view(np.uint8)
    state = kept if what != "documents" else None
    average = pack(
        4 * ROWS + "PPPqqqqqqf?",
        *rows(q),
        *rows(k),
        *rows(v),
        *rows(out),
        device.given(first, "i32") if what == "documents" else None,
        betas,
        state,
        *shape,
        scale,
        resume,
    )
    name = ELEMENT[storage]
    device.launch("key_only", f"scores_kernel<{name}>", -(-B * H * T // 4), 128, average)
    device.launch("key_only", f"betas_kernel<{name}>", -(-B * H // 128), 128, average)
    device.launch("key_only", f"average_kernel<{name}>", -(-B * H * V // 128), 128, average)
    if not resume:
        shares, slopes = device.room((B * T, H * V)), device.room((B * T, H * V))
        back = average + pack(4 * ROWS + "PP", *rows(d_out), *rows(d_q), *rows(d_k), *rows(d_v), shares, slopes)
        device.launch("key_only", f"columns_back_kernel<{name}>", -(-B * H * V // 128), 128, back)
        device.launch("key_only", f"rows_back_kernel<{name}>", -(-B * T * KV // 4), 128, back)
    split = [x.exact.reshape(B, T, -1, width) for x, width in ((q, D), (k, D), (v, V), (d_out, V))]
    check_key_only(device, storage, shape, split, first, scale, kept.exact if resume else None, state, (out, d_q, d_k, d_v))


def check_key_only(device, storage, shape, inputs, first, scale, before, state, found):
    B, T, H, KV, _, V = shape
    q, k, v, d_out = inputs
    want, d_q, d_k, d_v = np.zeros((B, T, H, V)), *(np.zeros((2, *x.shape)) for x in (q, k, v))
    masses, active = np.zeros((B, H)), q * sigmoid(q)
    for b in range(B):
        for h in range(H):
            g = h * KV // H
            scores = scale * (active[b, :, h] * k[b, :, g]).sum(1)
            kept = (before[b * H + h, :V], before[b * H + h, V], before[b * H + h, V + 1]) if before is not None else None
            want[b, :, h], mass = running(scores, v[b, :, g], first[b], kept)
            masses[b, h] = mass[-1]
            seen = (np.arange(T)[None] <= np.arange(T)[:, None]) & (np.arange(T)[None] >= first[b][:, None])
            weights = np.exp(scores)[None] * seen
            weights = weights / weights.sum(1, keepdims=True)
            d = d_out[b, :, h]
            terms = weights * (d @ v[b, :, g].T - (d * (weights @ v[b, :, g])).sum(1, keepdims=True))
            sizes = weights * (abs(d) @ abs(v[b, :, g].T) + (abs(d) * (weights @ abs(v[b, :, g]))).sum(1, keepdims=True))
            s = sigmoid(q[b, :, h])
            slopes = s + q[b, :, h] * s * (1 - s)
            for i, d_scores in enumerate((terms.sum(0) * scale, sizes.sum(0) * scale)):
                of_sign = abs if i else lambda x: x
                d_v[i, b, :, g] += weights.T @ of_sign(d)
                d_q[i, b, :, h] = d_scores[:, None] * of_sign(k[b, :, g] * slopes)
                d_k[i, b, :, g] += d_scores[:, None] * of_sign(active[b, :, h])
    out, *gradients = found
    device.close("out", out, want, 64 if storage == "f32" else 2)
    if state:
        kept = state.values().reshape(B, H, V + 2)
        device.close("kept average", kept[..., :V], want[:, -1], 64)
        device.close("kept mass", kept[..., V] + np.log(kept[..., V + 1]), np.log(masses), 64)
    if before is None:
        # Differences of sums; in bf16 the results that they are made of have been rounded, in f32 the scores.
        largest = np.max(scale * np.abs(active).max() * np.abs(k).sum(3))
        for name, got, expected in zip(("d_q", "d_k", "d_v"), gradients, (d_q, d_k, d_v)):
            device.close(name, got, expected[0], 64 + 8 * largest if storage == "f32" else 2, size=expected[1])


def decode_quick(score, storage, size):
    return storage == "bf16" or size == CLASSES[1]


@cases("decode", SCORES, STORAGES, CLASSES, quick=decode_quick)
def decode(device, score, storage, size):
    index = CLASSES.index(size) + list(SCORES).index(score)
    B, T, length, H, KV, D = 2, 400, 300 - 37 * (index % 3), 4, 2, size - 8 * (index % 2)
    V, window, slot = D if index % 3 else max(D - 3, 5), 70 if index % 4 == 1 else 0, index % 3 == 1
    problem = Attention(device, score, storage, Shape(B, T, H, KV, D, V, window=window, slot=slot))
    q = device.normal(B, H * D, storage)
    out = device.room((B, H * V), storage)
    seen = min(length, window) if window else length
    row, chunks = (T + 1 + 3) // 4 * 4, -(-seen // 256)
    scores, partials = device.room((B * H, row)), device.room((chunks * B * H, V))
    cache = problem.qkv()
    struct = problem.struct(
        4 * ROWS + "4iPP", *rows(q), *cache[2:], *rows(out), length - seen, seen, row, chunks, scores, partials
    )
    name, padded = ELEMENT[storage], [next(c for c in CLASSES if width <= c) for width in (D, V)]
    device.launch("attention_decode", f"scores_kernel<{name}, {padded[0]}>", (chunks, B * KV), 128, struct)
    device.launch("attention_decode", f"rows_kernel<{name}, {problem.score.formula}>", B * H, 256, struct)
    device.launch("attention_decode", f"values_kernel<{name}, {padded[1]}>", (chunks, B * KV), 128, struct)
    device.launch("attention_decode", f"output_kernel<{name}>", B * H, 128, struct)
    want, magnitude = np.zeros((B, H, V)), np.zeros((B, H, V))
    for b in range(0 if device.dry else B):
        for h in range(H):
            g, kept = h * KV // H, slice(length - seen, length)
            head = reference.Head(
                problem.score.weigh,
                q.exact[b, h * D : (h + 1) * D][None],
                problem.k[b, kept, g],
                problem.v[b, kept, g],
                problem.scale,
                np.ones((1, seen), bool),
                problem.score.constants,
                problem.learned.exact[0, h] if problem.learned else None,
                (problem.key_bias.exact[g], problem.value_bias.exact[g]) if slot else None,
            )
            want[b, h], magnitude[b, h] = head.out[0], head.size(storage)[0]
    device.close("out", out, want, 64 if storage == "f32" else 2, size=magnitude)
