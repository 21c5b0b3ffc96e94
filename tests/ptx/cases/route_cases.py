"""route_heads.cu: heads scaled by a row's logits, their balance, lengths of queries. depth_route.cu: mixes over depth."""

import numpy as np

from case import GAPS, LAYOUTS, STORAGES, WHOLE, Rows, add_chunks, cases, close_sums, slope
from device import ELEMENT, ROWS, pack, rows, vectors

STEP = 1e-30  # of derivatives by complex steps


def softmax(x):
    terms = np.exp(x - np.real(x).max(-1, keepdims=True))
    return terms / terms.sum(-1, keepdims=True)


# ---- route_heads.cu: heads, of these shared, of the others active, features, rows, whether factors are a mask.
ROUTINGS = (
    (8, 0, 3, 16, 9, False),
    (7, 1, 2, 13, 5, False),
    (9, 3, 4, 40, 6, False),
    (5, 2, 3, 9, 4, False),
    (6, 2, 2, 11, 7, True),
    (100, 10, 30, 3, 2, False),
)


class Routing:
    """The logits of rows, some of them equal, and what formulas/route_heads.h makes of them."""

    def __init__(self, device, storage, routing, rows_=None):
        self.heads, self.shared, self.active, self.D, count, self.mask = routing
        self.routed = self.heads - self.shared
        self.of_shared = self.shared if self.shared > 1 and not self.mask else 0
        self.of_parts = 2 if self.shared > 0 and not self.mask else 0
        self.make = Rows(device, WHOLE if self.D % 8 == 0 else GAPS, storage, rows=rows_ or count)
        self.struct = pack("iii?", self.heads, self.shared, self.active, self.mask)
        logits = 1.5 * device.random.standard_normal((self.make.rows, self.routed + self.of_shared + self.of_parts))
        logits[0] = 0.25  # all are alike
        logits[-1, : self.routed] = np.round(logits[-1, : self.routed])  # and some
        self.logits = device.given(logits, storage, **self.make.place(logits.shape[1]))
        self.name = ELEMENT[storage]

    def chosen(self):
        """[rows, routed]: those with the largest logits, of equal ones the first."""
        order = np.argsort(-self.logits.exact[:, : self.routed], axis=1, kind="stable")[:, : self.active]
        found = np.zeros((self.make.rows, self.routed))
        np.put_along_axis(found, order, 1, 1)
        return found

    def factors(self, logits):
        """[..., rows, heads]; for a mask what its gradient goes through."""
        of_routed, of_shared, of_parts = np.split(logits, [self.routed, self.routed + self.of_shared], axis=-1)
        if self.mask:
            return np.concatenate([np.ones((*logits.shape[:-1], self.shared)), softmax(of_routed)], -1)
        terms = np.exp(of_routed - np.real(of_routed).max(-1, keepdims=True)) * self.chosen()
        routed = self.active * terms / terms.sum(-1, keepdims=True)
        shared = self.shared * softmax(of_shared) if self.of_shared else np.ones((*logits.shape[:-1], self.shared))
        if self.of_parts:
            parts = 2 * softmax(of_parts)
            shared, routed = parts[..., :1] * shared, parts[..., 1:] * routed
        return np.concatenate([shared, routed], -1)


def routing_quick(storage, routing, where):
    return routing[0] < 100 and (where == "apart" or routing[1] == 3)


@cases("route heads", STORAGES, ROUTINGS, ("apart", "in place"), quick=routing_quick)
def route_heads(device, storage, routing, where):
    r = Routing(device, storage, routing)
    N, H, D, in_place = r.make.rows, r.heads, r.D, where == "in place"
    x, d_out = r.make.given(H * D, writable=in_place), r.make.given(H * D, writable=in_place)
    d_x, d_logits = d_out if in_place else r.make.room(H * D), r.make.room(r.logits.shape[1])
    places = [pack(ROWS, *rows(t)) for t in (x, r.logits, d_out, d_x, d_logits)]
    device.launch("route_heads", f"backward_kernel<{r.name}>", N, 128, r.struct, *places, D)
    out = x if in_place else r.make.room(H * D)
    device.launch("route_heads", f"forward_kernel<{r.name}>", N, 128, r.struct, *places[:2], pack(ROWS, *rows(out)), D)
    if device.dry:
        return
    logits = r.logits.exact
    factors = np.concatenate([np.ones((N, r.shared)), r.chosen()], 1) if r.mask else r.factors(logits)
    values, d = x.exact.reshape(N, H, D), d_out.exact.reshape(N, H, D)
    for name, to, of in (("out", out, values), ("d_x", d_x, d)):
        want = (factors[..., None] * of).reshape(N, -1)
        close_sums(device, name, to, want, np.abs(want), 16 + H)
    t, size = (d * values).sum(2), np.abs(d * values).sum(2)
    count = logits.shape[1]
    moved = logits + 1j * STEP * np.eye(count)[:, None, :]  # [logits, rows, logits]
    by_logit = np.imag(r.factors(moved)) / STEP
    # As magnitudes, before a head's own part of a softmax and that of all of them cancel.
    spread = np.abs(by_logit) + 2 * r.factors(logits) / np.maximum(r.routed, 1)
    want, sizes = (by_logit * t).sum(2).T, (spread * size).sum(2).T
    close_sums(device, "d_logits", d_logits, want, sizes, 16 + H)


# Rows of a sequence; more than a block has threads, or fewer.
@cases("route balance", STORAGES, (ROUTINGS[0], ROUTINGS[2], ROUTINGS[4]), (30, 150), ("a block each", "two blocks"))
def route_balance(device, storage, routing, T, blocks):
    sequences = 3
    r = Routing(device, storage, routing, sequences * T)
    N, E = r.make.rows, r.routed
    columns = r.logits.shape[1]
    d_logits, loss = r.make.given(columns, writable=True), device.given([2.0], writable=True)
    grid, value_scale, grad_scale = sequences if blocks == "a block each" else 2, 0.01, 3.0
    partial = device.room(grid)
    places = [pack(ROWS, *rows(t)) for t in (r.logits, d_logits)]
    device.launch(
        "route_heads", f"balance_kernel<{r.name}>", grid, 128, r.struct, *places, partial, sequences, T, grad_scale
    )
    device.launch("route_heads", "total_kernel<float>", 1, 256, loss, partial, grid, value_scale)
    if device.dry:
        return
    taken = r.chosen().reshape(sequences, T, E).mean(1)

    def shares(logits):
        return softmax(logits.reshape(*logits.shape[:-2], sequences, T, E))

    scale, logits = E / r.active, r.logits.exact[:, :E]
    losses = scale * (shares(logits).mean(1) * taken).sum(1)
    device.close("loss", loss, 2 + value_scale * losses.sum(), 32)
    moved = logits + 1j * STEP * np.eye(E)[:, None, :]
    by_logit = np.imag(shares(moved)) / STEP / T
    terms = grad_scale * scale * by_logit * taken[:, None]
    sizes = np.abs(terms).sum(-1) + grad_scale * scale * (shares(logits) * taken[:, None]).sum(-1) / T
    want = d_logits.exact.copy()
    want[:, :E] += terms.sum(-1).reshape(E, N).T
    magnitude = np.abs(d_logits.exact)
    magnitude[:, :E] += sizes.reshape(E, N).T
    close_sums(device, "d_logits", d_logits, want, magnitude)


# Heads, of these shared, features, rows.
@cases("query lengths", STORAGES, ((6, 2, 16, 9), (7, 0, 13, 5), (2, 0, 70, 4), (150, 10, 3, 3)))
def query_lengths(device, storage, sizes):
    H, shared, D, N = sizes
    count = H - shared
    make = Rows(device, WHOLE if D % 8 == 0 else GAPS, storage, rows=N)
    q, logits, d_logits, d_q = make.given(H * D), make.room(count), make.given(count), make.given(H * D, writable=True)
    q.exact[0, -D:] = 0  # a query without a direction
    q.bytes_of(device.heap.data)[0, -D * q.size :] = 0
    name, places = ELEMENT[storage], [pack(ROWS, *rows(t)) for t in (q, logits, d_logits, d_q)]
    device.launch("route_heads", f"lengths_kernel<{name}>", N, 128, *places[:2], shared, count, D)
    device.launch("route_heads", f"lengths_backward_kernel<{name}>", N, 128, places[0], *places[2:], shared, count, D)
    heads = q.exact.reshape(N, H, D)[:, shared:]
    lengths, d = np.sqrt((heads**2).sum(2)), d_logits.exact

    def by_deviation(n):
        variance = ((n - n.mean(-1, keepdims=True)) ** 2).sum(-1, keepdims=True) / (count - 1) + 1e-6
        return n / np.sqrt(variance)

    want = by_deviation(lengths)
    # Lengths are rounded before what they differ by is taken.
    worse = 1 + want.mean(1, keepdims=True)
    close_sums(device, "logits", logits, want, worse * want, 32)
    moved = lengths + 1j * STEP * np.eye(count)[:, None, :]
    by_length = np.imag(by_deviation(moved)) / STEP  # [of, rows, logits]
    d_lengths = (by_length * d).sum(2).T
    direction = np.where(lengths[..., None] > 0, heads / np.where(lengths > 0, lengths, 1)[..., None], 0)
    per_sigma = want.max(1, keepdims=True) / lengths.max(1, keepdims=True)
    away = np.abs(lengths - lengths.mean(1, keepdims=True)) + lengths.mean(1, keepdims=True) / 16
    spread = per_sigma * np.abs(d) + away * per_sigma**3 * (np.abs(d) * lengths).sum(1, keepdims=True) / (count - 1)
    expected, magnitude = d_q.exact.copy().reshape(N, H, D), np.abs(d_q.exact).reshape(N, H, D)
    expected[:, shared:] += d_lengths[..., None] * direction
    magnitude[:, shared:] += (worse * spread)[..., None] * np.abs(direction)
    close_sums(device, "d_q", d_q, expected.reshape(N, -1), magnitude.reshape(N, -1), 32)


# ---- depth_route.cu: the step between sources, the last state, how many are routed, what all weigh beside.
DEPTHS = ((1, 4, 5, 0.0), (3, 7, 3, 1.0), (2, 4, 2, 0.5), (1, 0, 1, 0.25), (4, 3, 2, 1.0), (1, 299, 280, 1.0))


class Depth:
    """The sources of N tokens of C columns, and the weights of formulas/depth_route.h."""

    def __init__(self, device, storage, layout, depth, columns, learned):
        self.step, self.last, self.routed, self.base = depth
        self.states = [*range(0, self.last, self.step), self.last]
        self.count, self.N = len(self.states), 7 if columns < 100 else 3
        self.C = C = columns - (0 if layout == WHOLE else 3)
        self.device, self.storage, self.make = device, storage, Rows(device, layout, storage, rows=self.N)
        self.x, self.out, self.d_out = self.make.given((self.last + 1) * C), self.make.room(C), self.make.given(C)
        spread = 4 / np.sqrt(C)  # of a query's features, so that logits are some
        self.query, self.gain = (device.normal(1, C, scale=spread), device.normal(1, C, shift=1)) if learned else (None, None)
        self.V = self.x.exact.reshape(self.N, -1, C)[:, self.states]

    def struct(self, *others):
        vector = self.C % 8 == 0 and vectors(self.x, *others, self.query, self.gain)
        sizes = (self.C, self.step, self.last, self.count, self.routed, self.base, 1e-5, self.query, self.gain)
        return pack(ROWS + "qqqiiffPP?", *rows(self.x), *sizes, vector)

    def weigh(self):
        """alpha [N, routed]; 1 / rms, logits, and how large a logit's parts are."""
        if not self.query:
            self.alpha = np.full((self.N, self.routed), 1 / max(self.routed, 1))
            self.worse = np.ones((self.N, 1))
            return
        V = self.V[:, : self.routed]
        self.key, self.squares = self.query.exact[0] * self.gain.exact[0], (V * V).mean(2)
        self.inverse = 1 / np.sqrt(self.squares + 1e-5)
        self.logits = self.inverse * (V @ self.key)
        self.alpha = softmax(self.logits)
        self.worse = 1 + (self.inverse * (np.abs(V) @ np.abs(self.key))).max(1, keepdims=True)

    def weights(self):
        found = np.full((self.N, self.count), self.base)
        found[:, : self.routed] += self.alpha
        return found

    def check_forward(self):
        weights = self.weights()[..., None]
        want, magnitude = (weights * self.V).sum(1), (weights * np.abs(self.V)).sum(1)
        close_sums(self.device, "out", self.out, want, self.worse * magnitude, 32)

    def gradients(self, sign):
        """Of the sources [N, sources, C], and g; with sign = np.abs what was added up to make them."""
        d, V = sign(self.d_out.exact), sign(self.V)
        found, g = self.weights()[..., None] * d[:, None], np.zeros(self.C)
        if self.query:
            routed = V[:, : self.routed]
            by_weight = (d[:, None] * routed).sum(2)  # of alpha
            moved = self.logits + 1j * STEP * np.eye(self.routed)[:, None, :]
            by_logit = np.imag(softmax(moved)) / STEP  # [of, N, alpha]
            if sign is np.abs:
                by_logit = np.abs(by_logit) + (self.alpha[None] * self.alpha.T[..., None])
            of_logit = (sign(by_logit) * by_weight).sum(2).T[..., None]
            # l = (key . V) / rms: by the product, and by the mean of squares.
            of_squares = slope(lambda s: 1 / np.sqrt(s + 1e-5), self.squares)
            by_square = sign(of_squares * (self.V[:, : self.routed] @ self.key))[..., None] * 2 / self.C * routed
            found[:, : self.routed] += of_logit * (self.inverse[..., None] * sign(self.key) + by_square)
            g = (of_logit * self.inverse[..., None] * routed).sum((0, 1))
        return found.reshape(self.N, -1), g


def depth_quick(storage, layout, depth, columns, how):
    return depth[1] < 100 and (columns == 40 or (storage, layout, how, depth) == ("bf16", GAPS, "learned", DEPTHS[1]))


@cases("depth route", STORAGES, LAYOUTS, DEPTHS, (40, 2104), ("learned", "even", "added"), quick=depth_quick)
def depth_route(device, storage, layout, depth, columns, how):
    if depth[1] > 100:
        columns = 16 if columns == 40 else 24
    one, add = Depth(device, storage, layout, depth, columns, how != "even"), how == "added"
    N, C, width = one.N, one.C, one.count * one.C
    name, chunks = ELEMENT[storage], min(N, 3)  # the host takes up to 256
    device.launch("depth_route", f"depth_route_kernel<{name}>", N, 256, one.struct(one.out), pack(ROWS, *rows(one.out)))
    d_sources = one.make.given(width, writable=True) if add else one.make.room(width)
    partial = device.room((chunks, C))
    places = [pack(ROWS, *rows(t)) for t in (one.d_out, d_sources)]
    struct = one.struct(one.d_out, d_sources)
    device.launch("depth_route", f"depth_route_backward_kernel<{name}>", chunks, 256, struct, *places, N, add, partial)
    learned = [device.normal(1, C, writable=True) if add else device.room(C) for _ in range(2)] if one.query else []
    if learned:
        g = device.room(C)
        add_chunks(device, g, partial, C, chunks, C, False)
        device.launch("depth_route", "products_kernel", -(-C // 256), 256, *learned, one.query, one.gain, g, C, add)
    if not device.dry:
        check_depth_route(one, d_sources, learned, add)


def check_depth_route(one, d_sources, learned, add):
    one.weigh()
    one.check_forward()
    (want, of_key), (magnitude, key_size) = one.gradients(np.asarray), one.gradients(np.abs)
    before = d_sources.exact if add else np.zeros_like(want)
    magnitude = np.abs(before) + np.repeat(one.worse, want.shape[1], 1) * magnitude
    close_sums(one.device, "d_sources", d_sources, before + want, magnitude, 32)
    for what, to, other in zip(("d_query", "d_gain"), learned, (one.gain, one.query)):
        before = to.exact[0] if add else 0
        size = np.abs(before) + np.abs(other.exact[0]) * one.worse.max() * key_size
        close_sums(one.device, what, to, before + other.exact[0] * of_key, size, 32)
