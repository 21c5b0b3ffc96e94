"""Attention from its definition, in double: weights of whole rows of scores, and their gradients by complex steps.

A function of scores is written once, forward. Its derivative is what a step of 1e-30 i in one score does to the imaginary
part: exact to rounding, and derived by nobody.
"""

import functools

import numpy as np

STEP = 1e-30
TOLERANCE = {"f32": 64 * 2.0**-24, "bf16": 2 * 2.0**-8}  # of results, relative to what was added up to make them
BEND = TOLERANCE["f32"]


def relu(x):
    return np.where(np.real(x) > 0, x, 0)


def share(s, visible, more=0.0):
    """Softmax over the visible, with `more` in the sum."""
    e = np.exp(s) * visible
    total = e.sum(-1, keepdims=True) + more
    return e / total, np.log(np.real(total))


def clip(x):
    return np.where(np.real(x) < 0, 0, np.where(np.real(x) > 1, 1, x))


# Each: s, visible [..., rows, keys], n [rows, 1] positions that a row sees, constants, what is learned -> weights, and the
# logarithm of what they are divided by where the kernels keep it. By the names of kernels/formulas/scores.
def softmax(s, visible, n, constants, learned):
    return share(s, visible)


def softmax_plus_one(s, visible, n, constants, learned):
    return share(s, visible, 1.0)


def sink_logit(s, visible, n, constants, learned):
    return share(s, visible, np.exp(learned))


def sigmoid(s, visible, n, constants, learned):
    bias, minus_log_length = constants
    return visible / (1 + np.exp(-(s + bias - (np.log(n) if minus_log_length else 0)))), None


def relu_score(s, visible, n, constants, learned):
    return relu(s) / n * visible, np.log(n)


def clipped_softmax(s, visible, n, constants, learned):
    weights, total = share(s, visible)
    gamma, _, zeta = constants
    return clip((zeta - gamma) * weights + gamma) * visible, total


def softpick(s, visible, n, constants, learned):
    terms = (np.exp(s) - 1) * visible
    total = (relu(terms) + relu(-terms)).sum(-1, keepdims=True) + constants[0]
    return relu(terms) / total, np.log(np.real(total))


def taylor2(s, visible, n, constants, learned):
    terms = (1 + s + s * s / 2) * visible
    total = terms.sum(-1, keepdims=True)
    return terms / total, np.log(np.real(total))


def elastic_softmax(s, visible, n, constants, learned):
    weights, _ = share(s, visible)
    return relu(weights + learned / n) * visible, None


def threshold(s, visible, n, constants, learned):
    beta, features = constants
    return relu(s - beta * np.sqrt(2 * np.log(n) / features)) ** 2 * visible, None


def visible_keys(first, last, window):
    """[T, T]: row i sees keys first[i] .. last[i], those less than `window` away."""
    row, key = np.arange(len(first))[:, None], np.arange(len(first))[None, :]
    seen = (key <= np.asarray(last)[:, None]) & (key >= np.asarray(first)[:, None])
    return seen & (abs(key - row) < window) if window else seen


class Head:
    """One query head: q, k, v [T, D]; slot: (key, value) that all rows see, or None; it comes first. kept: what dropout
    multiplies each weight with."""

    def __init__(self, weigh, q, k, v, scale, visible, constants, learned, slot=None, kept=1.0):
        self.n = visible.sum(1, keepdims=True).astype(float)
        self.weigh, self.constants, self.learned, self.scale, self.q = weigh, constants, learned, scale, q
        self.k = k if slot is None else np.concatenate([slot[0][None], k])
        self.v = v if slot is None else np.concatenate([slot[1][None], v])
        self.visible = visible if slot is None else np.concatenate([np.ones((len(q), 1), bool), visible], 1)
        self.s = scale * q @ self.k.T
        self.p, self.total = self.weights(self.s, self.learned)
        self.p, self.kept = np.real(self.p), kept
        self.out = (self.p * kept) @ self.v

    def weights(self, s, learned):
        return self.weigh(s, self.visible, self.n, self.constants, learned)

    def jacobian_at(self, scores):
        """[j, i, k]: the derivative of weight (i, k) by score (i, j)."""
        found = np.zeros((scores.shape[1], *scores.shape))
        for j in range(scores.shape[1]):
            s = scores.astype(complex)
            s[:, j] += 1j * STEP
            found[j] = np.imag(self.weights(s, self.learned)[0]) / STEP
        return found

    @functools.cached_property
    def jacobian(self):
        return self.jacobian_at(self.s)

    @property
    def score_sizes(self):
        """What rounding makes of scores is relative to these."""
        return 1 + self.scale * np.abs(self.q) @ np.abs(self.k.T)

    @functools.cached_property
    def bends(self):
        """How far derivatives move where scores are rounded as f32 rounds them: near a kink, as far as it jumps."""
        if self.weigh not in (relu_score, clipped_softmax, softpick, elastic_softmax, threshold):
            return np.zeros(1)
        away = BEND * self.score_sizes * np.where(np.indices(self.s.shape).sum(0) % 2, 1, -1)
        return np.maximum(*(np.abs(self.jacobian_at(self.s + by) - self.jacobian) for by in (away, -away)))

    def weight_sizes(self, storage):
        """Of every weight what its rounding, and in f32 that of the scores, is relative to."""
        if storage == "bf16":
            return self.p
        return self.p + (self.score_sizes.T[:, :, None] * np.abs(self.jacobian)).sum(0)

    def size(self, storage):
        """What is added up to make the output, as magnitudes."""
        return (self.weight_sizes(storage) * self.kept) @ np.abs(self.v)

    def backward(self, d_out, storage):
        """(gradient, what was added up to make it) of q, k, v (the slot's first); the gradient of what is learned."""
        dp, terms = d_out @ self.v.T * self.kept, np.abs(d_out) @ np.abs(self.v.T) * self.kept
        ds = (dp[None] * self.jacobian).sum(2).T
        # As magnitudes, and before a weight's own part and that of all weights cancel.
        sizes = np.abs(self.jacobian) + self.bends / TOLERANCE[storage]
        spread = (terms[None] * sizes).sum(2).T + np.abs(self.p) * (terms + (np.abs(self.p) * terms).sum(1, keepdims=True))
        d_learned = 0.0
        if self.learned is not None:
            moved = self.weights(self.s.astype(complex), self.learned + 1j * STEP)[0]
            d_learned = (dp * np.imag(moved)).sum() / STEP
        q, k, scale = np.abs(self.q), np.abs(self.k), self.scale
        return (
            (scale * ds @ self.k, scale * spread @ k),
            (scale * ds.T @ self.q, scale * spread.T @ q),
            ((self.p * self.kept).T @ d_out, (self.weight_sizes(storage) * self.kept).T @ np.abs(d_out)),
            d_learned,
        )
