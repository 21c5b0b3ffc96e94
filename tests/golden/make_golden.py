#!/usr/bin/env python3
"""Golden values: what PyTorch computes in float64 for the models of cases.json, one small safetensors file a case.

    python3 tests/golden/make_golden.py [CASE ...]        (needs torch and numpy; any version of the last years will do)

The model below is written from the definitions, with explicit [T, T] attention matrices and autograd, and shares
nothing with the C++ sources; the score functions are those of exported models (src/kernels/formulas/scores/*.py). Initial values, tokens and the signs of the sketches are regenerated from Philox4x32-10
and so need not be stored. README.md in this folder says what the files hold.
"""

import collections
import functools
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
FIXED_ROWS_STREAM = 10 << 32   # Stream::kFixedRows
ORDER_STREAM = 11 << 32        # Stream::kWindowOrder: the low half is the layer
GOLDEN_STREAM = 0x601D << 32   # this folder's own; the low half says what for
TOKENS, SIGNS = 1, 2
SKETCH = 32                    # projections of a sketch: one for each bit of a word
WHOLE = 256                    # tensors up to this many elements are stored whole

# ---- random numbers ------------------------------------------------------------------------------------------------


def philox(seed, stream, count):
    """The first `count` words of a stream: four of every position, in order. uint64 [count], each below 2^32."""
    return philox_at(seed, stream, np.arange((count + 3) // 4, dtype=np.uint64)).reshape(-1)[:count]


def philox_at(seed, stream, position):
    """Four words of each position [n]: uint64 [n, 4]."""
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    c = [position & low, position >> half] + [np.full_like(position, (stream >> s) & 0xFFFFFFFF) for s in (0, 32)]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> half) ^ c[1] ^ np.uint64(k0), p1 & low, (p0 >> half) ^ c[3] ^ np.uint64(k1), p0 & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=1)


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
    "hyga": {
        "gate": {"reads": "hidden_and_output_head", "site": "output", "grain": "element", "rank": 8,
                 "second": {"reads": "output", "grain": "head"}},
    },
    "tda": {
        "score": {"type": "threshold"}, "unit_length": True, "difference": {"lambda": "clamped", "keys": "own"},
        "output_norm": "rmsnorm",
    },
    "threshold": {"score": {"type": "threshold"}, "unit_length": True},
    "key_bias": {"key_bias": True},
    "key_value_bias": {"key_value_bias": True},
    "key_only": {"core": "key_only"},
    "lightning": {
        "core": "linear", "feature_map": "silu", "output_norm": "layernorm_of_all",
        "gate": {"reads": "hidden", "grain": "element", "rank": -1, "rank_activation": "none"},
    },
    "transnormer": {
        "core": "linear", "feature_map": "silu", "output_norm": "simple_rmsnorm_of_all",
        "gate": {"reads": "hidden", "grain": "element", "activation": "none"},
    },
    "mlp": {"core": "mlp"},
    "static_qk": {"qk_source": {"type": "embedding"}},
    "random_qk": {"qk_source": {"type": "random"}},
    "output_norm": {"output_norm": "rmsnorm"},
    "diff_v2": {"difference": {"lambda": "projected"}},
    "diff_v1": {"difference": {"lambda": "scalar", "keys": "own"}, "output_norm": "rmsnorm_by_depth"},
    "grouped_diff": {
        "difference": {"lambda": "scalar", "signal": 0, "keys": "own"}, "output_norm": "rmsnorm_by_depth"
    },
    "affine": {"affine": {"type": "linear"}},
    "value_residual": {"value_residual": {"type": "learned"}},
    "stochastic": {"window": 256, "permuted": "gated"},
    "moh": {"routed_heads": {"type": "linear"}},
}
STAGES = {  # what they are where a model does not say
    "affine": {"type": "none", "length": "row", "initial": 0.0},
    "value_residual": {"type": "none", "own": 0.5, "first": 0.5},
    "qk_source": {"type": "hidden", "seed": 0},
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
    m = {"segment_embedding": False, "head_transform": False, "head_bias": False, **m}
    if isinstance(m.get("residual"), str):
        m["residual"] = {"type": m["residual"]}
    m["residual"] = {"type": "add", "blocks": 0, "init_std": 0, **m.get("residual", {})}
    given = {"type": m["attention"]} if isinstance(m["attention"], str) else dict(m["attention"])
    preset = PRESETS[given.pop("type", "custom")]
    plain_gate = {"reads": "none", "grain": "head", "bias": False, "opening": 0.5, "rank": 0}
    shortcuts = [*plain_gate, "site"]
    plain_gate.update({"rank_activation": "silu", "rank_bias": False, "activation": "sigmoid"})
    gate = {"site": "output", **plain_gate, "second": {}, **preset.get("gate", {}), **given.pop("gate", {})}
    for key in list(given):
        if key in shortcuts:
            gate[key] = given.pop(key)
    gate["second"] = {**plain_gate, **gate["second"], "site": gate["site"]}
    score = {"type": "softmax", **given.pop("score", preset.get("score", {}))}
    score = {**SCORES[score["type"]].constants, **score}
    stages = {name: {**plain, **preset.get(name, {}), **given.pop(name, {})} for name, plain in STAGES.items()}
    difference = {"lambda": "none", "signal": 1, "keys": "shared"}
    difference.update({**preset.get("difference", {}), **given.pop("difference", {})})
    attention = {"key_bias": False, "key_value_bias": False, "window": 0, "permuted": "none", "permutation_seed": 0}
    attention.update({"output_norm": "none", **preset})
    attention.update({**given, "gate": gate, **stages, "score": score, "difference": difference})
    head_size = m.get("head_size") or m["width"] // m["heads"]
    for one in (gate, gate["second"]):
        one["rank"] = m.get("value_head_size", head_size) if one["rank"] < 0 else one["rank"]
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


def mixer_width(m):
    """Hidden features of an MLP in attention's place: as many as make it as large as attention, a multiple of 8."""
    H, KV, D, V = head_sizes(m)
    columns = (H + KV) * D + (KV + H) * V
    return m["attention"].get("mlp_width") or max(8, (columns + 12) // 24 * 8)


def lambda_init(layer):
    return 0.8 - 0.6 * math.exp(-0.3 * layer)


def gates_of(m):
    """The gate and the second one, by the names of their parameters, as far as there are any."""
    gate = m["attention"]["gate"]
    return [(name, one) for name, one in (("gate", gate), ("gate.second", gate["second"])) if one["reads"] != "none"]


def gate_inputs(m, name, gate):
    """The names of a gate's weights, how many features each reads, and how many heads have a low rank of their own."""
    H, KV, D, V = head_sizes(m)
    reads = gate["reads"]
    own, results = (H, V) if reads.endswith("output_head") else (1, H * V)
    own = H if reads == "hidden_head" else own
    if reads.startswith("hidden_and_output"):
        return {name: (m["width"], own), name + ".output": (results, own)}
    sizes = {"hidden": m["width"], "hidden_head": V, "value": KV * V}
    return {name: (sizes.get(reads, results), own)}


def depth_sources(m, sublayer):
    """Of a mix over depth: for each source which sublayers' outputs it is the sum of, None the embedding; and how many have
    weights."""
    last, blocks = 2 * m["layers"], m["residual"]["blocks"]
    length = last // blocks if blocks else 1
    whole = [None] + [range(i, i + length) for i in range(0, sublayer - length + 1, length)]
    begun = [range(sublayer - sublayer % length, sublayer)] if sublayer % length else []
    if m["residual"]["type"] == "attention":
        return whole + begun, len(whole + begun)
    return whole + begun, 0 if sublayer == last else len(whole)


def route_name(m, sublayer):
    return f"blocks.{sublayer // 2}.route{sublayer % 2 + 1}" if sublayer < 2 * m["layers"] else "final_route"


def routed_sizes(m):
    """Of heads of which each row takes some: the routed ones, the shared ones, the active ones."""
    H, routed = m["heads"], m["attention"]["routed_heads"]
    shared = H // 4 if routed["shared"] < 0 else routed["shared"]
    return H - shared, shared, routed["active"] or max(1, H // 2 - shared)


def declare(m):
    """name -> (shape, kind of init, its number, decay group)"""
    C, M = m["width"], m["mlp_width"]
    H, KV, D, V = head_sizes(m)
    a = m["attention"]
    gpt2 = m["init"] in ("gpt2", "bert")
    out = {}

    def linear(name, rows, cols, bias, residual=False):
        std = m["init_std"] / (math.sqrt(2.0 * m["layers"]) if residual and m["init"] == "gpt2" else 1)
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
    if m["segment_embedding"]:
        out["embedding.segment.weight"] = ((1, C), "normal", embedding_std, "embedding")
    if m["registers"]:
        out["embedding.register.weight"] = ((m["registers"], C), "normal", embedding_std, "embedding")
    for layer in range(m["layers"]):
        block = f"blocks.{layer}."
        norm(block + "norm1")
        if a.get("core") == "mlp":
            linear(block + "attention.up", 2 * mixer_width(m), C, m["bias"])
            linear(block + "attention.down", C, mixer_width(m), m["bias"], residual=True)
        else:
            linear(block + "attention.qkv", sum(stacked_qkv(m)), C, m["bias"])
            linear(block + "attention.output", C, H * V, m["bias"], residual=True)
        if m["qk_norm"]:
            for which in ("q_norm", "k_norm"):
                out[f"{block}attention.{which}.weight"] = ((D,), "constant", 1, "norm")
        noise, own = noise_heads(m)
        cores = [("", H), ("second.", noise)] if own else [("", H + noise)]
        if a["permuted"] == "gated":
            for core, heads in cores:
                linear(f"{block}attention.{core}branch_gates", 2 * heads, C, False)
                out[f"{block}attention.{core}branch_gates.bias"] = ((2 * heads,), "constant", 0, "vector")
            cores += [(core + "window.", heads) for core, heads in cores]
        for core, heads in cores:
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
        elif a["difference"]["lambda"] == "clamped":
            out[block + "attention.difference.lambda"] = ((H,), "constant", 0.5, "vector")
        elif noise:
            out[block + "attention.difference.lambda"] = ((4, D), "normal", 0.1, "vector")
        if a["output_norm"] == "layernorm_of_all":
            out[block + "attention.output_norm.weight"] = ((H * V,), "constant", 1, "norm")
            out[block + "attention.output_norm.bias"] = ((H * V,), "constant", 0, "norm")
        elif a["output_norm"].startswith("rmsnorm"):
            out[block + "attention.output_norm.weight"] = ((V,), "constant", 1, "norm")
        for of_gate, gate in gates_of(m):
            heads = KV if gate["site"] == "source" else H
            rows = heads * (V if gate["grain"] == "element" else 1)
            for name, (inputs, own) in gate_inputs(m, of_gate, gate).items():
                if gate["rank"]:
                    linear(block + f"attention.{name}.down", own * gate["rank"], inputs, gate["rank_bias"])
                    linear(block + f"attention.{name}.up", rows, gate["rank"], False)
                else:
                    linear(block + f"attention.{name}", rows, inputs, False)
            if gate["bias"]:
                opening = gate["opening"]
                plain = gate["activation"] == "none"
                start = opening if plain else math.log(opening / (1 - opening))
                out[f"{block}attention.{of_gate}.bias"] = ((rows,), "constant", start, "vector")
        if a["routed_heads"]["type"] == "linear":
            E, S, _ = routed_sizes(m)
            linear(block + "attention.routed_heads", E + (S if S > 1 else 0) + (2 if S else 0), C, False)
        norm(block + "norm2")
        linear(block + "mlp.up", 2 * M if m["mlp"] == "swiglu" else M, C, m["bias"])
        linear(block + "mlp.down", C, M, m["bias"], residual=True)
    if m["residual"]["type"] not in ("add", "post_norm"):
        for sublayer in range(2 * m["layers"] + 1):
            if depth_sources(m, sublayer)[1] > 1:
                out[route_name(m, sublayer) + ".query"] = ((C,), "normal", m["residual"]["init_std"], "vector")
                out[route_name(m, sublayer) + ".gain"] = ((C,), "constant", 1, "norm")
    norm("final_norm")
    if not m["tied_head"]:
        linear("head", m["vocab_size"], C, False)
    if m["head_bias"]:
        out["head.bias"] = ((m["vocab_size"],), "constant", 0, "vector")
    if m["head_transform"]:
        linear("head.transform", C, C, m["bias"])
        norm("head.norm")
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
    """Products of the gates' openings, that broadcast against [B, T, heads, V]; `out` [B, T, H * V] are the results."""
    V = m["value_head_size"]
    B, T = x.shape[:2]

    def product(name, r, by_heads):
        weight = p[f"{prefix}{name}.weight"]
        if not by_heads:
            return r @ weight.T
        weight = weight.reshape(heads, -1, weight.shape[1])
        return torch.einsum("bthi,hoi->btho", r.reshape(B, T, heads, -1), weight).reshape(B, T, -1)

    def read(name, gate, r, slices=False, own_rank=False):
        if gate["rank"] == 0:
            return product(name, r, slices)
        hidden = product(name + ".down", r, slices) + (p[f"{prefix}{name}.down.bias"] if gate["rank_bias"] else 0)
        hidden = {"silu": F.silu, "relu": torch.relu, "none": lambda y: y}[gate["rank_activation"]](hidden)
        return product(name + ".up", hidden, own_rank)

    opened = 1
    for name, gate in gates_of(m):
        reads = gate["reads"]
        own = reads.endswith("output_head")
        if reads.startswith("hidden_and_output"):
            logits = read(name, gate, x, False, own) + read(name + ".output", gate, out, own, own)
        else:
            inputs = {"hidden": x, "hidden_head": x, "value": v, "output": out, "output_head": out}
            by_heads = own or reads == "hidden_head"
            logits = read(name, gate, inputs[reads], by_heads, by_heads)
        if gate["bias"]:
            logits = logits + p[f"{prefix}{name}.bias"]
        opening = torch.sigmoid(logits) if gate["activation"] == "sigmoid" else logits
        opened = opened * opening.reshape(B, T, heads, -1)
    return opened


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


def linear_slopes(H):
    """s of each head, which forgets by e^-s a row: of 2^-8/H, 2^-16/H ..., where H is no power of two of the power below
    it and then every second of twice that power."""
    power = 1 << (H.bit_length() - 1)
    series = lambda n: [2.0 ** (-8 * (h + 1) / n) for h in range(n)]
    return torch.tensor(series(power) + series(2 * power)[::2][: H - power], dtype=torch.float64)


def linear_attention(m, layer, queries, keys, values):
    """Row by row with a state [D, V] a head, which is what the weights lam^(i - j) q_i k_j come to."""
    B, T, H, D = queries.shape
    factor = {"none": 0.0, "head": 1.0}.get(m["attention"].get("decay"), 1 - layer / max(m["layers"] - 1, 1) + 1e-5)
    kept = torch.exp(-factor * linear_slopes(H)).reshape(1, H, 1, 1)
    shared = torch.arange(H) // (H // keys.shape[2])
    state, rows = torch.zeros(B, H, D, values.shape[3], dtype=torch.float64), []
    for i in range(T):
        state = kept * state + keys[:, i, shared, :, None] * values[:, i, shared, None, :]
        rows.append((queries[:, i, :, None, :] @ state)[:, :, 0])
    return torch.stack(rows, dim=1)


def flow_attention(queries, keys, values):
    """Flow-Attention: what flows into and out of every token, and the [T, T] weights that come of it."""
    B, T, H, D = queries.shape
    shared = torch.arange(H) // (H // keys.shape[2])
    a, b, e = torch.sigmoid(queries), torch.sigmoid(keys[:, :, shared]), 1e-6
    n = torch.arange(1, T + 1, dtype=torch.float64).reshape(1, T, 1)
    flow = lambda own, summed: ((own + e) * (summed.cumsum(1) + e)).sum(-1)
    incoming, outgoing = n / flow(a, b), n / flow(b, a)
    gate = torch.sigmoid(flow(a, b * outgoing[..., None]) / n)
    competitor = torch.exp(torch.clamp(flow(b, a * incoming[..., None]) / n, -5, 5))
    share = n * competitor / competitor.cumsum(1)
    weights = torch.einsum("bihd,bjhd->bhij", a * (incoming / n)[..., None], b).tril()
    out = torch.einsum("bhij,bjhd->bihd", weights, values[:, :, shared] * share[..., None])
    return gate[..., None] * out
@functools.lru_cache(maxsize=None)
def slots_of(seed, layer, context):
    """Of every place its slot in the layer's permutation. Slot by slot: a Feistel network of six rounds on two halves of
    `half` bits, again and again until it is at a place."""
    half = 1
    while 4**half < context:
        half += 1
    slots = [None] * context
    for slot in range(context):
        at = slot
        while True:
            left, right = divmod(at, 2**half)
            for number in range(6):
                word = int(philox_at(seed, ORDER_STREAM + layer, np.array([number << 32 | right], dtype=np.uint64))[0, 0])
                left, right = right, left ^ word % 2**half
            at = left * 2**half + right
            if at < context:
                break
        slots[at] = slot
    return torch.tensor(slots)


def weighted_values(p, prefix, m, queries, keys, values, x=None):
    """queries [B, T, heads, D], keys [B, T, KV, D] and values [B, T, KV, V] -> results [B, T, heads, V]; x: the layer's
    input, where affine scales the weights or gates two windows"""
    a, T, heads = m["attention"], queries.shape[1], queries.shape[2]
    all_rows = torch.ones(T, T, dtype=torch.bool)
    causal = all_rows.tril() if m.get("causal", True) else all_rows
    window = causal.triu(1 - a["window"]) if a["window"] else causal  # j > i - window
    if not m.get("causal", True) and a["window"]:
        window = window.tril(a["window"] - 1)
    if a["permuted"] == "none":
        return values_of_visible(p, prefix, m, queries, keys, values, window, x)
    slots = slots_of(a["permutation_seed"], int(prefix.split(".")[1]), m["context"])[:T]
    permuted = causal & ((slots[:, None] - slots).abs() < a["window"] / 2)
    far = values_of_visible(p, prefix, m, queries, keys, values, permuted, x)
    if a["permuted"] == "alone":
        return far
    near = values_of_visible(p, prefix + "window.", m, queries, keys, values, window, x)
    gates = torch.sigmoid(F.linear(x, p[prefix + "branch_gates.weight"], p[prefix + "branch_gates.bias"]))[..., None]
    return gates[:, :, :heads] * far + gates[:, :, heads:] * near


def values_of_visible(p, prefix, m, queries, keys, values, visible, x):
    a = m["attention"]
    B, T, heads, D = queries.shape
    KV = keys.shape[2]
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
    elif m["attention"]["difference"]["lambda"] == "clamped":
        factor = torch.clamp(p[prefix + "difference.lambda"], 0, 1)[:, None]
    else:
        q1, k1, q2, k2 = p[prefix + "difference.lambda"]
        factor = torch.exp(q1 @ k1) - torch.exp(q2 @ k2) + lambda_init(layer)
    return heads - factor * taken


def attention(p, prefix, m, layer, x, first, embedded, losses):
    """x [B, T, C] -> [B, T, C] and the values [B, T, KV V], mapped where they are; `first`: those of the first layer, None in
    it; `embedded`: what the layer's norm makes of the embedding. The last sequence is the fixed one, if there is such a source.
    What the layer adds to the loss is appended to `losses`."""
    a = m["attention"]
    H, KV, D, V = head_sizes(m)
    B, T, _ = x.shape

    def linear(name, x):
        return F.linear(x, p[prefix + name + ".weight"], p.get(prefix + name + ".bias"))

    if a.get("core") == "mlp":
        return linear("down", activation("swiglu", linear("up", x))), None
    q, k, v = torch.split(linear("qkv", x), stacked_qkv(m), dim=-1)
    source = a["qk_source"]["type"]
    if source == "embedding":
        q, k, _ = torch.split(linear("qkv", embedded), stacked_qkv(m), dim=-1)
    elif source != "hidden":
        q, k = q[-1:].expand_as(q), k[-1:].expand_as(k)
    site = a["gate"]["site"] if a["gate"]["reads"] != "none" else None
    maps = {"none": lambda y: y, "silu": lambda y: y * torch.sigmoid(y), "relu": torch.relu}
    mix, mapped = a["value_residual"], maps[a.get("value_map", "none")](v)
    own_v = mapped
    if mix["type"] != "none" and first is not None:
        learned = mix["type"] == "learned"
        own, of_first = (p[f"{prefix}value_residual.{name}"] if learned else mix[name] for name in ("own", "first"))
        own_v = own * mapped + of_first * first
    values = own_v.reshape(B, T, KV, V)
    if site == "source":
        values = gate_values(p, prefix, m, KV, x, v) * values
    queries, keys = q.reshape(B, T, -1, D), k.reshape(B, T, -1, D)
    if m["qk_norm"]:
        queries = rms_norm(queries, p[prefix + "q_norm.weight"], m["norm_epsilon"])
        keys = rms_norm(keys, p[prefix + "k_norm.weight"], m["norm_epsilon"])
    if a.get("unit_length"):
        queries, keys = (y / torch.sqrt((y * y).sum(-1, keepdim=True) + m["norm_epsilon"]) for y in (queries, keys))
    queries, keys = (maps[a.get("feature_map", "none")](y) for y in (queries, keys))
    if m["position"] == "rope":
        queries, keys = rope(queries, m["rope_theta"]), rope(keys, m["rope_theta"])
    if a.get("core") == "linear":
        out = linear_attention(m, layer, queries, keys, values)
    elif a.get("core") == "flow":
        out = flow_attention(queries, keys, values)
    elif a["difference"]["lambda"] != "none":
        out = differential(p, prefix, m, layer, x, queries, keys, values)
    else:
        out = weighted_values(p, prefix, m, queries, keys, values, x)
    if a["output_norm"] == "simple_rmsnorm_of_all":
        out = out * torch.rsqrt((out * out).mean((2, 3), keepdim=True) + m["norm_epsilon"])
    elif a["output_norm"] == "layernorm_of_all":
        norm = (p[f"{prefix}output_norm.{name}"] for name in ("weight", "bias"))
        out = F.layer_norm(out.reshape(B, T, H * V), (H * V,), *norm, m["norm_epsilon"]).reshape(out.shape)
    elif a["output_norm"] != "none":
        scale = 1 - lambda_init(layer) if a["output_norm"] == "rmsnorm_by_depth" else 1
        out = scale * rms_norm(out, p[prefix + "output_norm.weight"], m["norm_epsilon"])
    if site == "output":
        out = gate_values(p, prefix, m, H, x, v, out.reshape(B, T, H * V)) * out
    if a["routed_heads"]["type"] != "none":
        out = routed_heads(p, prefix, m, x, queries, losses)[..., None] * out
    return linear("output", out.reshape(B, T, H * V)), mapped


def gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def activation(kind, h):
    """h [..., mlp_width], of swiglu twice that: gates, then what they scale."""
    if kind == "swiglu":
        gate, up = h.chunk(2, dim=-1)
        return gate * torch.sigmoid(gate) * up
    return {"relu": torch.relu, "gelu": gelu, "gelu_erf": F.gelu, "relu_squared": lambda x: torch.relu(x) ** 2}[kind](h)


def mixed_over_depth(p, m, sublayer, embedding, outputs):
    """What a sublayer reads of the embedding and of what those before it have put out."""
    summed, routed = depth_sources(m, sublayer)
    sources = [embedding if of is None else sum(outputs[i] for i in of) for of in summed]
    mix = 0
    if routed:
        logits = [torch.zeros(embedding.shape[:2], dtype=torch.float64)] * routed
        if routed > 1:
            query, gain = (p[f"{route_name(m, sublayer)}.{which}"] for which in ("query", "gain"))
            logits = [rms_norm(source, gain, m["norm_epsilon"]) @ query for source in sources[:routed]]
        alpha = torch.softmax(torch.stack(logits), dim=0)
        mix = sum(alpha[i][..., None] * sources[i] for i in range(routed))
    return mix if m["residual"]["type"] == "attention" else sum(sources) + mix


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

    source, (B, T) = m["attention"]["qk_source"], tokens.shape
    if source["type"] == "text":
        tokens = torch.cat([tokens, torch.tensor(source["tokens"])[None, :T]])
    x = p["embedding.token.weight"][tokens]
    if m["position"] == "learned":
        x = x + p["embedding.position.weight"][:T]
    if m["segment_embedding"]:
        x = x + p["embedding.segment.weight"]
    if source["type"] == "random":
        deviation = m["init_std"] if m["init"] in ("gpt2", "bert") else 1
        rows = deviation * normal(source["seed"], FIXED_ROWS_STREAM, m["context"] * m["width"])
        x = torch.cat([x, torch.from_numpy(rows).reshape(1, m["context"], m["width"])[:, :T]])
    if m["registers"]:  # rows before the tokens'
        x = torch.cat([p["embedding.register.weight"].expand(len(x), -1, -1), x], dim=1)
    embedding, outputs, first = x, [], None
    normed = []  # of every sublayer

    def read(sublayer, name):
        """The norm of the stream at a sublayer."""
        if m["residual"]["type"] == "add":
            stream = sum(outputs, embedding)
        elif m["residual"]["type"] == "post_norm":
            stream = normed[-1] + outputs[-1] if outputs else embedding
        else:
            stream = mixed_over_depth(p, m, sublayer, embedding, outputs)
        normed.append(norm(name, stream))
        return normed[-1]

    for layer in range(m["layers"]):
        block = f"blocks.{layer}."
        x, embedded = read(2 * layer, block + "norm1"), norm(block + "norm1", embedding)
        out, v = attention(p, block + "attention.", m, layer, x, first, embedded, losses)
        first = v if first is None else first
        outputs.append(out)
        h = linear(block + "mlp.up", read(2 * layer + 1, block + "norm2"))
        outputs.append(linear(block + "mlp.down", activation(m["mlp"], h)))
    x = read(2 * m["layers"], "final_norm")[:B, m["registers"] :]
    if m["head_transform"]:
        x = norm("head.norm", activation(m["mlp"], linear("head.transform", x)))
    logits = F.linear(x, p["embedding.token.weight" if m["tied_head"] else "head.weight"], p.get("head.bias"))
    return logits, sum(losses) / max(1, len(losses))


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
    rows |= {"attention.up": [mixer_width(m)] * 2, "attention.down": [m["width"]]}
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
