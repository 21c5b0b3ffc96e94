"""A model trained by Sluice: transformers.AutoModelForCausalLM.from_pretrained(DIR, trust_remote_code=True).

A decoder-only transformer of pre-norm blocks whose attention is projections -> score function -> gate -> output
projection. config.json holds the whole model under "sluice_model", with the keys of Sluice's own configs; parameters
have Sluice's names. Shapes: B sequences, T new positions, S visible positions (those of the cache first), H query
heads, KV key/value heads, D features of a head, C width.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast


class SluiceConfig(PretrainedConfig):
    model_type = "sluice"
    keys_to_ignore_at_inference = ["past_key_values"]

    def __init__(self, sluice_model=None, **kwargs):
        model = sluice_model or {}
        sizes = {
            "vocab_size": "vocab_size",
            "max_position_embeddings": "context",
            "hidden_size": "width",
            "num_hidden_layers": "layers",
            "num_attention_heads": "heads",
            "num_key_value_heads": "kv_heads",
        }
        kwargs.update({name: model[key] for name, key in sizes.items() if key in model})
        super().__init__(**kwargs)
        self.sluice_model = model


# ---- norms, positions ----------------------------------------------------------------------------------------------


class RMSNorm(nn.Module):
    def __init__(self, size, epsilon):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return self.weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)).to(x.dtype)


def make_norm(model):
    kind = {"layernorm": nn.LayerNorm, "rmsnorm": RMSNorm}[model["norm"]]
    return kind(model["width"], model["norm_epsilon"])


def rope_frequencies(model, half, device):
    """How fast pair i of a head's features turns, in radians a position: [D/2]."""
    turned = (model.get("rotary_features") or 2 * half) // 2
    frequencies = model["rope_theta"] ** (-torch.arange(half, device=device, dtype=torch.float32) / turned)
    frequencies = frequencies * (torch.arange(half, device=device) < turned)  # the others stay where they are
    scaling = model.get("rope_scaling") or {"type": "none"}
    if scaling["type"] == "linear":
        return frequencies / scaling["factor"]
    if scaling["type"] != "llama3":
        return frequencies
    turns = scaling["original_context"] * frequencies / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    fast = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - fast) * frequencies / scaling["factor"] + fast * frequencies


def rotate(x, positions, model):
    """RoPE on x [B, heads, T, D] at positions [B, T]: feature i turns with feature i + D/2."""
    half = x.shape[-1] // 2
    frequencies = rope_frequencies(model, half, x.device)
    angles = positions[:, None, :, None].float() * frequencies  # [B, 1, T, D/2]
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


# ---- attention -----------------------------------------------------------------------------------------------------


def attention_weights(s, visible, length, score, sink_logit, context):
    """Scores s [B, H, T, S] to attention weights. `visible` [B, 1, T, S] says which keys a row sees, `length`
    [B, 1, T, 1] how many tokens these are."""
    kind = score["type"]
    if kind == "sigmoid":
        s = s + score["bias"]
        if score["minus_log_length"]:
            s = s - length.log()
        return torch.sigmoid(s) * visible
    if kind == "relu":
        return torch.relu(s) / length * visible
    if kind == "softpick":
        top = s.masked_fill(~visible, 0).amax(-1, keepdim=True).clamp(min=0)  # all terms are divided by e^top
        terms = (torch.exp(s - top) - torch.exp(-top)) * visible
        return torch.relu(terms) / (terms.abs().sum(-1, keepdim=True) + score["epsilon"] * torch.exp(-top))
    s = s.masked_fill(~visible, -math.inf)
    if kind in ("softmax_plus_one", "sink_logit"):
        sink = s.new_zeros(s.shape[1]) if kind == "softmax_plus_one" else sink_logit.to(s.dtype)
        column = sink.view(1, -1, 1, 1).expand(s.shape[0], -1, s.shape[2], 1)
        return torch.softmax(torch.cat([column, s], dim=-1), dim=-1)[..., 1:]
    weights = torch.softmax(s, dim=-1)
    if kind == "clipped_softmax":
        gamma = -score["alpha"] / context if score["alpha"] > 0 else score["gamma"]
        return ((score["zeta"] - gamma) * weights + gamma).clamp(0, 1) * visible
    if kind != "softmax":
        raise ValueError(f"unknown score function {kind}")
    return weights


class Attention(nn.Module):
    def __init__(self, model, layer):
        super().__init__()
        self.model, self.layer = model, layer
        self.options = options = model["attention"]
        C, H, KV = model["width"], model["heads"], model["kv_heads"]
        self.D = D = model.get("head_size") or C // H
        biases = model.get("attention_bias", "model")  # none, qkv or all; model: as everywhere
        biases = ("all" if model["bias"] else "none") if biases == "model" else biases
        self.qkv = nn.Linear(C, (H + 2 * KV) * D, bias=biases != "none")
        self.output = nn.Linear(H * D, C, bias=biases == "all")
        if model["qk_norm"]:
            self.q_norm, self.k_norm = (RMSNorm(D, model["norm_epsilon"]) for _ in range(2))
        self.has_key_bias = options["key_bias"] or options["key_value_bias"]
        if self.has_key_bias:
            self.key_bias = nn.Parameter(torch.zeros(KV, D))
        if options["key_value_bias"]:
            self.value_bias = nn.Parameter(torch.zeros(KV, D))
        if options["score"]["type"] == "sink_logit":
            self.sink_logit = nn.Parameter(torch.zeros(H))
        gate = options["gate"]
        self.site = gate["site"] if gate["reads"] != "none" else None
        if self.site:
            rows = (KV if self.site == "source" else H) * (D if gate["grain"] == "element" else 1)
            inputs = {"hidden": C, "hidden_head": D, "value": KV * D}[gate["reads"]]
            self.gate = nn.Linear(inputs, rows, bias=gate["bias"])

    def gate_of(self, x, v, heads):
        """Gates [B, heads, T, 1 or D] from the layer's input x [B, T, C] and the values v [B, T, KV * D]."""
        B, T, _ = x.shape
        reads = self.options["gate"]["reads"]
        if reads == "hidden_head":  # each head has rows of its own, on its slice of the input
            weight = self.gate.weight.view(heads, -1, self.D)
            logits = torch.einsum("bthd,hgd->bthg", x.view(B, T, heads, self.D), weight).reshape(B, T, -1)
            logits = logits if self.gate.bias is None else logits + self.gate.bias
        else:
            logits = self.gate(x if reads == "hidden" else v)
        return torch.sigmoid(logits).view(B, T, heads, -1).transpose(1, 2)

    def forward(self, x, positions, visible, cache):
        model, options, D = self.model, self.options, self.D
        H, KV = model["heads"], model["kv_heads"]
        B, T, _ = x.shape
        q, k, v = self.qkv(x).split([H * D, KV * D, KV * D], dim=-1)
        queries, keys, values = (y.view(B, T, -1, D).transpose(1, 2) for y in (q, k, v))  # [B, heads, T, D]
        if model["qk_norm"]:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        if model["position"] == "rope":
            queries, keys = (rotate(y, positions, model) for y in (queries, keys))
        if self.site == "source":
            values = self.gate_of(x, v, KV) * values
        if cache is not None:
            keys, values = cache.update(keys, values, self.layer)  # [B, KV, S, D]
        length = visible.sum(-1, keepdim=True)  # tokens that a row sees: its own and those before it
        if self.has_key_bias:  # one more key, which every row sees
            extra = self.key_bias.view(1, KV, 1, D).expand(B, -1, -1, -1)
            keys = torch.cat([extra, keys], dim=2)
            extra = torch.zeros_like(extra)
            if options["key_value_bias"]:
                extra = self.value_bias.view(1, KV, 1, D).expand(B, -1, -1, -1)
            values = torch.cat([extra, values], dim=2)
            visible = F.pad(visible, (1, 0), value=True)
        if KV < H:
            keys, values = (y.repeat_interleave(H // KV, dim=1) for y in (keys, values))
        scores = queries @ keys.transpose(-1, -2) / math.sqrt(D)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        sink_logit = getattr(self, "sink_logit", None)
        length = length.to(scores.dtype)
        weights = attention_weights(scores, visible, length, options["score"], sink_logit, model["context"])
        out = weights.to(values.dtype) @ values  # [B, H, T, D]
        if self.site == "output":
            out = self.gate_of(x, v, H) * out
        return self.output(out.transpose(1, 2).reshape(B, T, H * D))


# ---- the model -----------------------------------------------------------------------------------------------------


class Mlp(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.kind = model["mlp"]
        hidden = model["mlp_width"]
        self.up = nn.Linear(model["width"], 2 * hidden if self.kind == "swiglu" else hidden, bias=model["bias"])
        self.down = nn.Linear(hidden, model["width"], bias=model["bias"])

    def forward(self, x):
        x = self.up(x)
        if self.kind == "swiglu":
            gate, x = x.chunk(2, dim=-1)
            return self.down(F.silu(gate) * x)
        if self.kind == "gelu":
            return self.down(F.gelu(x, approximate="tanh"))
        if self.kind == "gelu_erf":
            return self.down(F.gelu(x))
        x = torch.relu(x)
        return self.down(x * x if self.kind == "relu_squared" else x)


class Block(nn.Module):
    def __init__(self, model, layer):
        super().__init__()
        self.norm1 = make_norm(model)
        self.attention = Attention(model, layer)
        self.norm2 = make_norm(model)
        self.mlp = Mlp(model)
        self.parallel = model.get("parallel_residual", False)

    def forward(self, x, positions, visible, cache):
        mid = x + self.attention(self.norm1(x), positions, visible, cache)
        return mid + self.mlp(self.norm2(x if self.parallel else mid))


def visible_keys(attention_mask, B, T, S, device):
    """[B, 1, T, S]: row t stands at place S - T + t and sees what is not padding up to there. A row of padding sees
    itself, so that its numbers stay finite; no other row sees it."""
    places = torch.arange(S, device=device)
    rows = places[S - T :, None]
    visible = (places <= rows).expand(B, 1, T, S)
    if attention_mask is not None:
        visible = visible & attention_mask.bool()[:, None, None, :] | (places == rows)
    return visible


class SluiceForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = SluiceConfig
    base_model_prefix = ""
    _no_split_modules = ["Block"]

    def __init__(self, config):
        super().__init__(config)
        self.description = model = config.sluice_model
        embedding = {"token": nn.Embedding(model["vocab_size"], model["width"])}
        if model["position"] == "learned":
            embedding["position"] = nn.Embedding(model["context"], model["width"])
        self.embedding = nn.ModuleDict(embedding)
        self.blocks = nn.ModuleList(Block(model, layer) for layer in range(model["layers"]))
        self.final_norm = make_norm(model)
        if not model["tied_head"]:
            self.head = nn.Linear(model["width"], model["vocab_size"], bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.embedding["token"]

    def set_input_embeddings(self, value):
        self.embedding["token"] = value

    def forward(
        self,
        input_ids,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        labels=None,
        use_cache=None,
        logits_to_keep=0,
        **_,
    ):
        B, T = input_ids.shape
        use_cache = not self.training if use_cache is None else use_cache
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        if position_ids is None and attention_mask is not None:
            position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -T:]
        elif position_ids is None:
            position_ids = torch.arange(past, past + T, device=input_ids.device).expand(B, T)
        context = self.description["context"]
        if past + T > context and self.description["position"] == "learned":
            raise ValueError(f"{past + T} tokens, but the model has {context} positions")

        x = self.embedding["token"](input_ids)
        if self.description["position"] == "learned":
            x = x + self.embedding["position"](position_ids)
        visible = visible_keys(attention_mask, B, T, past + T, x.device)
        for block in self.blocks:
            x = block(x, position_ids, visible, past_key_values)
        x = self.final_norm(x[:, -logits_to_keep:] if logits_to_keep else x)
        logits = F.linear(x, self.embedding["token"].weight) if self.description["tied_head"] else self.head(x)

        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past_key_values)
