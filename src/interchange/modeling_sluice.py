"""A model trained by Sluice: transformers.AutoModelForCausalLM, or of masked language models AutoModelForMaskedLM,
.from_pretrained(DIR, trust_remote_code=True).

A transformer, decoder or encoder, whose attention is projections -> score function -> gate -> output
projection. config.json holds the whole model under "sluice_model", with the keys of Sluice's own configs; parameters
have Sluice's names. Shapes: B sequences, T new positions, S visible positions (those of the cache first), H query
heads, KV key/value heads, D features of a head, C width.

Beside what causal models of transformers return there are, for output_attentions=True and output_gates=True:
  attentions  a layer [B, H, T, S]: the weights that values are summed with; with noise heads, less their share. What a
              row lacks to 1 went nowhere (sigmoid, relu, softpick, clipped_softmax, affine) or into a slot:
  slots       a layer [B, H, T, n]: the weights of the n slots that are no tokens: the learned key of key_bias and
              key_value_bias, the registers, then what the score function has for sinks: a constant (softmax_plus_one), a learned logit
  gates       a layer [B, H, T, 1 or D] where the gate scales a head's result, [B, KV, T, 1 or D] where it scales the
              values; None for layers without a gate
A layer without heads has None for all three.
hidden_states are what each block reads before its norm: the embeddings, then what the blocks before leave in the residual
stream, or its mix of depth; as everywhere in transformers the last one has passed the final norm.
"""

import collections
import dataclasses
import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast, MaskedLMOutput

# Since 5.24 transformers calls "cache" what it called past_key_values before; both are understood as an argument.
CACHE = next(name for name in ("cache", "past_key_values") if name in CausalLMOutputWithPast.__dataclass_fields__)
MODEL_KEYS = set(
    "vocab_size context layers heads kv_heads width head_size value_head_size mlp_width norm norm_epsilon norm_gate mlp "
    "position rope_theta rotary_features rope_scaling qk_norm parallel_residual bias attention_bias tied_head init init_std "
    "registers dropout causal segment_embedding head_transform head_bias residual attention".split()
)
ATTENTION_KEYS = set(
    "type core score gate key_bias key_value_bias window permuted permutation_seed value_residual difference affine "
    "exclude_self output_norm unit_length feature_map value_map qk_source mlp_width decay routed_heads repeat".split()
)


class SluiceConfig(PretrainedConfig):
    model_type = "sluice"
    keys_to_ignore_at_inference = ["past_key_values", "cache"]

    def __init__(self, sluice_model=None, vocab_size=None, **kwargs):
        model = dict(sluice_model or {})
        sizes = {
            "max_position_embeddings": "context",
            "hidden_size": "width",
            "num_hidden_layers": "layers",
            "num_attention_heads": "heads",
            "num_key_value_heads": "kv_heads",
            "initializer_range": "init_std",
            "tie_word_embeddings": "tied_head",
        }
        kwargs.update({name: model[key] for name, key in sizes.items() if key in model})
        if model:
            kwargs["head_dim"] = head_size(model)
        super().__init__(**kwargs)
        self.vocab_size = model.get("vocab_size") if vocab_size is None else vocab_size  # the latter after a resize
        self.sluice_model = model

    def to_dict(self):
        out = super().to_dict()
        if out.get("sluice_model"):
            out["sluice_model"] = {**out["sluice_model"], "vocab_size": self.vocab_size}
        return out


@dataclasses.dataclass
class SluiceModelOutput(BaseModelOutputWithPast):
    gates: tuple = None
    slots: tuple = None


@dataclasses.dataclass
class SluiceCausalOutput(CausalLMOutputWithPast):
    gates: tuple = None
    slots: tuple = None


# ---- norms, positions ----------------------------------------------------------------------------------------------


def head_size(model):
    return model.get("head_size") or model["width"] // model["heads"]


def value_head_size(model):
    return model.get("value_head_size") or head_size(model)


class SimpleRMSNorm(nn.Module):
    """Without a gain."""

    def __init__(self, size, epsilon):
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)).to(x.dtype)


class RMSNorm(SimpleRMSNorm):
    def __init__(self, size, epsilon):
        super().__init__(size, epsilon)
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return self.weight * super().forward(x)


NORMS_OF_ALL = {"simple_rmsnorm_of_all": SimpleRMSNorm, "layernorm_of_all": nn.LayerNorm}


def of_unit_length(x, epsilon):
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * torch.rsqrt(wide.square().sum(-1, keepdim=True) + epsilon)).to(x.dtype)


def unchanged(x):
    return x


MAPS = {"none": unchanged, "silu": F.silu, "relu": torch.relu}


class OfHeads(nn.Linear):
    """A linear layer of which each of `heads` has its own rows, which multiply its own slice of the input."""

    def __init__(self, heads, inputs, rows, bias):
        super().__init__(inputs, rows, bias=bias)
        self.heads = heads

    def forward(self, x):
        weight = self.weight.unflatten(0, (self.heads, -1))
        out = torch.einsum("...hi,hoi->...ho", x.unflatten(-1, (self.heads, -1)), weight).flatten(-2)
        return out if self.bias is None else out + self.bias


class LowRank(nn.Module):
    """A linear layer of two matrices with an activation between or nothing, and a bias or none; of `heads` each has a rank of its own, and with `slices` reads its
    own slice of the input, of which `inputs` are the features."""

    def __init__(self, inputs, rank, rows, bias, heads=0, slices=False, between="silu", bias_between=False):
        super().__init__()
        self.between = MAPS[between]
        rows_down = rank * max(heads, 1)
        kind = functools.partial(OfHeads, heads) if slices else nn.Linear
        self.down = kind(inputs, rows_down, bias=bias_between)
        self.up = OfHeads(heads, rank, rows, False) if heads else nn.Linear(rank, rows, bias=False)
        self.register_parameter("bias", nn.Parameter(torch.zeros(rows)) if bias else None)

    def forward(self, x):
        x = self.up(self.between(self.down(x)))
        return x if self.bias is None else x + self.bias


def gated(norm):
    class Gated(norm):
        def __init__(self, size, epsilon, rank):
            super().__init__(size, epsilon)
            self.gate = LowRank(size, rank, size, False)

        def forward(self, x):
            y = super().forward(x)
            return y * torch.sigmoid(self.gate(y))

    return Gated


def make_norm(model):
    kind = {"layernorm": nn.LayerNorm, "rmsnorm": RMSNorm}[model["norm"]]
    if rank := model.get("norm_gate", 0):
        return gated(kind)(model["width"], model["norm_epsilon"], rank)
    return kind(model["width"], model["norm_epsilon"])


def scaled_speed(speed, scaling):
    kind = scaling.get("type", "none")
    if kind == "none":
        return speed
    if kind == "linear":
        return speed / scaling["factor"]
    if kind != "llama3":
        raise ValueError(f"unknown rope scaling {kind}")
    turns = scaling["original_context"] * speed / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    fast = min(max((turns - low) / (high - low), 0.0), 1.0)
    return (1 - fast) * speed / scaling["factor"] + fast * speed


def rope_speeds(model):
    """How fast the pair (i, i + D/2) of a head's features turns, in radians a position."""
    D = head_size(model)
    turned = model.get("rotary_features") or D
    speeds = [model["rope_theta"] ** (-2 * i / turned) if 2 * i < turned else 0.0 for i in range(D // 2)]
    return [scaled_speed(speed, model.get("rope_scaling") or {}) for speed in speeds]


def rotate(x, turn):
    """x [B, heads, T, D] turned by angles whose cosines and sines [B, 1, T, D/2] are `turn`."""
    cos, sin = (part.to(x.dtype) for part in turn)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def keys_in_sight(attention_mask, places, B, S, causal):
    """[B, 1, T, S] from the rows' places [T]: a row sees what is not padding up to its own place, or if not causal all of
    it."""
    keys, rows = torch.arange(S, device=places.device), places[:, None]
    in_sight = keys <= rows if causal else torch.ones_like(keys <= rows)
    if attention_mask is None:
        return in_sight.expand(B, 1, -1, -1)
    mask = attention_mask.to(places.device)
    checked = not torch.compiler.is_compiling()
    if mask.dim() == 4:  # [B, 1 or H, T, S]: which keys each row sees, or what is added to their scores
        if checked and mask.dtype != torch.bool and ((mask != 0) & (mask > -1e4)).any():
            raise ValueError("attention_mask: of masks that are added only 0 and very large negative numbers are understood")
        return mask if mask.dtype == torch.bool else mask >= 0
    if mask.dim() == 2:  # [B, tokens so far]
        if checked and mask.shape[1] != (tokens := int(places[-1]) + 1):
            raise ValueError(f"attention_mask is for {mask.shape[1]} tokens, but with those of the cache there are {tokens}")
        return F.pad(mask.bool(), (0, S - mask.shape[1]))[:, None, None, :] & in_sight
    raise ValueError(f"attention_mask has {mask.dim()} dimensions; 2 or 4 are understood")


def visible_keys(attention_mask, places, B, S, causal=True):
    """Those, and itself for a row that would see nothing, as padding does: its numbers stay finite, and no other row sees
    it."""
    visible = keys_in_sight(attention_mask, places, B, S, causal)
    keys = torch.arange(visible.shape[-1], device=visible.device)
    return visible | (~visible.any(-1, keepdim=True) & (keys == places[:, None]))


def within(visible, places, window):
    """`visible` [B, 1, T, S] of the keys less than `window` places from each row's; its own where that leaves none. places:
    [T], those of keys being 0 to S - 1; or of rows and keys alike, [B, S]."""
    keys = torch.arange(visible.shape[-1], device=visible.device)
    rows = places if places.dim() == 1 else keys
    distance = keys - rows[:, None] if places.dim() == 1 else (places[:, None] - places[:, :, None])[:, None]
    visible = visible & (distance.abs() < window)
    return visible | (~visible.any(-1, keepdim=True) & (keys == rows[:, None]))


def counted_words(seed, stream, positions):
    """The first word of Philox4x32-10 at each of the positions (int64, as products wrap)."""
    low = 0xFFFFFFFF
    c = [positions & low, positions >> 32, torch.full_like(positions, stream & low), torch.full_like(positions, stream >> 32)]
    k0, k1 = seed & low, seed >> 32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32 & low) ^ c[1] ^ k0, p1 & low, (p0 >> 32 & low) ^ c[3] ^ k1, p0 & low]
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return c[0]


@functools.lru_cache(maxsize=None)
def slots_of(seed, layer, context):
    """The slot of each place in the layer's permutation of the context: six rounds of a Feistel network, gone on from what
    it leads to until that is in the range."""
    bits = next(bits for bits in range(1, 32) if 4**bits >= context)
    mask, at = (1 << bits) - 1, torch.arange(context, device="cpu")
    outside = at >= 0
    while outside.any():
        left, right = at[outside] >> bits, at[outside] & mask
        for turn in range(6):
            left, right = right, left ^ (counted_words(seed, (11 << 32) + layer, right | turn << 32) & mask)
        at[outside] = left << bits | right
        outside = at >= context
    return at.argsort()


def within_slots(visible, places, window, slots):
    """`visible` [B, 1, T, S] of the keys whose slots are less than half a window from their row's."""
    keys = torch.arange(visible.shape[-1], device=visible.device)
    slots = slots.to(visible.device)
    of_keys = slots[keys.clamp(max=len(slots) - 1)]  # a cache may have room for more
    visible = visible & (2 * (of_keys - slots[places][:, None]).abs() < window)
    return visible | (~visible.any(-1, keepdim=True) & (keys == places[:, None]))


# {kernels/formulas/scores/*.py}


# ---- random rows ---------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=2)
def fixed_rows(seed, rows, columns):
    """Standard normal numbers of Philox4x32-10 and Box-Muller, as Sluice draws them: float64 [rows, columns]."""
    half, low, stream = np.uint64(32), np.uint64(0xFFFFFFFF), 10
    count = rows * columns
    position = np.arange((count + 3) // 4, dtype=np.uint64)
    c = [position & low, position >> half, np.zeros_like(position), np.full_like(position, stream)]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> half) ^ c[1] ^ np.uint64(key[0]), p1 & low, (p0 >> half) ^ c[3] ^ np.uint64(key[1]), p0 & low]
        key = [(k + step) & 0xFFFFFFFF for k, step in zip(key, (0x9E3779B9, 0xBB67AE85))]
    words = np.stack(c, axis=1).reshape(-1, 2).astype(np.float64)
    radius, angle = np.sqrt(-2 * np.log((words[:, 0] + 0.5) * 2.0**-32)), 2 * math.pi * words[:, 1] * 2.0**-32
    normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32).reshape(-1)
    return torch.from_numpy(normal[:count].astype(np.float64).reshape(rows, columns))


# ---- attention -----------------------------------------------------------------------------------------------------


def attention_runs(model):
    """What model.attention says: one object for all layers, or a list that is laid over them."""
    return model["attention"] if isinstance(model["attention"], list) else [model["attention"]]


def attention_of(model, layer):
    """Each element of the list is there `repeat` times; after the last comes the first again."""
    layers = [run for run in attention_runs(model) for _ in range(run.get("repeat", 1))]
    return layers[layer % len(layers)]


def noise_heads(options, H, KV):
    """Of a layer of H heads: how many heads there are whose results are taken from theirs."""
    difference = options.get("difference", {})
    if difference.get("lambda", "none") == "none":
        return 0
    return H // (difference["signal"] or H // KV)


def head_slopes(H):
    """s of each head, which forgets by e^-s a row."""
    power = 2 ** int(math.log2(H))
    first = [2 ** (-8 * (h + 1) / power) for h in range(power)]
    return first + [2 ** (-8 * (2 * h + 1) / (2 * power)) for h in range(H - power)]


def shared_and_active(options, H):
    """Of routed heads: how many of H heads all rows take, and how many of the others each row does."""
    shared, active = options["shared"], options["active"]
    shared = H // 4 if shared < 0 else shared
    return shared, active or max(1, H // 2 - shared)


def depth_factor(layer):
    """lambda_init of differential attention; what is left of 1 scales its norm."""
    return 0.8 - 0.6 * math.exp(-0.3 * layer)


def attention_biases(model):
    """Whether the projections to queries, keys and values have biases, and whether that of the results has."""
    biases = model.get("attention_bias", "model")
    return (model["bias"],) * 2 if biases == "model" else (biases != "none", biases == "all")


class MlpMixer(nn.Module):
    """A gated MLP in attention's place."""

    def __init__(self, config, layer):
        super().__init__()
        self.layer, self.model = layer, config.sluice_model
        C, H, KV = (self.model[key] for key in ("width", "heads", "kv_heads"))
        self.D, self.V = head_size(self.model), value_head_size(self.model)
        columns = (H + KV) * (self.D + self.V)  # of attention, which has C times as many parameters; an MLP 3 C for each
        hidden = attention_of(self.model, layer).get("mlp_width") or max(8, (columns + 12) // 24 * 8)
        up_bias, down_bias = attention_biases(self.model)
        self.up, self.down = nn.Linear(C, 2 * hidden, bias=up_bias), nn.Linear(hidden, C, bias=down_bias)

    def forward(self, x, turn, visible, places, cache, *_, **__):
        if cache is not None and self.layer == 0:  # caches count tokens in their first layer
            B, T, _ = x.shape
            nothing = (x.new_zeros(B, self.model["kv_heads"], T, features) for features in (self.D, self.V))
            cache.update(*nothing, self.layer, {"cache_position": places})
        gate, x = self.up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * x), None, None, None, None


class Attention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.config, self.layer = config, layer
        self.model = model = config.sluice_model
        self.options = options = attention_of(model, layer)
        C, H, KV = model["width"], model["heads"], model["kv_heads"]
        self.D, self.V = D, V = head_size(model), value_head_size(model)
        self.noise = noise = noise_heads(options, H, KV)
        self.second = nn.Module() if noise and options["difference"]["keys"] == "own" else None
        qkv_bias, output_bias = attention_biases(model)
        self.source = options.get("qk_source", {"type": "hidden"})["type"]
        if self.source not in ("hidden", "embedding", "random", "text"):
            raise ValueError(f"unknown source of queries and keys {self.source}")
        self.columns = [(H + noise) * D, KV * D * (1 if self.second is None else 2), KV * V]  # queries, keys, values
        self.qkv = nn.Linear(C, sum(self.columns), bias=qkv_bias)
        self.output = nn.Linear(H * V, C, bias=output_bias)
        if model["qk_norm"]:
            self.q_norm, self.k_norm = (RMSNorm(D, model["norm_epsilon"]) for _ in range(2))
        self.core = options.get("core", "tiles")
        if self.core not in ("tiles", "key_only", "linear"):
            raise ValueError(f"unknown core {self.core}")
        if self.core != "tiles" and noise:
            raise ValueError(f"the core {self.core} with a difference of heads is not known here")
        options = self.options = {"score": {"type": "softmax"}, "key_bias": False, "key_value_bias": False, **options}
        self.has_key_bias = options["key_bias"] or options["key_value_bias"]
        if options["score"]["type"] not in SCORES:
            raise ValueError(f"unknown score function {options['score']['type']}")
        self.score = SCORES[options["score"]["type"]]
        if self.second is None:
            self.add_core(self, H + noise)
        else:
            self.add_core(self, H)
            self.add_core(self.second, noise)
        gate = options["gate"]
        self.site = gate["site"] if gate["reads"] != "none" else None
        if self.site:
            self.gate = self.gate_logits(gate)
            if "second" in gate:
                self.gate.second = self.gate_logits(gate["second"])
        if noise:
            self.add_difference(C, H)
        if (norm := options.get("output_norm", "none")) != "none":
            size = H * V if norm in NORMS_OF_ALL else V
            self.output_norm = NORMS_OF_ALL.get(norm, RMSNorm)(size, model["norm_epsilon"])
        self.map, self.value_map = (MAPS[options.get(name, "none")] for name in ("feature_map", "value_map"))
        self.mix = options.get("value_residual") if layer > 0 else None
        if self.mix and self.mix["type"] == "learned":
            self.value_residual = nn.ParameterDict(
                {name: nn.Parameter(torch.full((1,), float(self.mix[name]))) for name in ("own", "first")}
            )
        if "affine" in options:
            self.affine = nn.Linear(C, H, bias=False)
            self.affine.register_buffer("average", torch.full((H,), float(options["affine"]["initial"])))
        if options.get("routed_heads", {}).get("type") == "linear":
            shared, _ = shared_and_active(options["routed_heads"], H)
            rows = H - shared + (shared if shared > 1 else 0) + (2 if shared else 0)
            self.routed_heads = nn.Linear(C, rows, bias=False)

    def add_core(self, core, heads):
        """What `core`, this layer or its second set of heads, learns for its weights, and for those of its second window."""
        self.add_learned(core, heads)
        if self.options.get("permuted") == "gated":
            core.branch_gates = nn.Linear(self.model["width"], 2 * heads)
            core.window = nn.Module()
            self.add_learned(core.window, heads)

    def add_learned(self, core, heads):
        KV = self.model["kv_heads"]
        if self.has_key_bias:
            core.key_bias = nn.Parameter(torch.zeros(KV, self.D))
        if self.options["key_value_bias"]:
            core.value_bias = nn.Parameter(torch.zeros(KV, self.V))
        for name, initial in self.score.learned.items():
            core.register_parameter(name, nn.Parameter(torch.full((heads,), initial)))

    def add_difference(self, C, H):
        kind = self.options["difference"]["lambda"]
        if kind not in ("projected", "scalar", "clamped"):
            raise ValueError(f"unknown lambda {kind} of a difference")
        if kind == "projected":
            self.difference = nn.Linear(C, H, bias=False)
        else:
            self.difference = nn.Module()
            start = torch.zeros(4, self.D) if kind == "scalar" else torch.full((H,), 0.5)
            self.difference.register_parameter("lambda", nn.Parameter(start))

    def gate_logits(self, gate):
        """What makes a gate's logits of what it reads; of two things `output` makes those of the results."""
        C, H, KV, V = self.model["width"], self.model["heads"], self.model["kv_heads"], self.V
        heads, reads, rank = KV if self.site == "source" else H, gate["reads"], gate.get("rank", 0)
        rank = V if rank < 0 else rank
        rows = heads * (V if gate["grain"] == "element" else 1)

        def make(inputs, bias, of_heads, slices):
            if rank:
                between = gate.get("rank_activation", "silu")
                biased = gate.get("rank_bias", False)
                return LowRank(inputs, rank, rows, bias, heads if of_heads else 0, slices, between, biased)
            return OfHeads(heads, inputs, rows, bias) if slices else nn.Linear(inputs, rows, bias=bias)

        own = reads.endswith("output_head")  # of each head, and not of all
        of_results = (V, True, True) if own else (H * V, False, False)
        if reads in ("output", "output_head"):
            return make(of_results[0], gate["bias"], *of_results[1:])
        slices = reads == "hidden_head"
        inputs = {"hidden_head": V, "value": KV * V}.get(reads, C)
        logits = make(inputs, gate["bias"], slices or own, slices)
        if reads.startswith("hidden_and_output"):
            logits.output = make(of_results[0], False, *of_results[1:])
        return logits

    def gate_of(self, x, v, out, heads):
        """Gates [B, heads, T, 1 or V] from the layer's input x [B, T, C], the values v [B, T, KV * V] and, at site output,
        the results out [B, H, T, V]."""
        B, T, _ = x.shape
        results = None if out is None else out.transpose(1, 2).reshape(B, T, -1)

        def opened(gate, logits):
            reads = gate["reads"]
            read = {"value": v, "output": results, "output_head": results}.get(reads, x)
            of_both = logits.output(results) if reads.startswith("hidden_and_output") else 0
            opening = logits(read) + of_both
            opening = opening if gate.get("activation", "sigmoid") == "none" else torch.sigmoid(opening)
            return opening.view(B, T, heads, -1).transpose(1, 2)

        options = self.options["gate"]
        gate = opened(options, self.gate)
        return gate * opened(options["second"], self.gate.second) if "second" in options else gate

    def with_extra_key(self, core, keys, values, visible):
        """One more key in front, which every row sees."""
        B, KV, _, D = keys.shape
        extra = core.key_bias.view(1, KV, 1, D).expand(B, -1, -1, -1)
        keys = torch.cat([extra.to(keys.dtype), keys], dim=2)
        extra = torch.zeros_like(values[:, :, :1])
        if self.options["key_value_bias"]:
            extra = core.value_bias.view(1, KV, 1, self.V).expand_as(extra).to(values.dtype)
        return keys, torch.cat([extra, values], dim=2), F.pad(visible, (1, 0), value=True)

    def weigh(self, core, queries, keys, values, visible, length, extra):
        """Results [B, H, T, V], the weights of the tokens and those of the `extra` slots, which come before them."""
        scores = queries @ keys.transpose(-1, -2)
        if self.score.scaled:
            scores = scores / math.sqrt(queries.shape[-1])
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        learned = {name: getattr(core, name) for name in self.score.learned}
        weights, sinks = self.score.weigh(
            scores, visible, length.to(scores.dtype), self.options["score"], learned, Sizes(self.model["context"], self.D)
        )
        slots = weights[..., :extra] if sinks is None else torch.cat([weights[..., :extra], sinks], dim=-1)
        return weights.to(values.dtype) @ values, weights[..., extra:], slots

    def own_scores(self, queries, keys, values):
        """What makes a key's score its own, whoever looks: queries of one feature, 1, keys of one, their score."""
        group = queries.shape[1] // keys.shape[1]
        keys, values = (y.repeat_interleave(group, dim=1) for y in (keys, values))
        scores = (F.silu(queries) * keys).sum(-1, keepdim=True) / math.sqrt(self.D)
        return torch.ones_like(scores), scores, values

    def decayed(self, queries, keys, values, visible, extra):
        """Linear attention: products of queries and keys that decay with the distance, as weights of the values."""
        H, layers, decay = queries.shape[1], self.model["layers"], self.options.get("decay", "head_and_layer")
        by_layer = 1 - (self.layer / (layers - 1) if layers > 1 else 0) + 1e-5
        factor = {"none": 0, "head": 1, "head_and_layer": by_layer}[decay]
        slopes = factor * torch.tensor(head_slopes(H), dtype=torch.float64, device=queries.device).view(1, H, 1, 1)
        distance = visible.sum(-1, keepdim=True) - visible.cumsum(-1)  # to the row's own, over what it sees
        kept = torch.exp(-slopes * distance) * visible
        products = queries @ keys.transpose(-1, -2)
        products = products.to(torch.promote_types(products.dtype, torch.float32))
        weights = products * kept.to(products.dtype)
        return weights.to(values.dtype) @ values, weights[..., extra:], weights[..., :extra]

    def attend(self, core, queries, keys, values, visible, *others):
        """attend_to() what is visible; or, of two windows (x, visible in the one, in the other), to each behind its gate."""
        if not isinstance(visible, tuple):
            return self.attend_to(core, queries, keys, values, visible, *others)
        x, *windows = visible
        gates = torch.sigmoid(core.branch_gates(x)).transpose(1, 2)[..., None].chunk(2, dim=1)  # [B, heads, T, 1] each
        parts = [
            self.attend_to(of, queries, keys, values, one, *others) for of, one in zip((core, core.window), windows)
        ]
        return tuple(None if y is None else gates[0] * y + gates[1] * z for y, z in zip(*parts))

    def attend_to(self, core, queries, keys, values, visible, wants_weights, extra):
        """Results [B, heads, T, V] of queries [B, heads, T, D] and, where they are wanted or at hand, weights and slots;
        the first `extra` keys are no tokens."""
        length = visible.sum(-1, keepdim=True)  # tokens that a row sees: its own and those before it
        if self.has_key_bias:
            keys, values, visible = self.with_extra_key(core, keys, values, visible)
            extra += 1
        if (shared := queries.shape[1] // keys.shape[1]) > 1:
            keys, values = (y.repeat_interleave(shared, dim=1) for y in (keys, values))
        if self.core == "linear":
            return self.decayed(queries, keys, values, visible, extra)
        if self.config._attn_implementation == "sdpa" and not wants_weights:
            return F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible), None, None
        return self.weigh(core, queries, keys, values, visible, length, extra)

    def factor(self, x):
        """The share of a noise head that is taken: [B, H, T, 1], [1, H, 1, 1], or one number for the layer."""
        if self.options["difference"]["lambda"] == "projected":
            return torch.sigmoid(self.difference(x)).transpose(1, 2)[..., None]
        if self.options["difference"]["lambda"] == "clamped":
            return getattr(self.difference, "lambda").clamp(0, 1).view(1, -1, 1, 1).to(x.dtype)
        q1, k1, q2, k2 = getattr(self.difference, "lambda")
        return ((q1 * k1).sum().exp() - (q2 * k2).sum().exp() + depth_factor(self.layer)).to(x.dtype)

    def less_noise(self, x, heads, noise):
        """Each of `heads`, what attend() returns, less its share of `noise`."""
        factor = self.factor(x)
        signal = self.model["heads"] // self.noise
        pairs = zip(heads, noise)
        return tuple(y if y is None else y - factor * z.repeat_interleave(signal, dim=1) for y, z in pairs)

    def difference_of(self, x, queries, keys, values, *others):
        """attend() with noise heads. They follow all others and have the second half of each key's features, or each
        follows those from which it is taken."""
        H = self.model["heads"]
        if self.second is not None:
            first, second = keys.chunk(2, dim=-1)
            heads = self.attend(self, queries[:, :H], first, values, *others)
            return self.less_noise(x, heads, self.attend(self.second, queries[:, H:], second, values, *others))
        both = self.attend(self, queries, keys, values, *others)
        groups = [y if y is None else y.unflatten(1, (self.noise, H // self.noise + 1)) for y in both]
        heads = [y if y is None else y[:, :, :-1].flatten(1, 2) for y in groups]
        return self.less_noise(x, heads, [y if y is None else y[:, :, -1] for y in groups])

    def mixed(self, v, first):
        """Values v [B, T, KV * V] with those of the first layer."""
        shares = self.value_residual if self.mix["type"] == "learned" else self.mix
        return shares["own"] * v + shares["first"] * first

    def scaled(self, x, out, weights, slots, extra, values, visible, length):
        """Results, weights and slots of affine-scaled attention, from those without it; values [B, KV, S, V], of which the
        first `extra` are registers'."""
        options, H = self.options["affine"], out.shape[1]
        z = self.affine(x).transpose(1, 2)[..., None]
        factor = torch.sigmoid(z) if options["type"] == "sigmoid" else (0.1 * z + 0.5).clamp(0, 1)  # [B, H, T, 1]
        count = length if options["length"] == "row" else self.model["context"]
        shift = (self.affine.average.view(1, H, 1, 1) - factor) / count
        total = (visible.to(values.dtype) @ values).repeat_interleave(H // values.shape[1], dim=1)
        if weights is not None:
            weights = factor * weights + shift * visible[..., extra:]
            at = int(self.has_key_bias)  # registers follow the learned key
            shifts = F.pad(shift * visible[..., :extra], (at, slots.shape[-1] - at - extra))
            slots = factor * slots + shifts
        return factor * out + shift * total, weights, slots

    def head_factors(self, x, queries):
        """What scales results [B, H, T, V] where each row takes some heads alone, [B, H, T, 1]; queries [B, H, T, D] as
        the core takes them."""
        options, H = self.options["routed_heads"], self.model["heads"]
        S, K = shared_and_active(options, H)
        wide = torch.promote_types(x.dtype, torch.float32)
        if options["type"] == "query_norm":
            length = queries[:, S:].to(wide).norm(dim=-1).transpose(1, 2)
            logits = length * torch.rsqrt(length.var(-1, keepdim=True) + 1e-6)  # [B, T, E]
        else:
            logits, shared, parts = self.routed_heads(x).to(wide).split([H - S, S if S > 1 else 0, 2 if S else 0], dim=-1)
        taken = logits.sort(dim=-1, descending=True, stable=True).indices[..., :K]  # of equal ones the first
        active = torch.zeros_like(logits).scatter(-1, taken, 1.0)
        if options["type"] == "query_norm":
            p = logits.softmax(-1)
            factors = [torch.ones_like(logits[..., :1]).expand(*logits.shape[:-1], S), active + (p - p.detach())]
        else:
            w = 2 * parts.softmax(-1) if S else logits.new_ones(1, 1, 2)
            shared = S * shared.softmax(-1) if S > 1 else logits.new_ones(*logits.shape[:-1], S)
            routed = K * logits.masked_fill(active == 0, -math.inf).softmax(-1)
            factors = [w[..., :1] * shared, w[..., 1:] * routed]
        return torch.cat(factors, dim=-1).to(x.dtype).transpose(1, 2)[..., None]

    def without_own_value(self, out, v):
        """Results [B, H, T, V] without what lies along their row's own value; v [B, T, KV * V] as it is projected."""
        B, H, T, V = out.shape
        own = v.view(B, T, -1, V).transpose(1, 2)
        own = own.repeat_interleave(H // own.shape[1], dim=1)
        square = (own * own).sum(-1, keepdim=True)
        along = (out * own).sum(-1, keepdim=True)
        return out - torch.where(square > 0, along / square, 0 * along) * own

    def with_registers(self, keys, values, visible, registers, earlier):
        """Their keys and values [1, KV, R, D or V] in front, which every row sees that is not further than its window;
        earlier [B, 1, T]: tokens before it."""
        of_all = [y.expand(keys.shape[0], -1, -1, -1) for y in registers]
        R, window = of_all[0].shape[2], self.options.get("window", 0)
        distance = earlier[..., None] + R - torch.arange(R, device=earlier.device)
        near = (distance < window) if window else torch.ones_like(distance, dtype=torch.bool)
        visible = torch.cat([near.expand(*visible.shape[:-1], R), visible], dim=-1)
        return torch.cat([of_all[0], keys], dim=2), torch.cat([of_all[1], values], dim=2), visible

    def queries_and_keys(self, q, k, turn):
        """[B, heads, T, D] each, from what is projected."""
        B, T, _ = q.shape
        model = self.model
        queries, keys = (y.view(B, T, -1, self.D).transpose(1, 2) for y in (q, k))
        if model["qk_norm"]:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        if self.options.get("unit_length"):
            queries, keys = (of_unit_length(y, model["norm_epsilon"]) for y in (queries, keys))
        queries, keys = self.map(queries), self.map(keys)
        if turn is not None:
            queries, keys = rotate(queries, turn), rotate(keys, turn)
        return queries, keys

    def forward(
        self, x, turn, visible, places, cache, wants_weights, first, embedded, fixed_queries, fixed_keys, *registers, shows=None
    ):
        """`first`: the values of the first layer [B, T, KV * V], mapped where they are, None in that layer itself. embedded:
        what the layer's norm makes of the embedding, if queries and keys are made of it. fixed_*: those of the fixed stream
        [B, heads, T, D], if they are its. registers: their keys and values in this layer, if there are any. shows: what is
        returned beside, "keys" and values of x, or "queries" and keys before the core."""
        model, D, V = self.model, self.D, self.V
        H, KV = model["heads"], model["kv_heads"]
        B, T, _ = x.shape
        q, k, v = self.qkv(x).split(self.columns, dim=-1)
        if embedded is not None:
            q, k, _ = self.qkv(embedded).split(self.columns, dim=-1)
        own = self.value_map(v)
        values = self.mixed(own, first) if self.mix else own
        values = values.view(B, T, -1, V).transpose(1, 2)  # [B, KV, T, V]
        queries, keys = self.queries_and_keys(q, k, turn) if fixed_queries is None else (fixed_queries, fixed_keys)
        shown = (queries, keys) if shows == "queries" else ()
        routed = self.head_factors(x, queries) if "routed_heads" in self.options else None
        if self.second is not None:  # as many heads as values have: a cache may ask for that
            keys = torch.cat(keys.chunk(2, dim=1), dim=-1)
        gate = None
        if self.site == "source":
            gate = self.gate_of(x, v, None, KV)
            values = gate * values
        if self.core == "key_only":
            queries, keys, values = self.own_scores(queries, keys, values)
        if cache is not None:
            keys, values = cache.update(keys, values, self.layer, {"cache_position": places})  # [B, KV, S, D or V]
        shown = (keys, values) if shows == "keys" else shown
        window, extra = self.options.get("window", 0), 0
        earlier = visible.sum(-1) - 1  # tokens before a row's own, [B, 1, T]
        if (permuted := self.options.get("permuted", "none")) != "none":
            slots = slots_of(self.options.get("permutation_seed", 0), self.layer, self.model["context"])
            far = within_slots(visible, places, window, slots)
            visible = far if permuted == "alone" else visible
        if window and permuted != "alone":
            visible = within(visible, places, window)
        if registers:
            keys, values, visible = self.with_registers(keys, values, visible, registers, earlier)
            extra = self.model["registers"]
        tokens = values, visible, visible.sum(-1, keepdim=True)  # that a row sees: its own and those before it
        if permuted == "gated":
            visible = x, far, visible
        if self.noise:
            out, weights, slots = self.difference_of(x, queries, keys, values, visible, wants_weights, extra)
        else:
            out, weights, slots = self.attend(self, queries, keys, values, visible, wants_weights, extra)
        if "affine" in self.options:
            out, weights, slots = self.scaled(x, out, weights, slots, extra, *tokens)
        if self.options.get("exclude_self"):
            out = self.without_own_value(out, v)
        norm = self.options.get("output_norm", "none")
        if norm in NORMS_OF_ALL:
            out = self.output_norm(out.transpose(1, 2).flatten(2)).unflatten(2, (H, V)).transpose(1, 2)
        elif norm != "none":
            out = self.output_norm(out) * (1 - depth_factor(self.layer) if norm == "rmsnorm_by_depth" else 1)
        if self.site == "output":
            gate = self.gate_of(x, v, out, H)
            out = gate * out
        if routed is not None:
            out = routed * out
        return self.output(out.transpose(1, 2).reshape(B, T, H * V)), weights, slots, gate, own, *shown


# ---- the model -----------------------------------------------------------------------------------------------------


def activated(kind, x):
    if kind in ("gelu", "gelu_erf"):
        return F.gelu(x, approximate="tanh" if kind == "gelu" else "none")
    x = torch.relu(x)
    return x * x if kind == "relu_squared" else x


class Mlp(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.kind = model["mlp"]
        if self.kind not in ("swiglu", "gelu", "gelu_erf", "relu", "relu_squared"):
            raise ValueError(f"unknown activation {self.kind}")
        hidden = model["mlp_width"]
        self.up = nn.Linear(model["width"], 2 * hidden if self.kind == "swiglu" else hidden, bias=model["bias"])
        self.down = nn.Linear(hidden, model["width"], bias=model["bias"])

    def forward(self, x):
        x = self.up(x)
        if self.kind == "swiglu":
            gate, x = x.chunk(2, dim=-1)
            return self.down(F.silu(gate) * x)
        return self.down(activated(self.kind, x))


class Sum(nn.Module):
    """How a sublayer is joined to those before it: it reads their sum and adds to it."""

    def forward(self, x):
        return x

    def joined(self, x, out):
        return x + out

    @staticmethod
    def begun(x):
        return x

    @staticmethod
    def stream(x, normed):
        """What the sublayer adds to."""
        return x


class PostNorm(Sum):
    """The norm stands behind the sum: what it makes of the stream is the stream."""

    @staticmethod
    def stream(x, normed):
        return normed


class DepthRoute(nn.Module):
    """A sublayer reads a mix of states [n, B, T, C]: the embeddings and, of every sublayer before, its block's sum so far
    (without blocks what it has put out). alpha is a softmax over the first `routed` sources."""

    def __init__(self, model, sublayer):
        super().__init__()
        options = model["residual"]
        sublayers, blocks = 2 * model["layers"], options.get("blocks", 0)
        self.step = sublayers // blocks if blocks else 1
        self.sources = [*range(0, sublayer, self.step), sublayer]
        self.begins = sublayer % self.step == 0
        self.delta = options["type"] == "delta"
        self.routed = len(self.sources)
        if self.delta:
            self.routed = 0 if sublayer == sublayers else sublayer // self.step + 1
        self.epsilon = model["norm_epsilon"]
        if self.routed > 1:
            self.query, self.gain = nn.Parameter(torch.zeros(model["width"])), nn.Parameter(torch.ones(model["width"]))

    def forward(self, states):
        sources = states[self.sources]
        mixed = sources[: self.routed]
        if self.routed > 1:
            wide = mixed.to(torch.promote_types(mixed.dtype, torch.float32))
            keys = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
            alpha = torch.softmax(keys @ (self.query * self.gain).to(wide.dtype), dim=0)
            mixed = (alpha[..., None] * wide).to(mixed.dtype)
        return mixed.sum(0) + (sources.sum(0) if self.delta else 0)

    def joined(self, states, out):
        return torch.cat([states, (out if self.begins else states[-1] + out)[None]])

    @staticmethod
    def begun(x):
        return x[None]

    @staticmethod
    def stream(states, normed):
        return states


def make_route(model, sublayer):
    kind = model.get("residual", {}).get("type", "add")
    if kind not in ("add", "attention", "delta", "post_norm"):
        raise ValueError(f"unknown residual {kind}")
    return {"add": Sum, "post_norm": PostNorm}[kind]() if kind in ("add", "post_norm") else DepthRoute(model, sublayer)


class Block(GradientCheckpointingLayer):
    def __init__(self, config, layer):
        super().__init__()
        model = config.sluice_model
        self.parallel = model.get("parallel_residual", False)
        self.route1, self.route2 = (make_route(model, 2 * layer + i) for i in range(2))
        self.norm1 = make_norm(model)
        core = attention_of(model, layer).get("core", "tiles")
        self.attention = (MlpMixer if core == "mlp" else Attention)(config, layer)
        self.source = getattr(self.attention, "source", "hidden")
        self.norm2 = make_norm(model)
        self.mlp = Mlp(model)

    def forward(self, x, turn, visible, places, cache, wants_weights, first, start, *others, shows=None):
        embedded = self.norm1(start) if self.source == "embedding" else None
        read = self.route1(x)
        normed = self.norm1(read)
        out, *others = self.attention(
            normed, turn, visible, places, cache, wants_weights, first, embedded, *others, shows=shows
        )
        x = self.route1.joined(self.route1.stream(x, normed), out)
        normed = self.norm2(read if self.parallel else self.route2(x))
        return self.route2.joined(self.route2.stream(x, normed), self.mlp(normed)), *others


class SluicePreTrainedModel(PreTrainedModel):
    config_class = SluiceConfig
    base_model_prefix = ""
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]

    @property
    def _supports_sdpa(self):  # torch's fused attention is softmax; a gate and a key more do not matter to it
        return all(run.get("score", {"type": "softmax"})["type"] == "softmax" for run in attention_runs(self.config.sluice_model))


def refuse(arguments):
    """What would change results must not vanish. Tokenizers may give token types, all zero."""
    for name, value in arguments.items():
        if value is not None and not (name == "token_type_ids" and not value.any()):
            raise TypeError(f"a Sluice model has no argument {name}")


class SluiceModel(SluicePreTrainedModel):
    _keys_to_ignore_on_load_unexpected = [r"head\.weight"]

    def __init__(self, config):
        super().__init__(config)
        self.description = model = config.sluice_model
        keys = {key for run in attention_runs(model) for key in run}
        unknown = sorted(set(model) - MODEL_KEYS) + sorted(keys - ATTENTION_KEYS)
        if unknown:
            raise ValueError(f"config.json: sluice_model has {', '.join(unknown)}, which this modeling_sluice.py does not know")
        embedding = {"token": nn.Embedding(config.vocab_size, model["width"])}
        if model["position"] == "learned":
            embedding["position"] = nn.Embedding(model["context"], model["width"])
        if model.get("segment_embedding"):
            embedding["segment"] = nn.Embedding(1, model["width"])
        self.registers = model.get("registers", 0)
        if self.registers:
            embedding["register"] = nn.Embedding(self.registers, model["width"])
        self.embedding = nn.ModuleDict(embedding)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(model["layers"]))
        self.causal = model.get("causal", True)
        self.final_route = make_route(model, 2 * model["layers"])
        self.final_norm = make_norm(model)
        if type(self) is SluiceModel:
            self.post_init()

    def get_input_embeddings(self):
        return self.embedding["token"]

    def set_input_embeddings(self, value):
        self.embedding["token"] = value

    def embed(self, input_ids, inputs_embeds):
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        return self.embedding["token"](input_ids) if inputs_embeds is None else inputs_embeds

    def add_positions(self, x, position_ids):
        """x with its learned positions, and the cosines and sines of rope's angles or None."""
        position, context = self.description["position"], self.description["context"]
        if "segment" in self.embedding:
            x = x + self.embedding["segment"].weight
        if position == "learned":
            if not torch.compiler.is_compiling() and (tokens := int(position_ids.max()) + 1) > context:
                raise ValueError(f"{tokens} tokens, but the model has {context} positions")
            return x + self.embedding["position"](position_ids), None
        if position != "rope":
            return x, None
        return x, self.turn_at(position_ids + self.registers)

    def turn_at(self, positions):
        speeds = torch.tensor(rope_speeds(self.description), device=positions.device, dtype=torch.float32)
        angles = positions[:, None, :, None].float() * speeds
        return angles.cos(), angles.sin()

    def keys_of_registers(self):
        """Of each block [keys, values], none without registers. They see each other alone, so no token changes them; where
        rows see both sides they see the tokens, and are rows before them (behind_registers)."""
        if not self.registers or not self.causal:
            return [[] for _ in self.blocks]
        start = self.embedding["register"].weight[None]
        x = self.final_route.begun(start)
        places = torch.arange(self.registers, device=x.device)
        turn = self.turn_at(places[None]) if self.description["position"] == "rope" else None
        visible = visible_keys(None, places, 1, self.registers)
        found, first = [], None
        for block in self.blocks:
            x, _, _, _, v, *of_block = block(x, turn, visible, places, None, False, first, start, None, None, shows="keys")
            found.append(of_block)
            first = v if first is None else first
        return found

    def behind_registers(self, x, turn, visible, attention_mask):
        """x, rope's angles, which keys rows see, and places [B, R + T], with the registers' rows before those of the tokens;
        registers see the tokens that any row sees. Padding takes no place between them."""
        B, R = x.shape[0], self.registers
        x = torch.cat([self.embedding["register"].weight.expand(B, -1, -1), x], dim=1)
        if turn is not None:
            own = self.turn_at(torch.arange(R, device=x.device)[None])
            turn = tuple(torch.cat([a.expand(b.shape[0], -1, -1, -1), b], dim=2) for a, b in zip(own, turn))
        of_registers = visible.any(dim=-2, keepdim=True).expand(-1, -1, R, -1)
        visible = F.pad(torch.cat([of_registers, visible], dim=-2), (R, 0), value=True)
        places = torch.arange(x.shape[1], device=x.device).expand(B, -1)
        if attention_mask is not None and attention_mask.dim() == 2:
            tokens = attention_mask.to(x.device).cumsum(-1) - 1
            places = torch.cat([places[:, :R], R + tokens.clamp(min=0)], dim=-1)
        return x, turn, visible, places

    def of_tokens(self, block, weights, slots, gate):
        """What a block returns, without the rows of registers before the tokens; weights on registers are slots'."""
        R = self.registers
        gate = None if gate is None else gate[:, :, R:]
        if weights is None:
            return weights, slots, gate
        at = int(block.attention.has_key_bias)
        slots = torch.cat([slots[:, :, R:, :at], weights[:, :, R:, :R], slots[:, :, R:, at:]], dim=-1)
        return weights[:, :, R:, R:], slots, gate

    def fixed_stream(self):
        """What model.attention.qk_source says of a stream that all sequences take their queries and keys from, or None."""
        sources = (run.get("qk_source", {"type": "hidden"}) for run in attention_runs(self.description))
        return next((source for source in sources if source["type"] in ("random", "text")), None)

    def of_fixed_stream(self, position_ids, registers):
        """Of each block the stream's queries and keys at these positions, [B, heads, T, D]; None where it has its own. No
        token changes them."""
        source, model = self.fixed_stream(), self.description
        if source is None:
            return [(None, None) for _ in self.blocks]
        positions = model["context"] if torch.compiler.is_compiling() else int(position_ids.max()) + 1
        if positions > model["context"]:
            raise ValueError(f"{positions} tokens, but the fixed stream of queries and keys has {model['context']}")
        places = torch.arange(positions, device=position_ids.device)
        if source["type"] == "random":
            table = self.embedding["token"].weight
            x = fixed_rows(source["seed"], model["context"], model["width"])[None, :positions].to(table.device)
            deviation = 1.0 if model["init"] == "pytorch" else model["init_std"]
            x = (deviation * x).to(table.dtype)
            turn = self.turn_at(places[None] + self.registers) if model["position"] == "rope" else None
        else:
            x = self.embedding["token"](torch.tensor(source["tokens"][:positions], device=places.device)[None])
            x, turn = self.add_positions(x, places[None])
        visible = visible_keys(None, places, 1, positions, self.causal)
        found, first, start, x = [], None, x, self.final_route.begun(x)
        for block, before in zip(self.blocks, registers):
            x, _, _, _, v, *shown = block(
                x, turn, visible, places, None, False, first, start, None, None, *before, shows="queries"
            )
            first = v if first is None else first
            shared = block.source in ("random", "text")
            found.append([y[0][:, position_ids].transpose(0, 1) for y in shown] if shared else (None, None))
        return found

    def decode(
        self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, cache=None, inputs_embeds=None,
        use_cache=None, output_attentions=None, output_hidden_states=None, output_gates=None, cache_position=None,
    ):
        """All fields of the output but the loss and the logits."""
        config = self.config
        x = self.embed(input_ids, inputs_embeds)
        B, T, _ = x.shape
        cache = past_key_values if cache is None else cache
        checkpoints = self.training and self.is_gradient_checkpointing
        if checkpoints and cache is not None:
            raise ValueError("with gradient checkpointing a model that trains cannot take a cache")
        if not self.causal and cache is not None:
            raise ValueError("a model that reads both sides keeps no cache: a token changes those before it")
        use_cache = getattr(config, "use_cache", True) and not self.training if use_cache is None else use_cache
        use_cache = use_cache and self.causal
        if use_cache and cache is None and not checkpoints:
            cache = DynamicCache()
        output_attentions = config.output_attentions if output_attentions is None else output_attentions
        output_hidden_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states

        places = cache_position
        if places is None:
            places = torch.arange(T, device=x.device) + (0 if cache is None else cache.get_seq_length())
        S = T if cache is None else self.keys_of(cache, places)
        if position_ids is None and attention_mask is not None and attention_mask.dim() == 2:
            position_ids = (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, -T:]  # padding on the left does not count
        elif position_ids is None:
            position_ids = places.expand(B, T)
        x, turn = self.add_positions(x, position_ids)
        before_tokens = 0 if self.causal else self.registers  # rows
        if before_tokens:
            in_sight = keys_in_sight(attention_mask, places, B, S, self.causal)
            x, turn, visible, places = self.behind_registers(x, turn, in_sight, attention_mask)
        else:
            visible = visible_keys(attention_mask, places, B, S, self.causal)

        start, x = x, self.final_route.begun(x)
        states, attentions, slots, gates, first = [], [], [], [], None
        registers = self.keys_of_registers()
        for block, fixed, before in zip(self.blocks, self.of_fixed_stream(position_ids, registers), registers):
            if output_hidden_states:
                states.append(block.route1(x)[:, before_tokens:])
            x, weights, slot, gate, v = block(
                x, turn, visible, places, cache, output_attentions, first, start, *fixed, *before
            )
            first = v if first is None else first
            if before_tokens:
                weights, slot, gate = self.of_tokens(block, weights, slot, gate)
            for values, value in ((attentions, weights), (slots, slot), (gates, gate)):
                values.append(value)
        x = self.final_norm(self.final_route(x))[:, before_tokens:]
        states.append(x)
        return {
            "last_hidden_state": x,
            CACHE: cache if use_cache else None,
            "hidden_states": tuple(states) if output_hidden_states else None,
            "attentions": tuple(attentions) if output_attentions else None,
            "gates": tuple(gates) if output_gates and any(gate is not None for gate in gates) else None,
            "slots": tuple(slots) if output_attentions else None,
        }

    @staticmethod
    def keys_of(cache, places):
        """Keys that the cache will give: as many as it has room for where its size is fixed."""
        if not getattr(cache, "is_compileable", False):
            return cache.get_seq_length() + len(places)
        return cache.get_max_length() if hasattr(cache, "get_max_length") else cache.get_max_cache_shape()

    def create_masks_for_generate(self, attention_mask=None, **_):
        return attention_mask  # forward() makes its own of it

    def in_form(self, output, return_dict):
        return_dict = getattr(self.config, "return_dict", True) if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def forward(
        self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, inputs_embeds=None, use_cache=None,
        output_attentions=None, output_hidden_states=None, output_gates=None, return_dict=None, cache_position=None,
        cache=None, **unknown,
    ):
        refuse(unknown)
        output = self.decode(
            input_ids, attention_mask, position_ids, past_key_values, cache, inputs_embeds, use_cache, output_attentions,
            output_hidden_states, output_gates, cache_position,
        )
        return self.in_form(SluiceModelOutput(**output), return_dict)


class Head(nn.Linear):
    """The output matrix; of masked language models what stands before it too: a linear layer, an activation, a norm."""

    def __init__(self, model, vocab_size):
        super().__init__(model["width"], vocab_size, bias=model.get("head_bias", False))
        self.kind = model["mlp"]
        if model.get("head_transform"):
            self.transform = nn.Linear(model["width"], model["width"], bias=model["bias"])
            self.norm = make_norm(model)

    def forward(self, x):
        if hasattr(self, "transform"):
            x = self.norm(activated(self.kind, self.transform(x)))
        return super().forward(x)


class WithHead(SluiceModel):
    _keys_to_ignore_on_load_unexpected = None
    _tied = {"head.weight": "embedding.token.weight"}  # where config.tie_word_embeddings says so
    _tied_weights_keys = _tied if int(transformers.__version__.split(".")[0]) >= 5 else list(_tied)

    def __init__(self, config):
        super().__init__(config)
        self.head = Head(self.description, config.vocab_size)
        self.post_init()

    def get_output_embeddings(self):
        return self.head

    def set_output_embeddings(self, value):
        self.head = value


class SluiceForCausalLM(WithHead, GenerationMixin):
    accepts_loss_kwargs = True  # num_items_in_batch

    def forward(
        self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, inputs_embeds=None, labels=None,
        use_cache=None, output_attentions=None, output_hidden_states=None, output_gates=None, return_dict=None,
        cache_position=None, logits_to_keep=0, num_items_in_batch=None, cache=None, **unknown,
    ):
        """labels [B, T] are the input_ids, -100 where nothing is to be learned; the loss is the mean over them, or their sum
        divided by num_items_in_batch. logits_to_keep: only the last so many positions' logits, or these positions'."""
        refuse(unknown)
        output = self.decode(
            input_ids, attention_mask, position_ids, past_key_values, cache, inputs_embeds, use_cache, output_attentions,
            output_hidden_states, output_gates, cache_position,
        )
        x = output.pop("last_hidden_state")
        if not isinstance(logits_to_keep, int):
            x = x[:, logits_to_keep]
        elif logits_to_keep > 0:
            x = x[:, -logits_to_keep:]
        logits = self.head(x)

        loss = None
        if labels is not None:
            if logits.shape[1] != labels.shape[1]:
                raise ValueError(f"{logits.shape[1]} positions have logits, but {labels.shape[1]} have labels")
            targets = labels[:, 1:].flatten().to(logits.device)
            reduction = "mean" if num_items_in_batch is None else "sum"
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets, ignore_index=-100, reduction=reduction)
            if num_items_in_batch is not None:
                loss = loss / torch.as_tensor(num_items_in_batch, device=loss.device)
        return self.in_form(SluiceCausalOutput(loss=loss, logits=logits, **output), return_dict)


class SluiceForMaskedLM(WithHead):
    def forward(
        self, input_ids=None, attention_mask=None, position_ids=None, inputs_embeds=None, labels=None, output_attentions=None,
        output_hidden_states=None, return_dict=None, **unknown,
    ):
        """labels [B, T]: the tokens that stood where input_ids are masked, -100 elsewhere; the loss is the mean over them."""
        refuse(unknown)
        output = self.decode(
            input_ids, attention_mask, position_ids, inputs_embeds=inputs_embeds, output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.head(output["last_hidden_state"])
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten().to(logits.device), ignore_index=-100)
        output = MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=output["hidden_states"], attentions=output["attentions"]
        )
        return self.in_form(output, return_dict)
