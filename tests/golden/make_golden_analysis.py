#!/usr/bin/env python3
"""Golden figures of the full probe: what PyTorch and numpy find, in float64, for the models of analysis_cases below.

    python3 tests/golden/make_golden_analysis.py        (needs torch and numpy; writes analysis.json)

The definitions are those of docs/analysis.md, written from explicit attention matrices, autograd and numpy, one head of
one sequence at a time. The gradient that reaches a value is split by giving the attended values and the gate a copy of
the values each. Models, initial values and tokens are those of make_golden.py. tests/measure/analyzer_test.cc compares.
"""

import json
import math

import numpy as np
import torch
import torch.nn.functional as F

from make_golden import HERE, attention_weights, batch_of, complete, gate_values, gelu, initial_values

MODEL = {
    "vocab_size": 11, "context": 20, "layers": 2, "heads": 4, "kv_heads": 2, "width": 32, "mlp_width": 48, "mlp": "gelu",
    "position": "learned", "bias": True, "tied_head": False, "init": "pytorch",
}
SEED, BATCH, SCATTER = 7, 7, 0.6
THRESHOLDS = [0.05, 0.15, 0.3]
MAP = 6
VARIANTS = {
    "softmax": "softmax",
    "vga": "vga",
    "vga_source": {"type": "vga", "site": "source"},
    "vga_source_element": {"type": "vga", "site": "source", "grain": "element"},
    "input_gated_source": {"type": "input_gated", "site": "source"},
    "gated_sdpa": "gated_sdpa",
    "sigmoid": "sigmoid",
    "relu_key_value_bias": {"score": {"type": "relu"}, "key_value_bias": True},
    "key_bias": "key_bias",
    "sink_logit": "sink_logit",
    "softpick": "softpick",
    "clipped_softmax": "clipped_softmax",
}


def kept(x):
    x.retain_grad()
    return x


def attention(p, prefix, m, x, seen):
    """x [B, T, C] -> [B, T, C]; what the probe looks at goes into the dict `seen`."""
    a, H, KV, D = m["attention"], m["heads"], m["kv_heads"], m["head_size"]
    B, T, _ = x.shape
    qkv = F.linear(x, p[prefix + "qkv.weight"], p.get(prefix + "qkv.bias"))
    q, k, v = torch.split(qkv, [H * D, KV * D, KV * D], dim=-1)
    content, read = kept(v * 1.0), kept(v * 1.0)  # one copy is attended to, the other read by the gate
    seen["v"], seen["content"], seen["read"] = kept(v), content, read
    site = a["gate"]["site"] if a["gate"]["reads"] != "none" else None
    values, keys = content.reshape(B, T, KV, D), k.reshape(B, T, KV, D)
    if site is not None:
        seen["gate"] = gate_values(p, prefix, m, KV if site == "source" else H, x, read)
    if site == "source":
        values = seen["gate"] * values
    visible = torch.ones(T, T, dtype=torch.bool).tril()
    extra = a["key_bias"] or a["key_value_bias"]
    if extra:
        extra_key = p[prefix + "key_bias"].expand(B, 1, KV, D)
        extra_value = p[prefix + "value_bias"].expand(B, 1, KV, D) if a["key_value_bias"] else torch.zeros_like(extra_key)
        keys, values = torch.cat([extra_key, keys], dim=1), torch.cat([extra_value, values], dim=1)
        visible = torch.cat([torch.ones(T, 1, dtype=torch.bool), visible], dim=1)
    shared = torch.arange(H) // (H // KV)
    s = torch.einsum("bihd,bjhd->bhij", q.reshape(B, T, H, D), keys[:, :, shared]) / math.sqrt(D)
    weights = attention_weights(p, prefix, s, visible, m)
    seen["weights"] = weights[..., 1:] if extra else weights
    seen["bias_weights"] = weights[..., 0] if extra else None
    out = torch.einsum("bhij,bjhd->bihd", weights, values[:, :, shared])
    if site == "output":
        out = seen["gate"] * out
    seen["results"] = out.reshape(B, T, H * D)
    seen["output"] = F.linear(seen["results"], p[prefix + "output.weight"], p.get(prefix + "output.bias"))
    return seen["output"]


def run(p, m, tokens):
    """Logits, what the embedding and the final norm put out, and for each layer what was seen; `residual` of a layer is
    the block's output."""

    def norm(name, x):
        return F.layer_norm(x, (m["width"],), p[name + ".weight"], p[name + ".bias"], m["norm_epsilon"])

    x = p["embedding.token.weight"][tokens] + p["embedding.position.weight"][: tokens.shape[1]]
    embedded, layers = x, []
    for layer in range(m["layers"]):
        block, seen = f"blocks.{layer}.", {}
        seen["norm1"] = kept(norm(block + "norm1", x))
        x = x + attention(p, block + "attention.", m, seen["norm1"], seen)
        seen["norm2"] = norm(block + "norm2", x)
        h = F.linear(seen["norm2"], p[block + "mlp.up.weight"], p[block + "mlp.up.bias"])
        seen["mlp"] = F.linear(gelu(h), p[block + "mlp.down.weight"], p[block + "mlp.down.bias"])
        x = x + seen["mlp"]
        seen["residual"] = x
        seen["output_weight"] = p[block + "attention.output.weight"]
        layers.append(seen)
    final = norm("final_norm", x)
    return final @ p["head.weight"].T, embedded, final, layers


def array(x):
    return x.detach().numpy()


def mean(values):
    return float(np.mean(values)) if len(values) else 0.0


class Head:
    """The figures of one head from its arrays over sequences: weights [B, T, T], v and gradients [B, T, D], gate
    [B, T, g], update [B, T, C]."""

    def __init__(self, weights, bias_weights, normalised, v, gradient, content, read, gate, mass, update):
        B, T, _ = weights.shape
        self.T = T
        shares = np.abs(weights)
        whole = shares.sum(-1) + (0 if bias_weights is None else np.abs(bias_weights))
        unit = np.ones_like(whole) if normalised else np.divide(1, whole, out=np.zeros_like(whole), where=whole > 0)
        shares = shares * unit[..., None]
        self.shares = shares
        alpha = np.array([[shares[b, k:, k].mean() for k in range(T)] for b in range(B)])
        self.alpha = alpha[:, : T // 2 + 1]
        strongest = self.alpha.argmax(1)
        out = {"first_token_share": alpha[:, 0].mean(), "largest_share": self.alpha.max(1).mean()}
        if bias_weights is not None:
            out["bias_share"] = (np.abs(bias_weights) * unit).mean()
        out["row_mass"] = weights.sum(-1).mean()
        entropies, relative = [], []
        for b in range(B):
            for i in range(1, T):
                total = np.abs(weights[b, i, : i + 1]).sum()
                if total > 0:
                    q = np.abs(weights[b, i, : i + 1]) / total
                    q = q[q > 0]
                    entropies.append(-(q * np.log(q)).sum())
                    relative.append(entropies[-1] / math.log(i + 1))
        out["entropy"], out["relative_entropy"] = mean(entropies), mean(relative)
        out["stable_rank"] = mean([(u**2).sum() / np.linalg.norm(u, 2) ** 2 if u.any() else 0 for u in update])
        out["later_sink_share"] = (self.alpha[:, 1:] > 0.1).any(1).mean()
        out["sinks_per_sequence"] = (self.alpha > 0.1).sum(1).mean()
        out["concentration"] = mean([np.linalg.norm(a, "fro") for a in shares])
        for distance in range(4):
            out[f"local_focus_{distance}"] = mean([np.diagonal(a, -distance).mean() for a in shares])
        first = np.zeros((B, T), dtype=bool)
        first[:, 0] = True
        largest = np.zeros((B, T), dtype=bool)
        largest[np.arange(B), strongest] = True

        def compare(name, x, names=("first", "rest", "ratio")):
            for key, value in zip(names, (x[first].mean(), x[~first].mean(), x[first].mean() / x[~first].mean())):
                out[f"{name}_{key}"] = value

        size = np.linalg.norm(v, axis=-1)
        compare("value_norm", size)
        out["value_norm_ratio_largest"] = size[largest].mean() / size[~largest].mean()
        if gate is not None:
            opened = gate.mean(-1)
            out["gate_mean"], out["gate_closed_share"] = gate.mean(), (gate < 0.1).mean()
            out["gate_first"], out["gate_largest"] = opened[first].mean(), opened[largest].mean()
        compare("attention_mass", mass)
        slope = np.linalg.norm(gradient, axis=-1)
        compare("value_gradient", slope)
        out["value_gradient_ratio_largest"] = slope[largest].mean() / slope[~largest].mean()
        out["value_gradient_per_mass"] = out["value_gradient_ratio"] / out["attention_mass_ratio"]
        compare("value_gradient_radial", (gradient * v).sum(-1) / size, names=("first", "rest"))
        self.curves = {"attention": alpha.mean(0), "value_norm": size.mean(0), "value_gradient": slope.mean(0)}
        if gate is not None:
            self.curves["gate"] = opened.mean(0)
        if read is not None:
            compare("content_gradient", np.linalg.norm(content, axis=-1))
            compare("gate_gradient", np.linalg.norm(read, axis=-1))
            self.curves["gate_gradient"] = np.linalg.norm(read, axis=-1).mean(0)
        self.map = [list(shares[:, i, : i + 1].mean(0)) for i in range(MAP)]
        self.figures = {key: float(value) for key, value in out.items()}


def sink_rates(alphas):
    """From [heads * sequences, candidate positions]."""
    out = {}
    for threshold in THRESHOLDS:
        rates = (alphas > threshold).mean(0)
        out[str(threshold)] = {"first": rates[0], "largest": rates.max(), "position": int(rates.argmax()),
                               "any": (alphas > threshold).any(1).mean(),
                               "later": (alphas[:, 1:] > threshold).any(1).mean(),
                               "count": (alphas > threshold).sum(1).mean()}
    return out


def kurtosis(x):
    centred = x - x.mean()
    return (centred**4).mean() / (centred**2).mean() ** 2


def alike(residual):
    """[B, T - 1]: which of the tokens after the first point where that does."""
    unit = residual / np.linalg.norm(residual, axis=-1, keepdims=True)
    return np.abs(np.einsum("btc,bc->bt", unit[:, 1:], unit[:, 0])) > 0.9


def ratio(a, b):
    """Of the means; None where there is nothing."""
    return float(np.mean(a) / np.mean(b)) if len(a) and len(b) else None


def along_first(residual, mlp):
    """Of the tokens that point where the first does, and of the others: sizes, and |cos| between what the MLP puts out
    and the first position's row."""
    sinks = alike(residual)
    size = np.linalg.norm(residual, axis=-1)
    cosine = np.abs(np.einsum("btc,bc->bt", mlp, residual[:, 0])) / np.linalg.norm(mlp, axis=-1) / size[:, :1]
    sizes, cosines = size[:, 1:][sinks], cosine[:, 1:]
    return {"secondary_norm_by_first": ratio(sizes, size[:, 0]), "secondary_norm_by_others": ratio(sizes, size[:, 1:][~sinks]),
            "mlp_cosine_first": cosine[:, 0].mean(), "mlp_cosine_secondary": ratio(cosines[sinks], [1]),
            "mlp_cosine_others": ratio(cosines[~sinks], [1])}


def secondary_sinks(embedded, residuals):
    """Lifetimes as shares of the depth, and counts of each sequence; where secondary sinks are."""
    depth, lifetimes, secondary, primary_like = len(residuals), [], [], []
    blocks, positions, firsts = [], [], []
    first = np.stack([np.linalg.norm(x[:, 0], axis=-1) for x in [embedded] + residuals])  # [L + 1, B]
    sinks = np.stack([alike(x) for x in residuals])                                       # [L, B, T - 1]
    for b in range(first.shape[1]):
        steps = np.diff(first[:, b])
        begin = int(steps.argmax())
        after = steps[begin + 1:]
        end = begin + 1 + int(after.argmin()) if len(after) and after.min() < 0 else depth
        lifetime = sinks[begin:end, b].sum(0)
        lifetimes += [n / depth for n in lifetime if n > 0]
        primary_like.append((lifetime == end - begin).sum())
        found = (lifetime < end - begin) & (lifetime > depth / 7)
        secondary.append(found.sum())
        at = np.flatnonzero(found) + 1
        positions += list(at)
        firsts += list(at[:1])
        blocks += list(lifetime[found])
    return {"secondary_sinks": mean(secondary), "primary_like_sinks": mean(primary_like),
            "secondary_sink_lifetime": mean(lifetimes), "secondary_sink_blocks": ratio(blocks, [1]),
            "secondary_sink_position": ratio(positions, [1]), "secondary_sink_first_position": ratio(firsts, [1]),
            "secondary_sink_at_second": ratio([at == 1 for at in positions], [1])}


def first_and_rest(name, x):
    """Of norms [B, T]."""
    return {f"{name}_first": x[:, 0].mean(), f"{name}_rest": x[:, 1:].mean(), f"{name}_ratio": x[:, 0].mean() / x[:, 1:].mean()}


def elements(name, x):
    return {f"{name}_infinity_norm": mean([np.abs(one).max() for one in x]),
            f"{name}_kurtosis": mean([kurtosis(one) for one in x])}


def layer_figures(seen, heads):
    output, residual, mlp, norm2 = (array(seen[key]) for key in ("output", "residual", "mlp", "norm2"))
    deviation = np.std([head.shares for head in heads], axis=0)  # [B, T, T]
    visible = np.tril(np.ones(deviation.shape[1:], dtype=bool))
    norms = np.linalg.norm(residual, axis=-1)
    size = np.abs(residual)
    largest = np.unravel_index(size.argmax(), size.shape)
    return {
        **elements("output", output), **elements("residual", residual), **elements("mlp_output", mlp),
        **elements("mlp_sum", norm2 + mlp), **elements("norm1", array(seen["norm1"])), **elements("norm2", norm2),
        "head_diversity": deviation[:, visible].mean(),
        "secondary_sink_share": alike(residual).mean(), **along_first(residual, mlp),
        **first_and_rest("input_gradient", np.linalg.norm(array(seen["norm1"].grad), axis=-1)),
        "residual_largest": size.max(),
        "residual_over_median": mean([x.max() / np.median(x) for x in size]),
        "residual_norm_first": norms[:, 0].mean(),
        "residual_norm_rest": norms[:, 1:].mean(),
        "residual_position": int(largest[1]),
        "residual_feature": int(largest[2]),
    }


def heads_of(m, seen):
    H, KV, D, gate = m["heads"], m["kv_heads"], m["head_size"], m["attention"]["gate"]
    normalised = m["attention"]["score"]["type"] not in ("sigmoid", "relu")
    weights = array(seen["weights"])
    bias = None if seen["bias_weights"] is None else array(seen["bias_weights"])
    reads_values = gate["reads"] == "value"
    B, T = weights.shape[0], weights.shape[2]

    def of(x, kv):
        return array(x).reshape(B, T, KV, D)[:, :, kv]

    out = []
    for h in range(H):
        kv = h // (H // KV)
        sharing = [other for other in range(H) if other // (H // KV) == kv]
        gates = None
        if "gate" in seen:
            g = array(seen["gate"])
            gates = g[:, :, h // (H // g.shape[2])]
        out.append(Head(weights[:, h], None if bias is None else bias[:, h], normalised, of(seen["v"], kv),
                        of(seen["v"].grad, kv), of(seen["content"].grad, kv),
                        of(seen["read"].grad, kv) if reads_values else None, gates,
                        weights[:, sharing].sum(axis=(1, 2)),
                        array(seen["results"])[:, :, h * D : (h + 1) * D] @ array(seen["output_weight"])[:, h * D : (h + 1) * D].T))
    return out


def summary(loss, layers, heads, final, secondary):
    def over(figures, key, how=np.mean):
        return float(how([one[key] for one in figures])) if key in figures[0] else None

    def all_of(what, *tensors):
        return [elements("final", final)[f"final_{what}"]] + [one[f"{name}_{what}"] for one in layers for name in tensors]

    h = [one.figures for one in heads]
    rates = sink_rates(np.concatenate([one.alpha for one in heads]))
    last = rates[str(THRESHOLDS[-1])]
    out = {
        "loss": loss, "perplexity": math.exp(loss),
        "sink_rate": last["first"], "sink_rate_largest": last["largest"], "sink_rate_any": last["any"],
        "sink_rate_later": last["later"],
        "value_norm_ratio_least": over(h, "value_norm_ratio", np.min),
        "infinity_norm": over(layers, "output_infinity_norm", np.max), "kurtosis": over(layers, "output_kurtosis"),
        "residual_infinity_norm": over(layers, "residual_infinity_norm", np.max),
        "residual_kurtosis": over(layers, "residual_kurtosis"),
        "massive_activation": over(layers, "residual_largest"),
        "massive_over_median": over(layers, "residual_over_median", np.max),
        "max_io_norm": over(layers, "mlp_sum_infinity_norm", np.max),
        "mlp_output_kurtosis": over(layers, "mlp_output_kurtosis"), "mlp_sum_kurtosis": over(layers, "mlp_sum_kurtosis"),
        "norms_kurtosis": mean(all_of("kurtosis", "norm1", "norm2")),
        "tensors_infinity_norm": max(all_of("infinity_norm", "norm1", "output", "norm2", "mlp_output", "residual")),
        "tensors_kurtosis": mean(all_of("kurtosis", "norm1", "output", "norm2", "mlp_output", "residual")),
        "head_diversity": over(layers, "head_diversity"), "secondary_sink_share": over(layers, "secondary_sink_share"),
        "gradient_sink_ratio": over(layers, "input_gradient_ratio", np.median),
    }
    for key in ("first_token_share", "bias_share", "entropy", "relative_entropy", "value_norm_ratio",
                "value_norm_ratio_largest", "gate_mean", "gate_closed_share", "gate_first", "attention_mass_ratio",
                "value_gradient_ratio", "value_gradient_per_mass", "content_gradient_ratio", "gate_gradient_ratio",
                "stable_rank", "later_sink_share", "sinks_per_sequence", "concentration", "local_focus_0", "local_focus_1",
                "local_focus_2", "local_focus_3"):
        out[key] = over(h, key)
    return {**{key: value for key, value in out.items() if value is not None}, **secondary}, rates


def analyse(variant):
    m = complete({**MODEL, "attention": variant})
    p = initial_values(m, SEED, SCATTER)
    tokens, targets = batch_of(m, SEED, BATCH)
    logits, embedded, final, layers = run(p, m, tokens)
    losses = F.cross_entropy(logits.reshape(-1, m["vocab_size"]), targets.reshape(-1), reduction="none")
    losses.reshape(BATCH, -1).mean(1).sum().backward()  # of each sequence its mean loss
    heads = [heads_of(m, seen) for seen in layers]
    figures = [layer_figures(seen, of_layer) for seen, of_layer in zip(layers, heads)]
    flat = [one for layer in heads for one in layer]
    secondary = secondary_sinks(array(embedded), [array(seen["residual"]) for seen in layers])
    whole, rates = summary(losses.mean().item(), figures, flat, array(final), secondary)
    corner = flat[1]  # one head's curves and map
    return {
        "summary": whole, "sink_rates": rates, "layers": figures,
        "heads": [{**one.figures, "sink_rate": sink_rates(one.alpha)[str(THRESHOLDS[-1])]["first"],
                   "sink_rates": sink_rates(one.alpha)} for one in flat],
        "curves": {key: list(curve) for key, curve in corner.curves.items()}, "map": corner.map,
        "residual_norm": [list(np.linalg.norm(array(x), axis=-1).mean(0))
                          for x in [embedded] + [seen["residual"] for seen in layers]],
    }


def short(x):
    """Eight digits are more than the comparison needs."""
    if isinstance(x, dict):
        return {key: short(value) for key, value in x.items()}
    if isinstance(x, list):
        return [short(value) for value in x]
    return x if x is None or isinstance(x, int) else float(f"{x:.8g}")


def main():
    torch.set_num_threads(1)
    cases = {name: {"attention": variant, **short(analyse(variant))} for name, variant in VARIANTS.items()}
    out = {"model": MODEL, "seed": SEED, "batch": BATCH, "scatter": SCATTER, "thresholds": THRESHOLDS, "map": MAP,
           "cases": cases}
    lines = [f" {json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items()]
    head = json.dumps({key: value for key, value in out.items() if key != "cases"})
    path = HERE / "analysis.json"
    path.write_text(head[:-1] + ', "cases": {\n' + ",\n".join(lines) + "\n}}\n")
    print(f"{path.name}: {len(cases)} cases, {path.stat().st_size} bytes")
    for name, case in cases.items():
        s = case["summary"]
        print(f"  {name}: sinks {s['sink_rate']:.3f} {s['sink_rate_any']:.3f}, first {s['first_token_share']:.3f}")


if __name__ == "__main__":
    main()
