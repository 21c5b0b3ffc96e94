"""Attention: forward, backward and probe, every score function, head size class and storage."""

import pathlib
import re
from collections import namedtuple

import numpy as np

from case import STORAGES, cases
from cases import attention_reference as reference
from device import ELEMENT, ROWS, pack, rows, vectors

# formula: the kernels' template argument; constants: their struct's members and format; learned: its values' mean, or None.
Score = namedtuple("Score", "weigh formula constants layout learned scaled", defaults=((), "", None, True))
SCORES = {
    "Softmax": Score(reference.softmax, "SoftmaxFamily"),
    "SoftmaxPlusOne": Score(reference.softmax_plus_one, "SoftmaxFamily"),
    "SinkLogit": Score(reference.sink_logit, "SoftmaxFamily", learned=0.3),
    "Sigmoid": Score(reference.sigmoid, "Sigmoid", (-0.5, True), "f?"),
    "ReluScore": Score(reference.relu_score, "ReluScore"),
    "ClippedSoftmax": Score(reference.clipped_softmax, "ClippedSoftmax", (-0.03, 0.0, 1.03), "fff"),
    "Softpick": Score(reference.softpick, "Softpick", (1e-6,), "f"),
    "Taylor2": Score(reference.taylor2, "Taylor2"),
    "ElasticSoftmax": Score(reference.elastic_softmax, "ElasticSoftmax", learned=-0.8),
    "Threshold": Score(reference.threshold, "Threshold", (0.5, 16.0), "ff", scaled=False),
}
CLASSES = (16, 32, 64, 128, 256)
REGISTRY = pathlib.Path(__file__).parents[3] / "src/kernels/formulas/scores/registry.h"


def registered():
    """The score functions in the order of their kinds."""
    listed = re.search(r"ScoreList<([\w,\s]*)>;", REGISTRY.read_text(encoding="utf-8"))[1]
    return [name.strip() for name in listed.split(",")]


# D and V: features of a query, of a value. gap: elements between rows, a multiple of 8 for 16-byte accesses.
Shape = namedtuple("Shape", "B T H KV D V docs window slot gap sides", defaults=(False, 0, False, 8, False))


class Attention:
    """Inputs of a problem on the device, and its reference."""

    def __init__(self, device, score, storage, shape, mask=None):
        """mask: of dropout (philox.Mask), or None."""
        self.device, self.name, self.score, self.storage, self.shape = device, score, SCORES[score], storage, shape
        B, T, H, KV, D, V = shape[:6]
        self.classes = next(c for c in CLASSES if max(D, V) <= c)
        self.stride = (H + KV) * D + KV * V + shape.gap
        self.input = device.normal(B * T, (H + KV) * D + KV * V, storage, self.stride)
        parts = np.split(self.input.exact, [H * D, (H + KV) * D], axis=1)
        self.q, self.k, self.v = (x.reshape(B, T, n, -1) for x, n in zip(parts, (H, KV, KV)))
        random = device.random
        self.first = np.zeros((B, T), np.int32)
        if shape.docs:
            for b in range(B):
                for cut in np.sort(random.choice(np.arange(1, T), 4, replace=False)):
                    self.first[b, cut:] = cut
        self.first_key = device.given(self.first, "i32") if shape.docs else None
        self.last = np.array([[np.flatnonzero(row == f)[-1] for f in row] for row in self.first], np.int32)
        self.last_key = device.given(self.last, "i32") if shape.sides else None
        self.order = None  # of permuted windows (order_cases.py)
        self.mask = mask
        self.keys = device.given(mask.keys.view(np.int32), "i32") if mask else None
        self.scale = float(np.float32(1 / np.sqrt(D))) if self.score.scaled else float(np.float32(0.3))
        self.learned = device.normal(1, H, shift=self.score.learned) if self.score.learned is not None else None
        self.key_bias = device.normal(KV, D) if shape.slot else None
        self.value_bias = device.normal(KV, V) if shape.slot else None
        self.vectors = D % (16 // self.input.size) == 0 and V % (16 // self.input.size) == 0 and shape.gap % 8 == 0

    def struct(self, *more_formats_and_values):
        """AttentionProblem, and what is derived from it."""
        B, T, H, KV, D, V = self.shape[:6]
        constants = pack(self.score.layout, *self.score.constants) if self.score.layout else b""
        formats, values = (more_formats_and_values or ("",))[0], more_formats_and_values[1:]
        return pack(
            "6ifB0q32sPPPPPiPP?PQIf0q" + formats,
            B,
            T,
            H,
            KV,
            D,
            V,
            self.scale,
            registered().index(self.name),
            constants,
            self.key_bias,
            self.value_bias,
            self.learned,
            None,
            self.first_key,
            self.shape.window,
            self.last_key,
            self.order,
            self.vectors,
            *((self.keys, self.mask.stream(), self.mask.below, self.mask.scale) if self.mask else (None, 0, 0, 1.0)),
            *values,
        )

    def qkv(self):
        """Rows of queries, keys and values."""
        H, KV, D = self.shape.H, self.shape.KV, self.shape.D
        return [x for at in (0, H * D, (H + KV) * D) for x in (self.input.beyond(at), self.stride)]

    def visible(self, b):
        last = self.last[b] if self.shape.sides else np.arange(self.shape.T)
        return reference.visible_keys(self.first[b], last, self.shape.window)

    def kept(self, b, h):
        """What dropout makes of each weight, the slot's first; 1 without it."""
        if not self.mask:
            return 1.0
        T = self.shape.T
        factors = self.mask.factors(b, h, T, T)
        return np.concatenate([self.mask.slots(b, h, T), factors], 1) if self.shape.slot else factors

    def heads(self):
        """(b, h, Head) of each."""
        B, H, KV = self.shape.B, self.shape.H, self.shape.KV
        for b in range(0 if self.device.dry else B):
            seen = self.visible(b)
            for h in range(H):
                g = h * KV // H
                slot = (self.key_bias.exact[g], self.value_bias.exact[g]) if self.shape.slot else None
                learned = self.learned.exact[0, h] if self.learned else None
                yield b, h, reference.Head(
                    self.score.weigh,
                    self.q[b, :, h],
                    self.k[b, :, g],
                    self.v[b, :, g],
                    self.scale,
                    seen,
                    self.score.constants,
                    learned,
                    slot,
                    self.kept(b, h),
                )

    def kernel(self, name, size=None):
        return f"{name}<{ELEMENT[self.storage]}, {self.score.formula}, {size or self.classes}>"

    # ---- forward

    def forward(self):
        B, T, H, _, _, V = self.shape[:6]
        bytes_ = self.classes * self.input.size
        queries = 128 if self.storage == "bf16" and self.classes <= 64 else 64
        keys = 64 if bytes_ <= 256 else 32 if bytes_ <= 512 else 16
        self.out = self.device.room((B * T, H * V), self.storage, H * V + self.shape.gap)
        self.stats = self.device.room((2, B * H * T))
        self.device.launch(
            "attention_forward",
            self.kernel("forward_kernel"),
            -(-T // queries) * B * H,
            128,
            self.struct(4 * ROWS + "P", *self.qkv(), *rows(self.out), self.stats),
            shared=(queries + 4 * keys) * (self.classes + 8) * self.input.size,
        )

    def check_forward(self):
        B, T, H, _, _, V = self.shape[:6]
        want, totals = np.zeros((2, B, T, H, V)), np.zeros((B, H, T))
        for b, h, head in self.heads():
            want[:, b, :, h] = head.out, head.size(self.storage)
            totals[b, h] = 0 if head.total is None else head.total[:, 0]
        # bf16: weights and results are rounded once each; f32: products of tf32 parts and sums of T terms, in scores too
        # (attention_reference.py, TOLERANCE).
        self.device.close("out", self.out, want[0], 2 if self.storage == "bf16" else 64, size=want[1])
        if totals.any():
            m, inverse = self.stats.values().reshape(2, B, H, T)
            self.device.close("row sums", m - np.log(inverse), totals, 64)

    # ---- backward

    def backward(self):
        """The two kernels and the sums of the parameters' shares. The results of the forward pass are given."""
        B, T, H, KV, D, V = self.shape[:6]
        device, bytes_ = self.device, self.classes * self.input.size
        self.d_out = device.normal(B * T, H * V, self.storage, H * V + self.shape.gap)
        self.d_input = device.room(self.input.shape, self.storage, self.stride)
        row_count = 64 if bytes_ <= 512 else 32
        columns = 64 if bytes_ <= 128 else 32 if bytes_ <= 512 else 16
        padded, blocks = -(-T // 64) * 64, -(-T // row_count)
        self.passed, self.bias_shares = device.room((B * H * padded, 4)), device.room((B * H // KV * blocks, KV * (D + V)))
        self.learned_shares = device.room((2, B * blocks * H))
        d = [x for at in (0, H * D, (H + KV) * D) for x in (self.d_input.beyond(at), self.stride)]
        problem = self.struct(
            8 * ROWS + "PPPPPi",
            *self.qkv(),
            *rows(self.out),
            *rows(self.d_out),
            *d,
            self.stats,
            self.stats.beyond(B * H * T),
            self.passed,
            self.bias_shares,
            self.learned_shares,
            padded,
        )
        tiles = (2 * row_count + 4 * columns) * (self.classes + 8) * self.input.size
        device.launch(
            "attention_backward_queries", self.kernel("queries_kernel"), blocks * B * H, 2 * row_count, problem, shared=tiles
        )
        device.launch(
            "attention_backward_keys",
            self.kernel("keys_kernel"),
            (blocks * B * KV, 2 if self.classes > 128 else 1),
            2 * row_count,
            problem,
            shared=tiles + 2 * columns * 16,
        )
        if self.shape.slot:
            self.d_key_bias, self.d_value_bias = device.normal(1, KV * D, writable=True), device.room(KV * V)
            self.sum_columns(self.d_key_bias, self.bias_shares, KV * (D + V), self.scale, True)
            self.sum_columns(self.d_value_bias, self.bias_shares, KV * (D + V), 1.0, False, KV * D)
        if self.learned:
            self.d_learned = device.room(H)
            self.sum_columns(self.d_learned, self.learned_shares, H, 1.0, False, rows_=B * blocks)

    def sum_columns(self, out, shares, stride, factor, add, first=0, rows_=None):
        self.device.launch(
            "attention_backward",
            "sum_columns_kernel",
            -(-out.shape[1] // 32),
            256,
            out,
            shares.beyond(first),
            rows_ or shares.shape[0],
            stride,
            out.shape[1],
            factor,
            add,
        )

    def check_backward(self):
        B, T, H, KV, D, V = self.shape[:6]
        dq, dk, dv = (np.zeros((2, *x.shape)) for x in (self.q, self.k, self.v))
        d_keys, d_values, d_learned = np.zeros((2, KV, D)), np.zeros((2, KV, V)), np.zeros(H)
        d_out = self.d_out.exact.reshape(B, T, H, V)
        for b, h, head in self.heads():
            g, skip = h * KV // H, int(self.shape.slot)
            of_q, of_k, of_v, learned = head.backward(d_out[b, :, h], self.storage)
            d_learned[h] += learned
            for i in range(2):
                dq[i, b, :, h] = of_q[i]
                dk[i, b, :, g] += of_k[i][skip:]
                dv[i, b, :, g] += of_v[i][skip:]
                if skip:
                    d_keys[i, g] += of_k[i][0]
                    d_values[i, g] += of_v[i][0]
        found = np.split(self.d_input.values(), [H * D, (H + KV) * D], axis=1)
        # bf16: weights or scores' gradients, results, and what is taken from dP are rounded once each.
        factor, storage = (2, "bf16") if self.storage == "bf16" else (64, "f32")
        for what, got, want in zip(("d_q", "d_k", "d_v"), found, (dq, dk, dv)):
            self.device.close(what, got, want[0], factor, storage, want[1])
        if self.shape.slot:
            for what, to, want in (("d_key_bias", self.d_key_bias, d_keys), ("d_value_bias", self.d_value_bias, d_values)):
                before = to.exact.reshape(KV, D) if to is self.d_key_bias else 0
                self.device.close(what, to, before + want[0], factor, storage, np.abs(before) + want[1])
        if self.learned:
            self.device.close("d_learned", self.d_learned, d_learned, 16 * factor, storage)

    # ---- probe

    def probe(self):
        B, T, H, _, D, _ = self.shape[:6]
        size = next(c for c in CLASSES if D <= c)
        keys = 64 if size * self.input.size <= 512 else 32
        self.weight, self.gap = self.device.room((B * H, T)), self.device.room((B * H, T))
        self.device.launch(
            "attention_probe",
            f"scores_kernel<{ELEMENT[self.storage]}, {size}>",
            -(-T // 64) * B * H,
            128,
            self.struct(2 * ROWS + "PP", *self.qkv()[:4], self.weight, self.gap),
            shared=(64 + 2 * keys) * (size + 8) * self.input.size,
        )
        self.device.launch(
            "attention_probe",
            f"weights_kernel<{self.score.formula}>",
            -(-B * H * T // 128),
            128,
            self.struct(),
            self.weight,
            self.stats,
            B * H * T,
        )

    def check_probe(self):
        B, T, H = self.shape[:3]
        weight, gap = np.zeros((B, H, T)), np.zeros((B, H, T))
        for b, h, head in self.heads():
            for i, f in enumerate(self.first[b]):
                if self.shape.window and f <= i - self.shape.window:
                    continue
                slot = int(self.shape.slot)
                weight[b, h, i] = head.p[i, f + slot]
                others = [j + slot for j in np.flatnonzero(self.visible(b)[i]) if j not in (f, i)]
                if others:
                    gap[b, h, i] = head.s[i, f + slot] - head.s[i, others].mean()
        self.device.close("sink_attention", self.weight, weight, 64)
        self.device.close("sink_logit_gap", self.gap, gap, 64)


# What cases differ in beside score, storage and size, in turn. Gaps of other than 8 leave no 16-byte accesses.
OPTIONS = ({}, {"docs": True}, {"gap": 3}, {"window": 23}, {"docs": True, "window": 30, "gap": 5})


def shape_of(index, size):
    D = size if index % 2 else size - 8
    H, KV = ((2, 1), (2, 2), (4, 2))[index % 3]
    T = 133 if index % 5 == 0 else 70
    return Shape(2 if index % 7 == 0 else 1, T, H, KV, D, D if index % 4 else size // 2, **OPTIONS[index % len(OPTIONS)])


# All that a block may do: several tiles, 16-byte accesses, documents, a slot.
def full_shape(size):
    return Shape(1, 133, 4, 2, size, size, docs=True, slot=True)


def is_quick(score, storage, size, shape):
    """Softmax at each size, every other score once in each storage."""
    index = list(SCORES).index(score)
    if shape == "full":
        return score == "Softmax" and size == (64 if storage == "bf16" else 16)
    return size == CLASSES[index % 3 + (storage == "bf16")] or (score == "Softmax" and size in (32, 128))


@cases("attention", SCORES, STORAGES, CLASSES, ("varied", "full"), quick=is_quick)
def attention(device, score, storage, size, shape):
    index = (list(SCORES).index(score) * len(CLASSES) + CLASSES.index(size)) * 2 + (storage == "f32")
    run_and_check(Attention(device, score, storage, full_shape(size) if shape == "full" else shape_of(index, size)))


@cases("attention with a slot in windows", SCORES, STORAGES, (32, 128), quick=lambda score, storage, size: False)
def attention_slot(device, score, storage, size):
    run_and_check(Attention(device, score, storage, Shape(2, 70, 2, 1, size, size - 9, True, 17, True, 3)))


@cases("attention of both sides", SCORES, STORAGES, (16, 64, 256), quick=lambda score, storage, size: score == "Softmax" and size == 64)
def attention_both_sides(device, score, storage, size):
    index = list(SCORES).index(score) + CLASSES.index(size) + (storage == "f32")
    options = (dict(docs=True), dict(window=40), dict(docs=True, window=23, slot=True, gap=3), dict(slot=True))[index % 4]
    run_and_check(Attention(device, score, storage, Shape(1, 133, 2, 1, size, size, sides=True, **options)))


def run_and_check(one):
    one.forward()
    one.backward()
    one.probe()
    one.check_forward()
    one.check_backward()
    one.check_probe()


@cases("attention registry", quick=lambda: True)
def attention_registry(device):
    device.equal("score functions", sorted(SCORES), sorted(registered()))
