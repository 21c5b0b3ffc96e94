"""cores/: linear attention with decay, and what makes flow attention of it."""

import math

import numpy as np

from case import GAPS, STORAGES, WHOLE, Rows, cases, close_sums, map_launch, sigmoid
from device import ELEMENT, ROWS, pack, rows

STEP = 1e-30  # of derivatives by complex steps


class Core:
    """Queries, keys and values of B sequences of T rows: H query heads, KV of the others, D features and V of a value."""

    def __init__(self, device, storage, shape, documents, **keys):
        self.device, self.storage, self.shape, self.name = device, storage, shape, ELEMENT[storage]
        self.B, self.T, self.H, self.KV, self.D, self.V = shape
        B, T, D, V = self.B, self.T, self.D, self.V
        self.make = Rows(device, WHOLE if D % 8 == 0 and V % 8 == 0 else GAPS, storage, rows=B * T)
        self.q, self.k, self.v = self.make.given(self.H * D), self.make.given(self.KV * D, **keys), self.make.given(self.KV * V)
        self.first = np.zeros((B, T), np.int64)
        if documents:
            self.first[:, T // 3 :] = T // 3
            self.first[-1, T - 1 :] = T - 1
        self.first_key = device.given(self.first, "i32") if documents else None
        self.group = self.H // self.KV

    def heads(self, tensor):
        """[B, T, heads, features]"""
        return tensor.exact.reshape(self.B, self.T, -1, self.D if tensor in (self.q, self.k) else self.V)

    def visible(self, b):
        row, key = np.arange(self.T)[:, None], np.arange(self.T)[None, :]
        return (key <= row) & (key >= self.first[b][:, None])

    def add_heads(self, out, shares, width, sequence, head, row):
        """add_heads.cuh: out = the sums over the heads of each group; a head's shares lie so far apart."""
        struct = pack(ROWS + "P6q", *rows(out), shares, sequence, head, row, self.T, width, self.group)
        map_launch(self.device, self.file, f"AddHeads<{self.name}>", self.B * self.T, self.KV * width, struct)


# ---- linear_attention.cu


def head_slope(h, H):
    """2^(-8 (h + 1) / H), and what stands for it where H is no power of two."""
    power = 2 ** int(math.log2(H))
    return 2.0 ** (-8 * (h + 1) / power) if h < power else 2.0 ** (-8 * (2 * (h - power) + 1) / (2 * power))


def kept_after(slope, count):
    """e^(-slope count); nothing is lost over no rows, whatever the slope."""
    count = np.asarray(count, float)
    return np.exp(-slope * count) if slope < np.inf else 1.0 * (count == 0)


class LinearAttention(Core):
    file = "linear_attention"

    def sum(self, a, b, c, out, width, decay, state=None, resume=False, backwards=False):
        """The kernel: out_i = sum_j lam^|i-j| (a_i . b_j) c_j. a, b, c: (tensor, features, query heads of each head)."""
        grouped = out[1] and self.group > 1
        shares = self.device.room((self.B * self.T, self.H * width)) if grouped else None
        struct = pack(
            3 * (ROWS + "qq") + ROWS + "PPPqqd??",
            *(value for tensor, *sizes in (a, b, c) for value in (*rows(tensor), *sizes)),
            *rows(out[0]),
            shares,
            self.first_key,
            state,
            self.T,
            self.H,
            decay,
            resume,
            backwards,
        )
        features = a[1]
        shared = 4 * (64 * (features + 1) + 64 * 33 + features * 33 + 66)
        grid = (self.B * self.H, -(-width // 32))
        self.device.launch(self.file, f"decayed_sum_kernel<{self.name}>", grid, 256, struct, shared=shared)
        if grouped:
            self.add_heads(out[0], shares, width, self.T * self.H * width, width, self.H * width)

    def weights(self, b, h, decay):
        """[T, T]: lam^(i-j) for what row i sees."""
        away = np.arange(self.T)[:, None] - np.arange(self.T)[None, :]
        return kept_after(decay * head_slope(h, self.H), np.maximum(away, 0)) * self.visible(b)


# B, T, H, KV, D, V: chunks are of 32 rows, blocks have 32 columns.
LINEAR_SHAPES = (
    (1, 41, 4, 2, 16, 40),
    (1, 34, 3, 3, 9, 13),
    (2, 9, 6, 1, 24, 8),
    (2, 100, 4, 2, 40, 72),
    (1, 70, 2, 1, 256, 200),
)


def linear_quick(storage, shape, how):
    one = ("documents", 1.5) if storage == "f32" else ("whole", 0.0)
    return how[1] < 2 if shape[1] < 40 else shape[1] == 41 and how == one


@cases(
    "linear attention",
    STORAGES,
    LINEAR_SHAPES,
    (("whole", 0.0), ("documents", 1.5), ("resume", 1.5), ("documents", math.inf), ("resume", 0.0)),
    quick=linear_quick,
)
def linear_attention(device, storage, shape, how):
    what, decay = how
    one = LinearAttention(device, storage, shape, what == "documents")
    B, T, H, KV, D, V = shape
    q, k, v = (one.q, D, 1), (one.k, D, one.group), (one.v, V, one.group)
    out, resume = one.make.room(H * V), what == "resume"
    before = device.normal(B * H * D, V, writable=True) if resume else None
    state = before or (device.room((B * H * D, V)) if what == "documents" else None)
    one.sum(q, k, v, (out, False), V, decay, state, resume)
    if not device.dry:
        check_linear_attention(one, decay, out, before, state)
    if not resume:
        linear_attention_backward(one, decay, q, k, v)


def check_linear_attention(one, decay, out, before, state):
    B, T, H, _, D, V = one.shape
    wanted, kept = np.zeros((2, B, T, H, V)), np.zeros((2, B, H, D, V))
    for b, h in np.ndindex(B, H):
        weights, g, slope = one.weights(b, h, decay), h // one.group, decay * head_slope(h, H)
        for i, sign in enumerate((np.asarray, np.abs)):
            queries, keys, values = sign(one.heads(one.q)[b, :, h]), *(sign(one.heads(x)[b, :, g]) for x in (one.k, one.v))
            wanted[i, b, :, h] = (weights * (queries @ keys.T)) @ values
            kept[i, b, h] = (weights[-1][:, None] * keys).T @ values
            if before:
                old = sign(before.exact.reshape(B, H, D, V)[b, h])
                wanted[i, b, :, h] += kept_after(slope, np.arange(1, T + 1))[:, None] * (queries @ old)
                kept[i, b, h] += kept_after(slope, T) * old
    close_sums(one.device, "out", out, *wanted.reshape(2, B * T, -1))
    if state:
        close_sums(one.device, "state", state, *kept.reshape(2, -1, V))


def linear_attention_backward(one, decay, q, k, v):
    B, T, H, KV, D, V = one.shape
    d_out = one.make.given(H * V)
    d_q, d_k, d_v = (one.make.room(n) for n in (H * D, KV * D, KV * V))
    d = (d_out, V, 1)
    one.sum(d, v, k, (d_q, False), D, decay)
    one.sum(v, d, q, (d_k, True), D, decay, backwards=True)
    one.sum(k, q, d, (d_v, True), V, decay, backwards=True)
    if one.device.dry:
        return
    of_q, of_k, of_v = (np.zeros((2, B, T, *n)) for n in ((H, D), (KV, D), (KV, V)))
    for b, h in np.ndindex(B, H):
        weights, g = one.weights(b, h, decay), h // one.group
        for i, sign in enumerate((np.asarray, np.abs)):
            queries, results = sign(one.heads(one.q)[b, :, h]), sign(one.heads(d_out)[b, :, h])
            keys, values = sign(one.heads(one.k)[b, :, g]), sign(one.heads(one.v)[b, :, g])
            by_score = weights * (results @ values.T)  # of q_i . k_j
            of_q[i, b, :, h] = by_score @ keys
            of_k[i, b, :, g] += by_score.T @ queries
            of_v[i, b, :, g] += (weights * (queries @ keys.T)).T @ results
    for name, to, want in (("d_q", d_q, of_q), ("d_k", d_k, of_k), ("d_v", d_v, of_v)):
        close_sums(one.device, name, to, *want.reshape(2, B * T, -1))


# ---- flow.cu


def flow(q, k, v, seen, state):
    """queries, keys, values, logits, (I, O, w, E) and the sums (K, Q, M, L) of [..., T, D] rows, as formulas/flow.h has it.
    state: what K, Q, M, L, E and n were before them."""
    K, Q, M, L, E, n = state
    a, b, n = sigmoid(q), sigmoid(k), n + seen.sum(1).astype(float)

    def between(x, sums):
        return ((x + 1e-6) * (sums + 1e-6)).sum(-1)

    K, Q = K + seen @ b, Q + seen @ a
    into, out = n / between(a, K), n / between(b, Q)
    M, L = M + seen @ (b * out[..., None]), L + seen @ (a * into[..., None])
    c, w = between(a, M) / n, between(b, L) / n
    x = np.exp(np.where(np.real(w) > 5, 5, np.where(np.real(w) < -5, -5, w)))
    E = E + (seen @ x[..., None])[..., 0]
    return a * (into / n)[..., None], b, (n * x / E)[..., None] * v, c, (into, out, w, E), (K, Q, M, L), n


class Flow(Core):
    file = "flow"

    def forward(self, state, resume):
        B, T, H, D, V = self.B, self.T, self.H, self.D, self.V
        self.queries, self.keys, self.values, self.logits = (self.make.room(n) for n in (H * D, H * D, H * V, H))
        self.stats = self.device.room((4 * B * H, T))
        tensors = (self.q, self.k, self.v, self.queries, self.keys, self.values, self.logits)
        places = [value for tensor in tensors for value in rows(tensor)]
        self.struct = pack(7 * ROWS + "PPP6q?", *places, self.first_key, self.stats, state, *self.shape, resume)
        self.device.launch("flow", f"flow_kernel<{self.name}>", -(-B * H // 4), 128, self.struct)

    def backward(self):
        B, T, H, KV, D, V = self.shape
        self.d_results = [self.make.given(n) for n in (H * D, H * D, H * V, H)]
        self.d_inputs = [self.make.room(n) for n in (H * D, KV * D, KV * V)]
        of_head = T * (2 * D + V + 3)
        workspace = self.device.room(B * H * of_head)
        places = [value for tensor in (*self.d_results, *self.d_inputs) for value in rows(tensor)]
        struct = self.struct + pack(7 * ROWS + "Pq", *places, workspace, of_head)
        self.device.launch("flow", f"flow_backward_kernel<{self.name}>", -(-B * H // 4), 128, struct)
        self.add_heads(self.d_inputs[1], workspace.beyond(T * D), D, H * of_head, of_head, D)
        self.add_heads(self.d_inputs[2], workspace.beyond(2 * T * D), V, H * of_head, of_head, V)

    def state_of(self, before, b, h):
        if before is None:
            return (0, 0, 0, 0, 0, 0)
        kept, D = before.exact[b * self.H + h], self.D
        return (*(kept[i * D : (i + 1) * D] for i in range(4)), kept[4 * D], kept[4 * D + 1])

    def inputs(self, b, h):
        g = h // self.group
        return self.heads(self.q)[b, :, h], self.heads(self.k)[b, :, g], self.heads(self.v)[b, :, g]

    def check_forward(self, before, state):
        B, T, H, D, V = self.B, self.T, self.H, self.D, self.V
        found = [np.zeros((B, T, H, n)) for n in (D, D, V, 1)]
        stats, kept = np.zeros((4, B, H, T)), np.zeros((B, H, 4 * D + 2))
        for b, h in np.ndindex(B, H):
            *results, logits, of_rows, sums, n = flow(*self.inputs(b, h), self.visible(b), self.state_of(before, b, h))
            for to, values in zip(found, (*results, logits[:, None])):
                to[b, :, h] = values
            stats[:, b, h] = of_rows
            kept[b, h] = np.concatenate([*(x[-1] for x in sums), [of_rows[3][-1], n[-1]]])
        names = ("queries", "keys", "values", "logits")
        for name, tensor, want in zip(names, (self.queries, self.keys, self.values, self.logits), found):
            close_sums(self.device, name, tensor, want.reshape(B * T, -1), np.abs(want).reshape(B * T, -1))
        self.device.close("stats", self.stats, stats, 64, size=stats)
        if state:
            self.device.close("state", state, kept, 64, size=kept)

    def gradients(self, b, h):
        """Of queries and keys of one head [T, D], and as magnitudes; what values are scaled with: by complex steps."""
        q, k, v = self.inputs(b, h)
        ds = [d.exact.reshape(self.B, self.T, self.H, -1)[b, :, h] for d in self.d_results]
        found, n = [], q.size
        steps = (1j * STEP * np.eye(n)).reshape(n, *q.shape)
        for moved in ((q + steps, k), (q, k + steps)):
            queries, keys, values, logits, *_ = flow(*moved, v, self.visible(b), (0, 0, 0, 0, 0, 0))
            total, size = np.zeros(n), np.zeros(n)
            for result, d in zip((queries, keys, values, logits[..., None]), ds):
                terms = np.imag(result) / STEP * d
                total, size = total + terms.sum((-2, -1)), size + np.abs(terms).sum((-2, -1))
            found.append((total.reshape(q.shape), size.reshape(q.shape)))
        ones = np.ones_like(v)
        return *found, flow(q, k, ones, self.visible(b), (0, 0, 0, 0, 0, 0))[2] * ds[2]

    def check_backward(self):
        B, T, H, KV, D, V = self.shape
        of_q, of_k, of_v = (np.zeros((2, B, T, *n)) for n in ((H, D), (KV, D), (KV, V)))
        for b, h in np.ndindex(B, H):
            g, (d_q, d_k, d_v) = h // self.group, self.gradients(b, h)
            of_q[:, b, :, h] = d_q
            of_k[:, b, :, g] += d_k
            of_v[:, b, :, g] += d_v, np.abs(d_v)
        # A sigmoid's slope has lost digits where it is near 1.
        of_q[1] /= 1 - sigmoid(self.heads(self.q))
        of_k[1] /= 1 - sigmoid(self.heads(self.k))
        for name, to, want in zip(("d_q", "d_k", "d_v"), self.d_inputs, (of_q, of_k, of_v)):
            close_sums(self.device, name, to, *want.reshape(2, B * T, -1))


FLOW_SHAPES = (
    (2, 11, 4, 2, 16, 8),
    (1, 23, 3, 3, 9, 13),
    (1, 5, 2, 1, 100, 200),
    (1, 70, 2, 1, 24, 40),
    (1, 7, 2, 2, 256, 256),
)


@cases(
    "flow",
    STORAGES,
    FLOW_SHAPES,
    ("whole", "documents", "resume", "clamped"),
    quick=lambda storage, shape, what: shape[1] < 70 and shape[4] < 256 and what != "whole",
)
def flow_attention(device, storage, shape, what):
    B, T, H, _, D, _ = shape
    # Few keys that stand out: what flows out of them is clamped.
    one = Flow(device, storage, shape, what == "documents", **({"scale": 3, "shift": -4} if what == "clamped" else {}))
    before, state = None, None
    if what == "resume":
        before = state = device.given(np.abs(device.random.standard_normal((B * H, 4 * D + 2))) + 1, writable=True)
    elif what == "documents":
        state = device.room((B * H, 4 * D + 2))
    one.forward(state, what == "resume")
    if what != "resume":
        one.backward()
    if device.dry:
        return
    one.check_forward(before, state)
    if what != "resume":
        one.check_backward()
