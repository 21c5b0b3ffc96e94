#!/usr/bin/env python3
"""Golden values: what PyTorch computes in float64 for the models of cases.json, one small safetensors file a case.

    python3 tests/golden/make_golden.py [CASE ...]        (needs torch and numpy; any version of the last years will do)

The model below is written from the definitions, with explicit [T, T] attention matrices and autograd, and shares
nothing with the C++ sources; the score functions are those of exported models (src/kernels/formulas/scores/*.py). Initial values, tokens and the signs of the sketches are regenerated from Philox4x32-10
and so need not be stored. README.md in this folder says what the files hold.
"""

import collections
import json
import math
import struct
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent
INIT_STREAM = 1 << 32          # Stream::kInit: the low half is a hash of the parameter's name
GOLDEN_STREAM = 0x601D << 32   # this folder's own; the low half says what for
TOKENS, SIGNS = 1, 2
SKETCH = 32                    # projections of a sketch: one for each bit of a word
WHOLE = 256                    # tensors up to this many elements are stored whole

# ---- random numbers ------------------------------------------------------------------------------------------------


def philox(seed, stream, count):
    """The first `count` words of a stream: four of every position, in order. uint64 [count], each below 2^32."""
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    position = np.arange((count + 3) // 4, dtype=np.uint64)
    c = [position & low, position >> half] + [np.full_like(position, (stream >> s) & 0xFFFFFFFF) for s in (0, 32)]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> half) ^ c[1] ^ np.uint64(k0), p1 & low, (p0 >> half) ^ c[3] ^ np.uint64(k1), p0 & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=1).reshape(-1)[:count]


def name_hash(name):
    """FNV-1a, 32 bits."""
    h = 2166136261
    for byte in name.encode():
        h = ((h ^ byte) * 16777619) & 0xFFFFFFFF
    return h


def uniform(seed, stream, count):
    """[0, 1) with 24 bits."""
    return (philox(seed, stream, count) >> np.uint64(8)).astype(np.float64) * 2.0**-24


def normal(seed, stream, count):
    """Standard normal by Box-Muller, rounded to float32: words 2k and 2k+1 give the cosine and the sine partner."""
    words = philox(seed, stream, count + count % 2).astype(np.float64).reshape(-1, 2)
    radius = np.sqrt(-2.0 * np.log((words[:, 0] + 0.5) * 2.0**-32))
    angle = 6.283185307179586476925 * (words[:, 1] * 2.0**-32)
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return pairs.astype(np.float32).astype(np.float64).reshape(-1)[:count]


# ---- the model's parameters ----------------------------------------------------------------------------------------

PRESETS = {
    "custom": {},
    "softmax": {},
    "input_gated": {"gate": {"reads": "hidden", "site": "output", "grain": "head"}},
    "vga": {"gate": {"reads": "value", "site": "output", "grain": "head"}},
    "gated_attention": {
        "gate": {"reads": "hidden_head", "site": "output", "grain": "head", "bias": True, "opening": 0.5}
    },
    "gated_sdpa": {"gate": {"reads": "hidden", "site": "output", "grain": "element"}},
    "threshold": {"score": {"type": "threshold"}, "unit_length": True},
    "key_bias": {"key_bias": True},
    "key_value_bias": {"key_value_bias": True},
    "key_only": {"core": "key_only"},
    "output_norm": {"output_norm": "rmsnorm"},
    "diff_v2": {"difference": {"lambda": "projected"}},
    "diff_v1": {"difference": {"lambda": "scalar", "keys": "own"}, "output_norm": "rmsnorm_by_depth"},
    "grouped_diff": {
        "difference": {"lambda": "scalar", "signal": 0, "keys": "own"}, "output_norm": "rmsnorm_by_depth"
    },
    "affine": {"affine": {"type": "linear"}},
    "value_residual": {"value_residual": {"type": "learned"}},
    "moh": {"routed_heads": {"type": "linear"}},
}
STAGES = {  # what they are where a model does not say
    "affine": {"type": "none", "length": "row", "initial": 0.0},
    "value_residual": {"type": "none", "own": 0.5, "first": 0.5},
    "routed_heads": {"type": "none", "shared": -1, "active": 0, "balance": 0.01},
}


def score_functions():
    """What score.py defines, with the functions beside it: SCORES has each by name, Sizes is what they are told."""
    folder = HERE.parents[1] / "src" / "kernels" / "formulas" / "scores"
    space = {"torch": torch, "F": F, "math": math, "collections": collections}
    for path in [folder / "score.py", *sorted(set(folder.glob("*.py")) - {folder / "score.py"})]:
        exec(compile(path.read_text(), path, "exec"), space)
    return space


SPACE = score_functions()
SCORES = SPACE["SCORES"]
for name in SCORES:
    PRESETS.setdefault(name, {"score": {"type": name}})


def complete(model):
    """The model's settings with everything that may be left out."""
    m = {"kv_heads": model["heads"], "mlp_width": 4 * model["width"], "init_std": 0.02, "norm_epsilon": 1e-5}
    m = {**m, "norm": "layernorm", "norm_gate": 0, "qk_norm": False, "registers": 0, "rope_theta": 10000.0, **model}
    given = {"type": m["attention"]} if isinstance(m["attention"], str) else dict(m["attention"])
    preset = PRESETS[given.pop("type", "custom")]
    gate = {"reads": "none", "site": "output", "grain": "head", "bias": False, "opening": 0.5, "rank": 0}
    gate.update(preset.get("gate", {}))
    for key in list(given):
        if key in gate:
            gate[key] = given.pop(key)
    score = {"type": "softmax", **given.pop("score", preset.get("score", {}))}
    score = {**SCORES[score["type"]].constants, **score}
    stages = {name: {**plain, **preset.get(name, {}), **given.pop(name, {})} for name, plain in STAGES.items()}
    difference = {"lambda": "none", "signal": 1, "keys": "shared"}
    difference.update({**preset.get("difference", {}), **given.pop("difference", {})})
    attention = {"key_bias": False, "key_value_bias": False, "window": 0, "output_norm": "none", **preset}
    attention.update({**given, "gate": gate, **stages, "score": score, "difference": difference})
    head_size = m.get("head_size") or m["width"] // m["heads"]
    return {"value_head_size": head_size, **m, "attention": attention, "head_size": head_size}


def head_sizes(m):
    """Query heads, key/value heads, features of a query or key, of a value."""
    return m["heads"], m["kv_heads"], m["head_size"], m["value_head_size"]


def noise_heads(m):
    """How many heads are taken from others, and whether they have keys of their own."""
    H, KV, _, _ = head_sizes(m)
    difference = m["attention"]["difference"]
    if difference["lambda"] == "none":
        return 0, False
    return H // (difference["signal"] or H // KV), difference["keys"] == "own"


def stacked_qkv(m):
    """Rows of queries, keys and values in the weight that projects all."""
    H, KV, D, V = head_sizes(m)
    noise, own = noise_heads(m)
    return [(H + noise) * D, (2 if own else 1) * KV * D, KV * V]


def lambda_init(layer):
    return 0.8 - 0.6 * math.exp(-0.3 * layer)


def gate_inputs(m):
    """The names of the gate's weights, and how many features each reads."""
    H, KV, D, V = head_sizes(m)
    reads = m["attention"]["gate"]["reads"]
    if reads == "hidden_and_output":
        return {"gate": m["width"], "gate.output": H * V}
    return {"gate": {"hidden": m["width"], "hidden_head": V, "value": KV * V, "output": H * V}[reads]}


def routed_sizes(m):
    """Of heads of which each row takes some: the routed ones, the shared ones, the active ones."""
    H, routed = m["heads"], m["attention"]["routed_heads"]
    shared = H // 4 if routed["shared"] < 0 else routed["shared"]
    return H - shared, shared, routed["active"] or max(1, H // 2 - shared)


def declare(m):
    """name -> (shape, kind of init, its number, decay group)"""
    C, M = m["width"], m["mlp_width"]
    H, KV, D, V = head_sizes(m)
    a, gate = m["attention"], m["attention"]["gate"]
    gpt2 = m["init"] == "gpt2"
    out = {}

    def linear(name, rows, cols, bias, residual=False):
        std = m["init_std"] / (math.sqrt(2.0 * m["layers"]) if residual else 1)
        bound = 1.0 / math.sqrt(cols)
        out[name + ".weight"] = ((rows, cols), *(("normal", std) if gpt2 else ("uniform", bound)), "matrix")
        if bias:
            out[name + ".bias"] = ((rows,), *(("constant", 0) if gpt2 else ("uniform", bound)), "vector")

    def norm(name):
        out[name + ".weight"] = ((C,), "constant", 1, "norm")
        if m["norm"] == "layernorm":
            out[name + ".bias"] = ((C,), "constant", 0, "norm")
        if m["norm_gate"]:
            linear(name + ".gate.down", m["norm_gate"], C, False)
            linear(name + ".gate.up", C, m["norm_gate"], False)

    embedding_std = m["init_std"] if gpt2 else 1
    out["embedding.token.weight"] = ((m["vocab_size"], C), "normal", embedding_std, "embedding")
    if m["position"] == "learned":
        out["embedding.position.weight"] = ((m["context"], C), "normal", embedding_std, "embedding")
    if m["registers"]:
        out["embedding.register.weight"] = ((m["registers"], C), "normal", embedding_std, "embedding")
    for layer in range(m["layers"]):
        block = f"blocks.{layer}."
        norm(block + "norm1")
        linear(block + "attention.qkv", sum(stacked_qkv(m)), C, m["bias"])
        linear(block + "attention.output", C, H * V, m["bias"], residual=True)
        if m["qk_norm"]:
            for which in ("q_norm", "k_norm"):
                out[f"{block}attention.{which}.weight"] = ((D,), "constant", 1, "norm")
        noise, own = noise_heads(m)
        for core, heads in [("", H), ("second.", noise)] if own else [("", H + noise)]:
            prefix = block + "attention." + core
            if a["key_bias"] or a["key_value_bias"]:
                out[prefix + "key_bias"] = ((KV, D), "normal", 0.02, "vector")
            if a["key_value_bias"]:
                out[prefix + "value_bias"] = ((KV, V), "normal", 0.02, "vector")
            for name, initial in SCORES[a["score"]["type"]].learned.items():
                out[prefix + name] = ((heads,), "constant", initial, "vector")
        if a["value_residual"]["type"] == "learned" and layer > 0:
            for which in ("own", "first"):
                out[f"{block}attention.value_residual.{which}"] = ((1,), "constant", a["value_residual"][which], "vector")
        if a["affine"]["type"] != "none":
            linear(block + "attention.affine", H, C, False)
        if a["difference"]["lambda"] == "projected":
            linear(block + "attention.difference", H, C, False)
        elif noise:
            out[block + "attention.difference.lambda"] = ((4, D), "normal", 0.1, "vector")
        if a["output_norm"] != "none":
            out[block + "attention.output_norm.weight"] = ((V,), "constant", 1, "norm")
        if gate["reads"] != "none":
            heads = KV if gate["site"] == "source" else H
            rows = heads * (V if gate["grain"] == "element" else 1)
            for name, inputs in gate_inputs(m).items():
                if gate["rank"]:
                    linear(block + f"attention.{name}.down", gate["rank"], inputs, False)
                    linear(block + f"attention.{name}.up", rows, gate["rank"], False)
                else:
                    linear(block + f"attention.{name}", rows, inputs, False)
            if gate["bias"]:
                opening = gate["opening"]
                out[block + "attention.gate.bias"] = ((rows,), "constant", math.log(opening / (1 - opening)), "vector")
        if a["routed_heads"]["type"] == "linear":
            E, S, _ = routed_sizes(m)
            linear(block + "attention.routed_heads", E + (S if S > 1 else 0) + (2 if S else 0), C, False)
        norm(block + "norm2")
        linear(block + "mlp.up", 2 * M if m["mlp"] == "swiglu" else M, C, m["bias"])
        linear(block + "mlp.down", C, M, m["bias"], residual=True)
    norm("final_norm")
    if not m["tied_head"]:
        linear("head", m["vocab_size"], C, False)
    return out


def initial_values(m, seed, scatter):
    values = {}
    for name, (shape, kind, number, _) in declare(m).items():
        count, stream = math.prod(shape), INIT_STREAM | name_hash(name)
        if kind == "constant":
            x = np.full(count, float(number))
        elif kind == "uniform":
            x = -number + 2 * number * uniform(seed, stream, count)
        else:
            x = number * normal(seed, stream, count)
        if scatter:
            x = x + scatter * (2 * uniform(seed, GOLDEN_STREAM | name_hash(name), count) - 1)
        values[name] = torch.tensor(x.reshape(shape), dtype=torch.float64, requires_grad=True)
    return values


# ---- the model -----------------------------------------------------------------------------------------------------


def attention_weights(p, prefix, s, visible, m):
    """Rows of scores [B, H, T, keys] to attention weights; `visible` [T, keys] says which keys a row sees."""
    options = m["attention"]["score"]
    score = SCORES[options["type"]]
    T = s.shape[2]
    length = visible[:, -T:].sum(-1, keepdim=True).to(torch.float64)  # a bias slot, which comes first, not counted
    learned = {name: p[prefix + name] for name in score.learned}
    sizes = SPACE["Sizes"](m["context"], m["head_size"])
    return score.weigh(s, visible[None, None], length, options, learned, sizes)[0]


def gate_values(p, prefix, m, heads, x, v, out=None):
    """Gates that broadcast against [B, T, heads, V]; `out` [B, T, H * V] are the results."""
    gate, V = m["attention"]["gate"], m["value_head_size"]
    B, T = x.shape[:2]

    def read(name, r):
        if gate["rank"] == 0:
            return r @ p[f"{prefix}{name}.weight"].T
        hidden = r @ p[f"{prefix}{name}.down.weight"].T
        return (hidden * torch.sigmoid(hidden)) @ p[f"{prefix}{name}.up.weight"].T

    if gate["reads"] == "hidden_head":
        per_head = p[prefix + "gate.weight"].reshape(heads, -1, V)
        logits = torch.einsum("bthd,hgd->bthg", x.reshape(B, T, heads, V), per_head).reshape(B, T, -1)
    elif gate["reads"] == "hidden_and_output":
        logits = read("gate", x) + read("gate.output", out)
    else:
        logits = read("gate", {"hidden": x, "value": v, "output": out}[gate["reads"]])
    if gate["bias"]:
        logits = logits + p[prefix + "gate.bias"]
    return torch.sigmoid(logits).reshape(B, T, heads, -1)


def routed_heads(p, prefix, m, x, queries, losses):
    """What scales each head [B, T, H]; appends the layer's balance, times its weight, to `losses`."""
    options, (E, S, K) = m["attention"]["routed_heads"], routed_sizes(m)
    B, T, _ = x.shape
    if options["type"] == "query_norm":
        length = torch.sqrt((queries[:, :, S:] ** 2).sum(-1))
        variance = ((length - length.mean(-1, keepdim=True)) ** 2).sum(-1, keepdim=True) / (E - 1)
        logits = length / torch.sqrt(variance + 1e-6)
    else:
        every = x @ p[prefix + "routed_heads.weight"].T
        logits = every[..., :E]
    probability = torch.exp(logits) / torch.exp(logits).sum(-1, keepdim=True)
    mask = torch.zeros_like(logits)
    for b in range(B):
        for t in range(T):
            for e in sorted(range(E), key=lambda e: (-logits[b, t, e].item(), e))[:K]:
                mask[b, t, e] = 1
    losses.append(options["balance"] * E * (probability.mean(1) * mask.mean(1)).sum(-1).mean())
    if options["type"] == "query_norm":
        straight = mask + probability - probability.detach()
        return torch.cat([torch.ones(B, T, S, dtype=x.dtype), straight], dim=-1)
    routed = K * probability * mask / (probability * mask).sum(-1, keepdim=True)
    if S == 0:
        return routed
    shared = S * torch.softmax(every[..., E : E + S], -1) if S > 1 else torch.ones(B, T, 1, dtype=x.dtype)
    w = 2 * torch.softmax(every[..., -2:], -1)
    return torch.cat([w[..., :1] * shared, w[..., 1:] * routed], dim=-1)


def rms_norm(x, gain, epsilon):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + epsilon) * gain


def rope(x, theta):
    """x [B, T, heads, D]: every pair of features (i, i + D/2) as a complex number, times e^(i position speed)."""
    T, half = x.shape[1], x.shape[3] // 2
    speed = theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.outer(torch.arange(T, dtype=torch.float64), speed).reshape(1, T, 1, half)
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([turned.real, turned.imag], dim=-1)


def affine_weights(p, prefix, m, x, weights, visible):
    """Weights [B, H, T, keys] scaled and shifted; the last T keys are the tokens. The average is what it starts with."""
    affine, T = m["attention"]["affine"], x.shape[1]
    z = (x @ p[prefix + "affine.weight"].T).permute(0, 2, 1)[..., None]
    a = torch.sigmoid(z) if affine["type"] == "sigmoid" else torch.clamp(0.1 * z + 0.5, 0, 1)
    tokens = visible.double()
    tokens[:, : tokens.shape[1] - T] = 0
    count = tokens.sum(1, keepdim=True) if affine["length"] == "row" else m["context"]
    return a * weights + (affine["initial"] - a) / count * tokens


def weighted_values(p, prefix, m, queries, keys, values, x=None):
    """queries [B, T, heads, D], keys [B, T, KV, D] and values [B, T, KV, V] -> results [B, T, heads, V]; x: the layer's
    input, where affine scales the weights"""
    a = m["attention"]
    B, T, heads, D = queries.shape
    KV = keys.shape[2]
    visible = torch.ones(T, T, dtype=torch.bool).tril()
    if a["window"]:
        visible = visible.triu(1 - a["window"])  # j > i - window
    if a["key_bias"] or a["key_value_bias"]:  # one more key, which every row sees
        extra_key = p[prefix + "key_bias"].expand(B, 1, KV, D)
        learned = a["key_value_bias"]
        extra_value = p[prefix + "value_bias"].expand(B, 1, KV, -1) if learned else torch.zeros_like(values[:, :1])
        keys, values = torch.cat([extra_key, keys], dim=1), torch.cat([extra_value, values], dim=1)
        visible = torch.cat([torch.ones(T, 1, dtype=torch.bool), visible], dim=1)
    shared = torch.arange(heads) // (heads // KV)  # the key/value head of each query head
    if a.get("core") == "key_only":  # a key has one score, whoever looks
        s = (F.silu(queries) * keys[:, :, shared]).sum(-1).transpose(1, 2)[:, :, None].expand(-1, -1, T, -1) / math.sqrt(D)
    else:
        s = torch.einsum("bihd,bjhd->bhij", queries, keys[:, :, shared])
        if SCORES[a["score"]["type"]].scaled:
            s = s / math.sqrt(D)
    weights = attention_weights(p, prefix, s, visible, m)
    if x is not None and a["affine"]["type"] != "none":
        weights = affine_weights(p, prefix, m, x, weights, visible)
    return torch.einsum("bhij,bjhd->bihd", weights, values[:, :, shared])


def differential(p, prefix, m, layer, x, queries, keys, values):
    """Results of H heads, each less a share of its noise head's."""
    H, KV = m["heads"], m["kv_heads"]
    noise, own = noise_heads(m)
    of = torch.arange(H) // (H // noise)  # the noise head of each head
    if own:  # heads, then noise heads; keys of the ones, then of the others
        heads = weighted_values(p, prefix, m, queries[:, :, :H], keys[:, :, :KV], values)
        taken = weighted_values(p, prefix + "second.", m, queries[:, :, H:], keys[:, :, KV:], values)[:, :, of]
    else:  # a noise head behind those from which it is taken
        every = weighted_values(p, prefix, m, queries, keys, values)
        heads, taken = every[:, :, torch.arange(H) + of], every[:, :, (of + 1) * (H // noise) + of]
    if m["attention"]["difference"]["lambda"] == "projected":
        factor = torch.sigmoid(x @ p[prefix + "difference.weight"].T)[..., None]
    else:
        q1, k1, q2, k2 = p[prefix + "difference.lambda"]
        factor = torch.exp(q1 @ k1) - torch.exp(q2 @ k2) + lambda_init(layer)
    return heads - factor * taken


def attention(p, prefix, m, layer, x, first, losses):
    """x [B, T, C] -> [B, T, C] and the values [B, T, KV V]; `first`: those of the first layer, None in it. What the layer
    adds to the loss is appended to `losses`."""
    a = m["attention"]
    H, KV, D, V = head_sizes(m)
    B, T, _ = x.shape
    qkv = F.linear(x, p[prefix + "qkv.weight"], p.get(prefix + "qkv.bias"))
    q, k, v = torch.split(qkv, stacked_qkv(m), dim=-1)
    site = a["gate"]["site"] if a["gate"]["reads"] != "none" else None
    mix, own_v = a["value_residual"], v
    if mix["type"] != "none" and first is not None:
        learned = mix["type"] == "learned"
        own, of_first = (p[f"{prefix}value_residual.{name}"] if learned else mix[name] for name in ("own", "first"))
        own_v = own * v + of_first * first
    values = own_v.reshape(B, T, KV, V)
    if site == "source":
        values = gate_values(p, prefix, m, KV, x, v) * values
    queries, keys = q.reshape(B, T, -1, D), k.reshape(B, T, -1, D)
    if m["qk_norm"]:
        queries = rms_norm(queries, p[prefix + "q_norm.weight"], m["norm_epsilon"])
        keys = rms_norm(keys, p[prefix + "k_norm.weight"], m["norm_epsilon"])
    if a.get("unit_length"):
        queries, keys = (y / torch.sqrt((y * y).sum(-1, keepdim=True) + m["norm_epsilon"]) for y in (queries, keys))
    if m["position"] == "rope":
        queries, keys = rope(queries, m["rope_theta"]), rope(keys, m["rope_theta"])
    if a["difference"]["lambda"] != "none":
        out = differential(p, prefix, m, layer, x, queries, keys, values)
    else:
        out = weighted_values(p, prefix, m, queries, keys, values, x)
    if a["output_norm"] != "none":
        scale = 1 - lambda_init(layer) if a["output_norm"] == "rmsnorm_by_depth" else 1
        out = scale * rms_norm(out, p[prefix + "output_norm.weight"], m["norm_epsilon"])
    if site == "output":
        out = gate_values(p, prefix, m, H, x, v, out.reshape(B, T, H * V)) * out
    if a["routed_heads"]["type"] != "none":
        out = routed_heads(p, prefix, m, x, queries, losses)[..., None] * out
    return F.linear(out.reshape(B, T, H * V), p[prefix + "output.weight"], p.get(prefix + "output.bias")), v


def gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def activation(kind, h):
    """h [..., mlp_width], of swiglu twice that: gates, then what they scale."""
    if kind == "swiglu":
        gate, up = h.chunk(2, dim=-1)
        return gate * torch.sigmoid(gate) * up
    return {"relu": torch.relu, "gelu": gelu, "relu_squared": lambda x: torch.relu(x) ** 2}[kind](h)


def logits_of(p, m, tokens):
    """tokens [B, T] -> [B, T, V], and what else is learned: losses of parts, means over layers, with their weights."""
    losses = []

    def norm(name, x):
        if m["norm"] == "rmsnorm":
            y = rms_norm(x, p[name + ".weight"], m["norm_epsilon"])
        else:
            y = F.layer_norm(x, (m["width"],), p[name + ".weight"], p[name + ".bias"], m["norm_epsilon"])
        if m["norm_gate"]:
            hidden = y @ p[name + ".gate.down.weight"].T
            y = y * torch.sigmoid((hidden * torch.sigmoid(hidden)) @ p[name + ".gate.up.weight"].T)
        return y

    def linear(name, x):
        return F.linear(x, p[name + ".weight"], p.get(name + ".bias"))

    x = p["embedding.token.weight"][tokens]
    if m["position"] == "learned":
        x = x + p["embedding.position.weight"][: tokens.shape[1]]
    if m["registers"]:  # rows before the tokens'
        x = torch.cat([p["embedding.register.weight"].expand(len(tokens), -1, -1), x], dim=1)
    first = None
    for layer in range(m["layers"]):
        block = f"blocks.{layer}."
        out, v = attention(p, block + "attention.", m, layer, norm(block + "norm1", x), first, losses)
        first = v if first is None else first
        x = x + out
        h = linear(block + "mlp.up", norm(block + "norm2", x))
        x = x + linear(block + "mlp.down", activation(m["mlp"], h))
    head = p["embedding.token.weight" if m["tied_head"] else "head.weight"]
    return norm("final_norm", x[:, m["registers"] :]) @ head.T, sum(losses) / max(1, len(losses))


def batch_of(m, seed, batch):
    """Tokens [B, T] and targets, the tokens one further."""
    T = m["context"]
    words = philox(seed, GOLDEN_STREAM | TOKENS, batch * (T + 1)).astype(np.int64) % m["vocab_size"]
    rows = torch.from_numpy(words.reshape(batch, T + 1))
    return rows[:, :-1], rows[:, 1:]


def loss_of(logits, targets):
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


class Muon(torch.optim.Optimizer):
    """Muon (Keller Jordan, 2024) for hidden matrices, with the scale of arXiv 2502.16982; in float64."""

    def __init__(self, groups, lr, momentum):
        super().__init__(groups, {"lr": lr, "momentum": momentum})

    @staticmethod
    def orthogonal(u):
        x = u / u.norm()
        if x.shape[0] > x.shape[1]:
            return Muon.orthogonal(u.T).T
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        return x

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            lr, beta = group["lr"], group["momentum"]
            for p, rows in zip(group["params"], group["stacked"]):
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.mul_(beta).add_(p.grad, alpha=1 - beta)
                u = beta * m + (1 - beta) * p.grad
                parts = [0.2 * math.sqrt(max(part.shape)) * self.orthogonal(part) for part in torch.split(u, rows)]
                p.mul_(1 - lr * group["weight_decay"]).sub_(lr * torch.cat(parts))


def stacked_rows(m, name):
    """Rows of each matrix that is stacked in a hidden layer's weight; None for any other parameter."""
    M = m["mlp_width"]
    rows = {"attention.qkv": stacked_qkv(m), "attention.output": [m["width"]], "mlp.down": [m["width"]]}
    rows["mlp.up"] = [M, M] if m["mlp"] == "swiglu" else [M]
    return next((r for part, r in rows.items() if name.endswith(part + ".weight")), None)


def training_losses(m, case, run):
    """The losses before each of the first steps on the same batch."""
    p = initial_values(m, case["seed"], case.get("scatter", 0))
    tokens, targets = batch_of(m, case["seed"], case["batch"])
    decayed = run.get("decay", ["matrix", "embedding", "norm", "vector"])
    groups = [{"params": [], "weight_decay": run["weight_decay"]}, {"params": [], "weight_decay": 0.0}]
    for name, (_, _, _, group) in declare(m).items():
        groups[0 if group in decayed else 1]["params"].append(p[name])
    groups = [g for g in groups if g["params"]]
    names = {id(x): name for name, x in p.items()}
    optimizers = []
    if run["type"] == "muon":
        hidden = []
        for group in groups:
            mine = [x for x in group["params"] if stacked_rows(m, names[id(x)])]
            rest = [x for x in group["params"] if not stacked_rows(m, names[id(x)])]
            hidden.append({**group, "params": mine, "stacked": [stacked_rows(m, names[id(x)]) for x in mine]})
            group["params"] = rest
        optimizers.append(Muon([g for g in hidden if g["params"]], lr=run["lr"], momentum=run["momentum"]))
        groups = [g for g in groups if g["params"]]
    if run["type"] == "sgd":
        optimizers.append(torch.optim.SGD(groups, lr=run["lr"], momentum=run["momentum"]))
    else:
        optimizers.append(torch.optim.AdamW(groups, lr=run.get("adamw_lr", run["lr"]), betas=run["betas"], eps=1e-8))
    losses = []
    for _ in range(run["steps"]):
        for x in p.values():
            x.grad = None
        logits, parts = logits_of(p, m, tokens)
        loss = loss_of(logits, targets)
        (loss + parts).backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


# ---- files ---------------------------------------------------------------------------------------------------------


def sketch(x, seed, name):
    """The Euclidean norm of x, then sum_i sign_ki x_i for k < 32: sign_ki is + where bit k of the i-th word is 0."""
    words = philox(seed, GOLDEN_STREAM | (SIGNS ^ name_hash(name)), x.size)
    flat = x.reshape(-1)
    projections = [np.sum(np.where(words >> np.uint64(k) & np.uint64(1), -flat, flat)) for k in range(SKETCH)]
    return np.array([np.linalg.norm(flat)] + projections)


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, x in tensors.items():
        kind = {"float64": "F64", "float32": "F32"}[str(x.dtype)]
        header[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": [offset, offset + x.nbytes]}
        offset += x.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(x.tobytes() for x in tensors.values()))


def make(case, path):
    m = complete(case["model"])
    p = initial_values(m, case["seed"], case.get("scatter", 0))
    tokens, targets = batch_of(m, case["seed"], case["batch"])
    logits, parts = logits_of(p, m, tokens)
    loss = loss_of(logits, targets)
    (loss + parts).backward()
    tensors = {"loss": np.array([loss.item()])}
    for run in case.get("runs", []):
        tensors["losses." + run["name"]] = training_losses(m, case, run)
    large = {}

    def put(name, x, whole):
        x = np.ascontiguousarray(x.detach().numpy())
        if x.size <= WHOLE:
            tensors[name] = x
        elif whole:
            large[name] = x.astype(np.float32)
        else:
            tensors["sketch." + name] = sketch(x, case["seed"], name)

    put("logits", logits.reshape(-1, m["vocab_size"]), "runs" in case)
    for name in p:
        put("grad." + name, p[name].grad, case.get("whole_gradients", False))
    write_safetensors(path, {**tensors, **large})
    print(f"{path.relative_to(HERE)}: loss {loss.item():.6f}, {path.stat().st_size} bytes")


def main():
    cases = json.loads((HERE / "cases.json").read_text())
    shared = cases["attention"]
    todo = {case["name"]: case for case in cases["models"]}
    variants = {name: {"attention": name} for name in SCORES} | shared["variants"]
    for name, changes in variants.items():
        todo["attention_" + name] = {**shared, "model": {**shared["model"], **changes}}
    unknown = set(sys.argv[1:]) - set(todo)
    if unknown:
        sys.exit(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(todo)}")
    torch.set_num_threads(1)
    for name in sys.argv[1:] or todo:
        make(todo[name], HERE / f"{name}.safetensors")


if __name__ == "__main__":
    main()
