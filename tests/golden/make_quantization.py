#!/usr/bin/env python3
"""Golden values of quantization: what PyTorch computes in float64 for the cases of quantization.json, one JSON file.

    python3 tests/golden/make_quantization.py        (needs torch and numpy)

The models, initial values and tokens are make_golden.py's. A torch function mode stands before every product with a
linear layer's weight, whatever function computes it, and sees or replaces its operands; grids, percentiles and the search for
the least squared error are written from their definitions (docs/quantization.md). Sequence n of the data is row n of
the stream of tokens.
"""

import json

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

import make_golden as golden

CANDIDATES = 100


class Products(TorchFunctionMode):
    """operands(name, x, weight) -> (x, weight) before the products with weights of linear layers."""

    def __init__(self, p, operands):
        super().__init__()
        weights = {n: w for n, w in p.items()
                   if n.startswith(("blocks.", "head.transform.")) and n.endswith(".weight") and w.dim() == 2}
        self.names = {w.data_ptr(): n for n, w in weights.items()}
        self.p, self.operands = p, operands

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        places = {torch.nn.functional.linear: 0, torch.Tensor.matmul: 0, torch.Tensor.__matmul__: 0, torch.einsum: 1}
        if function in places:
            at = places[function]
            x, weight = args[at], args[at + 1]
            name = self.names.get(weight.data_ptr())
            if name is not None:
                x, w = self.operands(name[: -len(".weight")], x, self.p[name])
                w = w.T if function in (torch.Tensor.matmul, torch.Tensor.__matmul__) else w
                args = (*args[:at], x, w.reshape(weight.shape), *args[at + 2 :])
        return function(*args, **kwargs)


def on_grid(x, scale, low, high):
    return scale * torch.clamp(torch.round(x / scale), low, high)


def symmetric(largest, bits):
    half = 2.0 ** (bits - 1)
    return float(largest) / (half - 1), -half, half - 1


def asymmetric(least, greatest, bits):
    least, greatest, points = min(float(least), 0.0), max(float(greatest), 0.0), 2.0**bits - 1
    scale = (greatest - least) / points
    zero = float(np.clip(np.round(-least / scale), 0, points))
    return scale, -zero, points - zero


def weight_grid(rows, case):
    """The grid of a matrix, or of one of its rows."""
    bits, largest = case.get("weight_bits", 8), rows.abs().max()
    if not case.get("mse", False):
        return symmetric(largest, bits)
    grids = [symmetric(largest * k / CANDIDATES, bits) for k in range(CANDIDATES, 0, -1)]
    errors = [((rows - on_grid(rows, *grid)) ** 2).sum().item() for grid in grids]
    return grids[int(np.argmin(errors))]


def clipped(x, scale, low, high):
    return ((x / scale < low - 0.5) | (x / scale > high + 0.5)).double().mean().item()


def relative_error(x, y):
    return (((x - y) ** 2).sum() / (x**2).sum()).sqrt().item()


class Layer:
    def __init__(self, weight, matrices, case):
        """matrices: the rows of each matrix that is stacked in the weight."""
        w = weight.detach()
        parts = w.split(1 if case.get("per_channel", False) else matrices)
        self.grids = [weight_grid(part, case) for part in parts]
        self.weight = torch.cat([on_grid(part, *grid) for part, grid in zip(parts, self.grids)])
        self.weight_clipped = sum(clipped(part, *grid) * len(part) for part, grid in zip(parts, self.grids)) / len(w)
        self.weight_error = relative_error(w, self.weight)
        self.weight_norm = w.abs().max().item()
        self.batches = []

    def lay_input_grid(self, case):
        """self.batches: the inputs, [B, T, ...] each."""
        x = torch.stack(self.batches)
        if "percentile" in case:
            ends = np.percentile(x.numpy(), [100 - case["percentile"], case["percentile"]])
        else:
            ends = None
            for batch in self.batches:
                now = np.array([batch.min().item(), batch.max().item()])
                ends = now if ends is None else 0.9 * ends + 0.1 * now
        self.grid = asymmetric(*ends, case.get("input_bits", 8))
        self.least, self.greatest = x.min().item(), x.max().item()
        self.norm = x.abs().flatten(2).max(dim=2).values.mean().item()
        self.input_clipped = clipped(x, *self.grid)
        self.input_error = relative_error(x, on_grid(x, *self.grid))
        self.batches = []


class Shown:
    """One activation: [B, ..] of every batch, what counts of it. Values where none count stay as they are."""

    def __init__(self):
        self.batches = []

    def lay_grid(self, case):
        ends = None
        for batch in self.batches:
            now = np.array([batch.min().item(), batch.max().item()])
            ends = now if ends is None else 0.9 * ends + 0.1 * now
        self.grid = asymmetric(*ends, case.get("input_bits", 8))
        x = torch.cat([batch.flatten() for batch in self.batches])
        self.found = {"least": x.min().item(), "greatest": x.max().item(), "scale": self.grid[0], "zero": int(-self.grid[1]),
                      "clipped": clipped(x, *self.grid), "error": relative_error(x, on_grid(x, *self.grid))}


def shown_logits(p, m, tokens, show):
    """As golden.logits_of, for layernorm, learned positions and attention without a gate; everything passes by
    show(name, x, visible), which gives what goes on."""
    F, H, KV, D = torch.nn.functional, m["heads"], m["kv_heads"], m["head_size"]

    def norm(name, x):
        return F.layer_norm(x, (m["width"],), p[name + ".weight"], p[name + ".bias"], m["norm_epsilon"])

    def linear(name, x):
        return F.linear(x, p[name + ".weight"], p.get(name + ".bias"))

    def read(place, norm_name, x):
        """What the sublayer adds to, and what it reads."""
        stream = show(place + "stream", x)
        normed = show(place + "normed", norm(norm_name, stream))
        return normed if m["residual"]["type"] == "post_norm" else stream, normed

    B, T = tokens.shape
    visible, shared = torch.ones(T, T, dtype=torch.bool), torch.arange(H) // (H // KV)
    if m.get("causal", True):
        visible = visible.tril()
    x = p["embedding.token.weight"][tokens] + p["embedding.position.weight"][:T]
    if m["segment_embedding"]:
        x = x + p["embedding.segment.weight"]
    for layer in range(m["layers"]):
        block = f"blocks.{layer}."
        at, mlp = block + "attention.", block + "mlp."
        x, normed = read(at, block + "norm1", x)
        qkv = linear(block + "attention.qkv", normed)
        q, k, v = (show(at + name, part) for name, part in zip(("queries", "keys", "values"),
                                                               torch.split(qkv, [H * D, KV * D, KV * D], dim=-1)))
        q, k, v = q.reshape(B, T, H, D), k.reshape(B, T, KV, D)[:, :, shared], v.reshape(B, T, KV, D)[:, :, shared]
        scores = show(at + "scores", torch.einsum("bihd,bjhd->bhij", q, k) / D**0.5, visible)
        weights = show(at + "weights", golden.attention_weights(p, at, scores, visible, m), visible)
        results = show(at + "results", torch.einsum("bhij,bjhd->bihd", weights, v).reshape(B, T, H * D))
        x, normed = read(mlp, block + "norm2", x + show(at + "output", linear(block + "attention.output", results)))
        active = show(mlp + "active", golden.activation(m["mlp"], linear(block + "mlp.up", normed)))
        x = x + show(mlp + "output", linear(block + "mlp.down", active))
    _, normed = read("head.", "final_norm", x)
    if m["head_transform"]:
        active = show("head.active", golden.activation(m["mlp"], linear("head.transform", normed)))
        normed = show("head.output", norm("head.norm", active))
    return normed @ p["head.weight"].T + p.get("head.bias", 0)


def of_all_activations(p, m, shared, case, replace):
    """The loss with `replace` before the linear layers and everything shown on its grid, and the grids."""
    shown = {}

    def watch(name, x, visible=None):
        shown.setdefault(name, Shown()).batches.append(x if visible is None else x[..., visible])
        return x

    def to_grid(name, x, visible=None):
        y = on_grid(x, *shown[name].grid)
        return y if visible is None else torch.where(visible, y, x)

    for batch in range(shared["calibration_batches"]):
        first = shared["calibration_first"] + batch * shared["batch"]
        shown_logits(p, m, rows_of_tokens(m, shared["seed"], first, shared["batch"])[0], watch)
    for one in shown.values():
        one.lay_grid(case)
    tokens, targets = rows_of_tokens(m, shared["seed"], 0, shared["sequences"])
    same = shown_logits(p, m, tokens, lambda name, x, visible=None: x) - golden.logits_of(p, m, tokens)[0]
    assert same.abs().max() < 1e-12
    with Products(p, replace):
        loss = golden.loss_of(shown_logits(p, m, tokens, to_grid), targets).item()
    return {"loss": loss, "of": [{"name": name, **one.found} for name, one in shown.items()]}


def rows_of_tokens(m, seed, first, count):
    T = m["context"]
    words = golden.philox(seed, golden.GOLDEN_STREAM | golden.TOKENS, (first + count) * (T + 1)).astype(np.int64)
    rows = torch.from_numpy((words % m["vocab_size"]).reshape(-1, T + 1)[first:])
    return rows[:, :-1], rows[:, 1:]


def results(shared, case):
    m = golden.complete({**shared["model"], **case["model"]})
    p = {n: v.detach() for n, v in golden.initial_values(m, shared["seed"], shared["scatter"]).items()}
    layers = {}

    def watch(name, x, weight):
        matrices = golden.stacked_rows(m, name + ".weight") or [len(weight)]
        layer = layers.setdefault(name, None) or Layer(weight, matrices, case)
        layers[name] = layer
        layer.batches.append(x)
        return x, weight

    for batch in range(shared["calibration_batches"]):
        first = shared["calibration_first"] + batch * shared["batch"]
        tokens, _ = rows_of_tokens(m, shared["seed"], first, shared["batch"])
        with Products(p, watch):
            golden.logits_of(p, m, tokens)
    for layer in layers.values():
        layer.lay_input_grid(case)

    tokens, targets = rows_of_tokens(m, shared["seed"], 0, shared["sequences"])

    def loss(weights=True, inputs=True, only=None, left_out=None):
        def replace(name, x, weight):
            if (only and name != only) or name == left_out:
                return x, weight
            layer = layers[name]
            return on_grid(x, *layer.grid) if inputs else x, layer.weight if weights else weight

        with Products(p, replace):
            return golden.loss_of(golden.logits_of(p, m, tokens)[0], targets).item()

    def everything(name, x, weight):
        return on_grid(x, *layers[name].grid), layers[name].weight

    plain, quantized = loss(False, False), loss()
    out = {"plain": plain, "quantized": quantized, "weights_only": loss(inputs=False), "inputs_only": loss(weights=False)}
    if case.get("all_activations", False):
        out["all_activations"] = of_all_activations(p, m, shared, case, everything)
    out["layers"] = [
        {
            "name": name,
            "weight_norm": layer.weight_norm,
            "weight_scales": [grid[0] for grid in layer.grids],
            "weight_clipped": layer.weight_clipped,
            "weight_error": layer.weight_error,
            "input_least": layer.least,
            "input_greatest": layer.greatest,
            "input_norm": layer.norm,
            "input_scale": layer.grid[0],
            "input_zero": int(-layer.grid[1]),
            "input_clipped": layer.input_clipped,
            "input_error": layer.input_error,
            "only_it": loss(only=name),
            "left_out": loss(left_out=name),
        }
        for name, layer in layers.items()
    ]
    return out


def fake_quantize():
    """PyTorch's own op in float32, ties and ends included."""
    x = torch.cat([torch.arange(-40, 41) * 0.125, torch.tensor([1e9, -1e9]), torch.randn(45, generator=torch.manual_seed(1))])
    cases = []
    for scale, zero, top in [(0.25, 7, 15), (0.0173, 128, 255), (0.31, 0, 3)]:
        y = torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, top)
        cases.append({"scale": scale, "zero": zero, "top": top, "values": y.tolist()})
    return {"x": x.tolist(), "cases": cases}


def main():
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    shared = json.loads((golden.HERE / "quantization.json").read_text())
    out = {"fake_quantize": fake_quantize()}
    for name, case in shared["cases"].items():
        out[name] = results(shared, case)
        r = out[name]
        print(f"{name}: {r['plain']:.6f} -> {r['quantized']:.6f}, {len(r['layers'])} layers")
    (golden.HERE / "quantization_values.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
