#!/usr/bin/env python3
"""Compares Sluice with the transformers library, in both directions, and prints the table of docs/transformers.md.

    scripts/check_transformers.py [--sluice PROGRAM] [--only PART] [--quick | --smoke]

It needs torch, transformers and accelerate (scripts/setup_python makes an environment with them).

Imported: random models that the library makes, with a fixed seed, are read by `sluice import`. Exported: models that
Sluice trained for a few steps, one for each attention preset and many combinations, are written by `sluice export`.
For every model the logits of a sequence must agree within 1e-4 in fp32, and so must the tokens that both choose
greedily, Sluice with its key/value cache and the library with and without its own. Exports of our own model file are
also run on a batch that is padded on the left. A few exports go through all that users do with a model
(exported_behaviour.py): generation with every kind of cache, beams, padded batches, the Trainer, outputs, saving. Last,
tokenizers of every kind are trained on this repository's documents and exported: both must make the same tokens of these,
of odd text and of text that spells the names of special tokens. --quick leaves out the models of some size, --smoke all but
the behaviour, the tokenizers and a small model with each score function. Exit code 1 if anything differs.
"""

import argparse
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

import exported_behaviour
import exported_tokenizers

BOUND = 1e-4        # largest difference of two logits
TOKENS = 64         # of the sequence whose logits are compared
PROMPT, NEW = 16, 32
REPOSITORY = Path(__file__).resolve().parent.parent
FIRST_CHARACTER = 0x10000  # greedy text: one character a token, so that it reads back to tokens


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


# ---- models that the library makes ---------------------------------------------------------------------------------


LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 48,
}


def names_of_release(kind, config):
    """Version 4 has other names for what is in rope_parameters, and passes over those."""
    if transformers.__version__ >= "5" or "rope_parameters" not in config:
        return config
    rope = dict(config.pop("rope_parameters"))
    theta, factor = rope.pop("rope_theta"), rope.pop("partial_rotary_factor", None)
    if kind == "GPTNeoX":
        return {**config, "rotary_emb_base": theta, "rotary_pct": factor or 1.0}
    return {**config, "rope_theta": theta, "rope_scaling": None if rope["rope_type"] == "default" else rope}


def library_models(quick):
    """name -> a function that makes it. Weights are larger than usual, so that logits are not all near zero."""
    small = {"vocab_size": 211, "bos_token_id": None, "eos_token_id": None, "initializer_range": 0.2}
    gpt2 = {"n_positions": 96, "n_embd": 48, "n_layer": 3, "n_head": 4, **small}
    llama = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 6}
    llama = {**llama, "num_key_value_heads": 2, "max_position_embeddings": 96, **small}
    opt = {"hidden_size": 48, "ffn_dim": 80, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 96}
    opt = {**opt, **small, "init_std": 0.2, "pad_token_id": None}
    neox = {"hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4}
    neox = {**neox, "max_position_embeddings": 96, **small}
    of = lambda kind, config, **changes: (
        lambda: getattr(transformers, f"{kind}ForCausalLM" if kind != "GPT2" else "GPT2LMHeadModel")(
            getattr(transformers, f"{kind}Config")(**names_of_release(kind, {**config, **changes}))
        )
    )
    models = {
        "gpt2": of("GPT2", gpt2),
        "gpt2, untied, relu, n_inner 80": of(
            "GPT2", gpt2, tie_word_embeddings=False, activation_function="relu", n_inner=80
        ),
        "llama": of("Llama", llama),
        "llama, tied, biases, one key/value head": of(
            "Llama", llama, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, num_key_value_heads=1
        ),
        "llama, theta 500000": of("Llama", llama, rope_parameters={"rope_type": "default", "rope_theta": 5e5}),
        "mistral, no window": of("Mistral", llama, sliding_window=None),
        "qwen3": of("Qwen3", llama, head_dim=8),
        "qwen3, head_dim 12, tied, attention's biases": of(
            "Qwen3", llama, head_dim=12, tie_word_embeddings=True, attention_bias=True
        ),
        "qwen2": of("Qwen2", llama),
        "llama 3, rope scaling, head_dim 16": of("Llama", llama, head_dim=16, rope_parameters=LLAMA3),
        "llama, linear rope scaling, attention's biases": of(
            "Llama", llama, attention_bias=True, rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}
        ),
        "opt": of("OPT", opt),
        "opt, untied, no biases, gelu": of(
            "OPT", opt, tie_word_embeddings=False, enable_bias=False, activation_function="gelu"
        ),
        "gpt_neox": of("GPTNeoX", neox),
        "gpt_neox, serial, tied, half of each head turns": of(
            "GPTNeoX", neox, use_parallel_residual=False, tie_word_embeddings=True, attention_bias=False,
            rope_parameters={"rope_type": "default", "rope_theta": 1e3, "partial_rotary_factor": 0.5},
        ),
    }
    bert = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4}
    bert = {**bert, "max_position_embeddings": 96, "vocab_size": 211, "initializer_range": 0.2}
    models["bert"] = lambda: transformers.BertForMaskedLM(transformers.BertConfig(**bert))
    models["bert, one segment, tanh's gelu"] = lambda: transformers.BertForMaskedLM(
        transformers.BertConfig(**bert, type_vocab_size=1, hidden_act="gelu_new")
    )
    if not quick:
        size = {"bos_token_id": None, "eos_token_id": None}
        models["gpt2, 124M"] = of("GPT2", size)
        models["llama, 56M"] = of(
            "Llama", size, vocab_size=32000, hidden_size=512, intermediate_size=1376, num_hidden_layers=8,
            num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=1024,
        )
    return models


def randomise(model):
    """Biases and gains away from 0 and 1, where mistakes hide."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))


# ---- models that Sluice trains -------------------------------------------------------------------------------------

BASE = {
    "device": "cpu",
    "model": {"vocab_size": 211, "context": 96, "layers": 2, "heads": 4, "width": 48, "init": "pytorch"},
    "data": "random",
    "train": {"steps": 6, "batch": 2, "optimizer": {"lr": 0.03}},
    "log": {"probe_every": 6, "probe_batch": 2, "map_positions": 40},
}
BERT = {
    "residual": "post_norm", "segment_embedding": True, "head_transform": True, "head_bias": True, "mlp": "gelu_erf",
    "norm_epsilon": 1e-12,
}
LLAMA = {"norm": "rmsnorm", "position": "rope", "mlp": "swiglu", "bias": False, "mlp_width": 80}


def object_of(schema):
    """The part of a group's schema that says what it is as an object."""
    options = schema["oneOf"] if "oneOf" in schema else schema.get("anyOf", [schema])
    return next(option for option in options if "properties" in option)["properties"]


def model_schema(program):
    return json.loads(run(program, "config", "--schema"))["properties"]["model"]["properties"]


def score_models(program):
    """name -> changes of the model, one for each score function."""
    scores = object_of(object_of(model_schema(program)["attention"])["score"])["type"]["enum"]
    return {f"score {name}": {"attention": {"score": {"type": name}}} for name in scores}


def sluice_models(program):
    """name -> changes of the model."""
    schema = model_schema(program)
    presets = object_of(schema["attention"])["type"]["enum"]
    models = {f"preset {name}": {"attention": name} for name in presets if name != "custom"}
    gates = itertools.product(("hidden", "hidden_head", "value"), ("source", "output"), ("head", "element"))
    for reads, site, grain in gates:
        gate = {"reads": reads, "site": site, "grain": grain, "bias": grain == "head"}
        shared = {} if reads == "hidden_head" and site == "source" else {"kv_heads": 2}
        models[f"gate {reads}, {site}, {grain}"] = {"attention": {"gate": gate}, **shared}
    for name, plain in score_models(program).items():
        changes = {**plain["attention"], "key_value_bias": True, "gate": {"reads": "value", "site": "source"}}
        models[f"{name}, key_value_bias, gate at the source"] = {"attention": changes}
    models["sigmoid, bias -1, minus_log_length"] = {
        "attention": {"score": {"type": "sigmoid", "bias": -1.0, "minus_log_length": True}}
    }
    models["clipped_softmax, alpha 4, zeta 1.1"] = {
        "attention": {"score": {"type": "clipped_softmax", "alpha": 4.0, "zeta": 1.1}}
    }
    plain = {"position": "none", "bias": False, "mlp": "relu", "tied_head": False}
    models["no position, no biases, relu, untied"] = plain
    models["relu_squared, kv_heads 1"] = {"mlp": "relu_squared", "kv_heads": 1}
    models["vga with every key of published models"] = {
        "position": "rope", "rotary_features": 8, "head_size": 16, "parallel_residual": True, "bias": False,
        "rope_scaling": {"type": "llama3", "factor": 4.0, "original_context": 64}, "attention_bias": "qkv",
        "mlp": "gelu_erf", "attention": "vga",
    }
    pattern = ["vga", {"type": "sink_logit", "key_bias": True}, {"type": "gated_attention", "site": "source", "repeat": 2}]
    models["bert"] = {**BERT, "causal": False}
    models["exclude_self, grouped heads, a gate"] = {
        "attention": {"type": "vga", "exclude_self": True}, "heads": 4, "kv_heads": 2
    }
    models["wide values, a key bias, a gate at the source, grouped heads"] = {
        "attention": {"type": "vga", "site": "source", "key_value_bias": True, "exclude_self": True},
        "heads": 4, "kv_heads": 2, "value_head_size": 24, "position": "rope",
    }
    models["key_only, grouped heads, rope, a gate"] = {
        "attention": {"type": "vga", "core": "key_only"}, "heads": 4, "kv_heads": 2, "position": "rope",
    }
    models["lightning, grouped heads, rope, registers"] = {
        "attention": "lightning", "heads": 4, "kv_heads": 2, "position": "rope", "registers": 2,
    }
    models["transnormer, six heads, wide values, mixed and mapped, a pattern"] = {
        "attention": [{"type": "transnormer", "value_map": "silu", "value_residual": "learned", "decay": "head"}, "softmax"],
        "heads": 6, "head_size": 10, "value_head_size": 12, "layers": 3,
    }
    models["an MLP first, then attention with registers"] = {"attention": ["mlp", "vga"], "registers": 2, "layers": 3}
    models["an MLP of 20 in between, biases of its own, grouped heads"] = {
        "attention": ["softmax", {"core": "mlp", "mlp_width": 20}], "attention_bias": "qkv", "kv_heads": 2, "layers": 3,
    }
    models["queries and keys of the embedding, rope, a gate, parallel"] = {
        "attention": ["softmax", {"type": "vga", "qk_source": "embedding"}], "position": "rope", "kv_heads": 2,
        "parallel_residual": True,
    }
    models["queries and keys of random rows, registers, qk_norm, sinks"] = {
        "attention": ["sink_logit", {"type": "random_qk", "key_bias": True}], "registers": 2, "qk_norm": True, "layers": 3,
    }
    models["queries and keys of a text, rope, key_only, differences"] = {
        "attention": [{"type": "diff_v1", "qk_source": "text"}, {"type": "key_only", "qk_source": "text"}, "mlp"],
        "position": "rope", "registers": 1, "layers": 3,
    }
    models["registers in a window"] = {"attention": {"type": "vga", "window": 5}, "registers": 2}
    models["registers, vga"] = {"attention": "vga", "registers": 3}
    models["registers, rope, key_value_bias, grouped heads"] = {
        "attention": "key_value_bias", "registers": 2, "position": "rope", "heads": 4, "kv_heads": 2,
    }
    gate = {"reads": "value", "grain": "element"}
    models["diff_v2, two heads for one noise head, sinks, a gate, rope"] = {
        "attention": {"type": "diff_v2", "difference": {"signal": 2}, "score": {"type": "sink_logit"}, "gate": gate},
        "heads": 4, "kv_heads": 2, "position": "rope",
    }
    models["diff_v1 with wide values, qk_norm and rope"] = {
        "attention": "diff_v1", "heads": 2, "head_size": 12, "value_head_size": 24, "qk_norm": True, "position": "rope"
    }
    models["grouped_diff with wide values, sinks, a learned key and value, exclude_self"] = {
        "attention": {"type": "grouped_diff", "score": {"type": "sink_logit"}, "key_value_bias": True, "exclude_self": True},
        "heads": 4, "kv_heads": 2, "value_head_size": 24,
    }
    models["output_norm by depth, a gate at the source"] = {
        "attention": {"type": "vga", "site": "source", "output_norm": "rmsnorm_by_depth"}
    }
    models["a window, grouped heads, rope, a key bias"] = {
        "attention": {"type": "softmax", "window": 11, "key_bias": True}, "heads": 4, "kv_heads": 2, "position": "rope",
    }
    models["relu in a window"] = {"attention": {"score": "relu", "window": 20}}
    models["windows in every other layer"] = {
        "attention": [{"type": "sink_logit", "window": 9}, "sink_logit"], "layers": 4, "position": "rope",
    }
    models["permuted windows, grouped heads, rope, a key and value, a gate"] = {
        "attention": {"type": "stochastic", "window": 11, "key_value_bias": True, "reads": "value"},
        "heads": 4, "kv_heads": 2, "position": "rope",
    }
    models["a permuted window alone, sinks"] = {
        "attention": {"score": "sink_logit", "window": 9, "permuted": "alone", "permutation_seed": 2**40 + 5},
    }
    models["permuted windows, diff_v1"] = {
        "attention": {"type": "diff_v1", "window": 9, "permuted": "gated"}, "heads": 2, "qk_norm": True, "position": "rope"
    }
    models["mixture of heads, grouped, a gate"] = {
        "heads": 8, "kv_heads": 2, "position": "rope",
        "attention": {"type": "vga", "routed_heads": {"type": "linear", "shared": 3, "active": 2}},
    }
    models["heads by their queries' lengths"] = {
        "heads": 8, "kv_heads": 4, "position": "rope", "attention": {"routed_heads": "query_norm"},
    }
    models["affine by the context, a key bias, grouped heads"] = {
        "attention": {"affine": {"type": "sigmoid", "length": "context"}, "key_value_bias": True},
        "heads": 4, "kv_heads": 2, "position": "rope",
    }
    models["fixed value residual in some layers, a gate at the source, affine"] = {
        "attention": [
            "vga", {"type": "vga", "site": "source", "value_residual": {"type": "fixed", "own": 0.7}, "affine": "linear"}
        ],
        "layers": 4, "kv_heads": 1,
    }
    results = ("output", "output_head", "hidden_and_output", "hidden_and_output_head")
    for reads, rank in itertools.product(results, (0, 5)):
        gate = {"reads": reads, "grain": "element" if rank else "head", "bias": rank > 0, "rank": rank}
        models[f"gate {reads}, rank {rank}"] = {"attention": {"gate": gate, "exclude_self": rank > 0}, "kv_heads": 2}
    second = {"reads": "value", "grain": "head", "bias": True, "rank": 2}
    models["two gates, wide values, grouped heads"] = {
        "attention": {"gate": {"reads": "output_head", "grain": "element", "second": second}},
        "heads": 4, "kv_heads": 2, "value_head_size": 24,
    }
    models["two gates at the source"] = {
        "attention": {"type": "vga", "site": "source", "gate": {"second": {"reads": "hidden", "grain": "element"}}}
    }
    models["tda, grouped heads, two heads for one noise head, rope"] = {
        "attention": {"type": "tda", "difference": {"signal": 2, "keys": "shared"}}, "heads": 4, "kv_heads": 2,
        "position": "rope",
    }
    models["a gate of rank 3 on values"] = {"attention": {"type": "vga", "site": "source", "rank": 3}}
    models["threshold, rope, grouped heads"] = {"attention": "threshold", "position": "rope", "heads": 4, "kv_heads": 2}
    models["attention residuals"] = {"attention": "vga", "residual": "attention", "layers": 3}
    models["attention residuals in blocks, registers, rope"] = {
        "attention": "softmax", "residual": {"type": "attention", "blocks": 2, "init_std": 0.5}, "layers": 4, "registers": 2,
        "position": "rope",
    }
    models["delta residuals, side by side"] = {
        "attention": "vga", "residual": {"type": "delta", "init_std": 0.5}, "layers": 3, "parallel_residual": True,
    }
    models["delta residuals in blocks"] = {
        "attention": "value_residual", "residual": {"type": "delta", "blocks": 2, "init_std": 0.5}, "layers": 4,
        "norm": "rmsnorm",
    }
    models["norms with gates"] = {"norm": "rmsnorm", "norm_gate": 5, "attention": "softmax"}
    models["a pattern over layers"] = {"attention": pattern, "layers": 5, "qk_norm": True}
    models["gpt2 (native)"] = {"attention": "softmax", "init": "gpt2", "init_std": 0.2}
    models["llama (native), tied, kv_heads 2"] = {**LLAMA, "kv_heads": 2}
    models["llama (native), untied, biases"] = {**LLAMA, "tied_head": False, "bias": True}
    for preset in ("vga", "gated_sdpa", "sigmoid", "key_bias", "softpick"):
        models[f"llama with {preset}"] = {**LLAMA, "attention": preset, "kv_heads": 2}
    if "qk_norm" in schema:
        models["qwen3 (native)"] = {**LLAMA, "qk_norm": True, "kv_heads": 2}
        models["qk_norm with vga, learned positions"] = {"qk_norm": True, "attention": "vga"}
    return models


def masked_models(program):
    """name -> changes of the model, each of rows that see both sides."""
    scores = [changes["attention"]["score"]["type"] for changes in score_models(program).values()]
    models = {f"masked, {score}": {"attention": {"score": score, "window": 0 if i % 2 else 7}} for i, score in enumerate(scores)}
    models["masked, vga, rope, shared heads"] = {**LLAMA, "kv_heads": 2, "attention": "vga"}
    models["masked, diff_v1, key_value_bias"] = {"attention": {"type": "diff_v1", "key_value_bias": True}}
    models["masked, random_qk, a mix over depth"] = {"attention": "random_qk", "residual": "attention", "init": "bert"}
    models["masked, registers, BERT"] = {**BERT, "segment_embedding": False, "registers": 3}
    models["masked, registers, rope, window, key_value_bias, vga"] = {
        **LLAMA, "registers": 2, "attention": {"type": "vga", "window": 5, "key_value_bias": True},
    }
    models["masked, registers, relu, a mix over depth"] = {"registers": 1, "attention": "relu", "residual": "attention"}
    models["masked, registers, mlp, then sigmoid"] = {"registers": 2, "layers": 2, "attention": ["mlp", "sigmoid"]}
    models["masked, BERT with vga"] = {**BERT, "attention": "vga"}
    return {name: {**changes, "causal": False} for name, changes in models.items()}


MASKING = {"type": "random", "masking": {"share": 0.15, "token": 0}}


def train(program, folder, changes, data="random"):
    data = data if changes.get("causal", True) else MASKING
    config = {**BASE, "model": {**BASE["model"], **changes}, "data": data}
    (folder / "config.json").write_text(json.dumps(config))
    run(program, "train", folder / "config.json", "--out", folder / "run", "--quiet")
    return folder / "run"


# ---- comparison ----------------------------------------------------------------------------------------------------


def load(folder):
    masked = "MaskedLM" in json.loads((folder / "config.json").read_text())["architectures"][0]
    kind = AutoModelForMaskedLM if masked else AutoModelForCausalLM
    return kind.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32).eval()


def difference(model, tokens, logits):
    with torch.no_grad():
        return (model(tokens[None]).logits[0] - logits).abs().max().item()


def padded_difference(model, tokens, logits):
    """A short row beside a whole one, padded on the left."""
    pad, short = 7, len(tokens) - 7
    batch = torch.stack([torch.cat([torch.zeros(pad, dtype=torch.long), tokens[:short]]), tokens])
    mask = torch.ones_like(batch)
    mask[0, :pad] = 0
    with torch.no_grad():
        got = model(batch, attention_mask=mask).logits
    return max((got[0, pad:] - logits[:short]).abs().max().item(), (got[1] - logits).abs().max().item())


def beside_padding(model, tokens):
    """How far a text is from itself with padding behind it or before it, which it does not see; masks of two dimensions and
    of four, in which padding sees nothing either."""
    short, padding = tokens[:-5], torch.zeros(5, dtype=torch.long)
    worst = 0.0
    with torch.no_grad():
        alone = model(short[None]).logits[0]
        for parts, text in (((short, padding), slice(0, len(short))), ((padding, short), slice(5, None))):
            mask = torch.zeros(1, len(tokens), dtype=torch.long)
            mask[0, text] = 1
            seen = mask.bool()
            places = (mask.cumsum(-1) - 1).clamp(min=0)
            for given in (mask, seen[:, None, :, None] & seen[:, None, None, :]):
                if given.dim() == 4 and text.start and has_windows(model):
                    continue  # which rows are padding such a mask does not say
                found = model(torch.cat(parts)[None], attention_mask=given, position_ids=places).logits[0, text]
                worst = max(worst, (found - alone).abs().max().item())
    return worst


def has_windows(model):
    runs = getattr(model.config, "sluice_model", {"attention": {}})["attention"]
    return any(run.get("window", 0) for run in (runs if isinstance(runs, list) else [runs]) if isinstance(run, dict))


def library_greedy(model, prompt, end, use_cache):
    got = model.generate(
        prompt[None], attention_mask=torch.ones_like(prompt[None]), max_new_tokens=NEW, do_sample=False,
        use_cache=use_cache, eos_token_id=end, pad_token_id=end,
    )
    return [token for token in got[0, len(prompt) :].tolist() if token != end]


def sluice_greedy(program, run_folder, prompt, vocabulary, work):
    """Through a tokenizer of one character for each token; the last token ends a text, and begins one."""
    tokenizer = work / "characters.json"
    characters = [FIRST_CHARACTER + token for token in range(vocabulary - 1)]
    tokenizer.write_text(json.dumps({"type": "characters", "characters": characters}))
    (work / "prompt.txt").write_text("".join(chr(FIRST_CHARACTER + token) for token in prompt))
    text = run(
        program, "sample", run_folder, "--tokenizer", tokenizer, "--prompt-file", work / "prompt.txt",
        "--tokens", NEW, "--temperature", 0, "--device", "cpu",
    )
    written = [ord(character) - FIRST_CHARACTER for character in text if ord(character) >= FIRST_CHARACTER]
    return written[len(prompt) :] if written[: len(prompt)] == prompt else written


def compare(program, name, run_folder, work, original=None):
    """A row of the table, and whether all of it is right."""
    exported = work / "exported"
    run(program, "export", run_folder, exported, "--logits", TOKENS)
    stored = load_file(exported / "logits.safetensors")
    tokens, logits = stored["tokens"].long(), stored["logits"]
    model = load(exported)
    differences = [difference(model, tokens, logits)]
    if original is not None:
        differences.append(difference(load(original), tokens, logits))
    own = type(model).__name__ == "SluiceForCausalLM"
    if own:
        differences.append(padded_difference(model, tokens, logits))
    parameters = f"{sum(parameter.numel() for parameter in model.parameters()):,}"
    row = [name, type(model).__name__, parameters, f"{logits.abs().max():.2f}"]
    if type(model).__name__.endswith("MaskedLM"):
        differences.append(beside_padding(model, tokens))
        right = max(differences) <= BOUND
        return [name if right else f"**{name}**", *row[1:], f"{max(differences):.1e}", "none"], right

    vocabulary = model.config.vocab_size
    end, prompt = vocabulary - 1, [token % (vocabulary - 1) for token in tokens[:PROMPT].tolist()]
    with_end = torch.tensor([end] + prompt)
    expected = sluice_greedy(program, run_folder, prompt, vocabulary, work)
    greedy = all(library_greedy(model, with_end, end, cache) == expected for cache in (True, False))

    right = max(differences) <= BOUND and greedy and len(expected) > 0
    row.append(f"{max(differences):.1e}")
    row.append(f"{len(expected)} equal" if greedy else "**differ**")
    return row if right else [f"**{name}**", *row[1:]], right


# ---- what users do with an export -----------------------------------------------------------------------------------

BEHAVIOUR = {
    "vga, tied": {"attention": "vga"},
    "sink_logit, key_value_bias, gate at the source": {
        "tied_head": False,
        "attention": {
            "score": {"type": "sink_logit"}, "key_value_bias": True, "gate": {"reads": "value", "site": "source"},
        },
    },
    "key_bias, gate per element, rope, shared heads": {
        **LLAMA, "kv_heads": 2, "tied_head": False,
        "attention": {"key_bias": True, "gate": {"reads": "hidden", "grain": "element"}},
    },
    "input_gated, parallel, half of each head turns": {
        "attention": "input_gated", "position": "rope", "rotary_features": 8, "head_size": 16, "parallel_residual": True,
    },
    "sigmoid, no positions": {"attention": "sigmoid", "position": "none"},
    "exclude_self": {"attention": {"type": "softmax", "exclude_self": True}},
    "affine, value residual": {
        "attention": {"affine": {"type": "linear", "initial": 0.5}, "value_residual": "learned"}, "layers": 3
    },
    "threshold, a gate of low rank on two reads": {
        "attention": {"type": "threshold", "reads": "hidden_and_output", "grain": "element", "rank": 3},
    },
    "hyga, shared heads": {"attention": "hyga", "kv_heads": 2},
    "tda, rope": {"attention": "tda", "position": "rope"},
    "elastic_softmax, no positions": {"attention": "elastic_softmax", "position": "none"},
    "wide values": {"attention": {"type": "softmax", "key_bias": True}, "value_head_size": 32},
    "registers, rope": {"attention": "vga", "registers": 3, "position": "rope"},
    "a mix over depth": {"attention": "vga", "residual": {"type": "attention", "blocks": 2, "init_std": 0.5}, "layers": 4},
    "diff_v2, rope": {"attention": "diff_v2", "position": "rope", "kv_heads": 2},
    "diff_v1, key_bias, wide values": {"attention": {"type": "diff_v1", "key_bias": True}, "value_head_size": 24},
    "a window": {**LLAMA, "kv_heads": 2, "attention": {"type": "vga", "window": 7}},
    "permuted windows": {**LLAMA, "kv_heads": 2, "attention": {"type": "stochastic", "window": 7}},
    "gpt2 (native)": {"attention": "softmax"},
    "llama (native)": {**LLAMA, "kv_heads": 2},
}


def check_behaviour(program, changes, work, trainer):
    run_folder = train(program, work, changes)
    run(program, "export", run_folder, work / "exported", "--logits", TOKENS)
    return exported_behaviour.faults_of(lambda *parts: run(program, *parts), work / "exported", run_folder, work, trainer)


def check_scores(program, args, wrong):
    """Every score function, and masked language models, in logits alone; these also beside padding."""
    for name, changes in {**score_models(program), **masked_models(program)}.items():
        if args.only not in name:
            continue
        with tempfile.TemporaryDirectory(prefix="check_transformers_") as folder:
            work = Path(folder)
            run(program, "export", train(program, work, {**changes, "norm": "rmsnorm"}), work / "exported", "--logits", TOKENS)
            stored = load_file(work / "exported" / "logits.safetensors")
            model, tokens, logits = load(work / "exported"), stored["tokens"].long(), stored["logits"]
            found = difference(model, tokens, logits)
            if not changes.get("causal", True):
                found = max(found, beside_padding(model, tokens))
        print(f"{name}: largest difference {found:.1e}", flush=True)
        if not found <= BOUND:
            wrong.append(name)


def check_models(program, args, wrong):
    """Prints the table of models; the largest difference."""
    worst = 0.0

    def check(name, make_run):
        nonlocal worst
        if args.only not in name:
            return
        with tempfile.TemporaryDirectory(prefix="check_transformers_") as folder:
            work = Path(folder)
            run_folder, original = make_run(work)
            row, right = compare(program, name, run_folder, work, original)
        print("| " + " | ".join(row) + " |", flush=True)
        worst = max(worst, float(row[4]))
        if not right:
            wrong.append(name)

    def imported(make):
        def make_run(work):
            model = make()
            randomise(model)
            model.save_pretrained(work / "original")
            run(program, "import", work / "original", "--out", work / "run")
            return work / "run", work / "original"

        return make_run

    print("| model | class in transformers | parameters | largest logit | largest difference | greedy tokens |")
    print("|---|---|---|---|---|---|")
    for name, make in library_models(args.quick).items():
        check(f"imported {name}", imported(make))
    for name, changes in sluice_models(program).items():
        check(f"exported {name}", lambda work, changes=changes: (train(program, work, changes), None))
    print(f"\nlargest difference {worst:.1e}\n")


def check_behaviours(program, args, wrong):
    trainer = importlib.util.find_spec("accelerate") is not None
    if not trainer:
        print("note: accelerate is missing: the Trainer is not checked\n")
    for name, changes in BEHAVIOUR.items():
        if args.only not in f"behaviour of {name}":
            continue
        with tempfile.TemporaryDirectory(prefix="check_transformers_") as work:
            faults = check_behaviour(program, changes, Path(work), trainer)
        print(f"behaviour of {name}: {'; '.join(faults) or 'right'}", flush=True)
        if faults:
            wrong.append(f"behaviour of {name}")


def check_tokenizers(program, args, wrong):
    print("\n| tokenizer | tokens of the documents | of odd text | of names of tokens | |\n|---|---|---|---|---|")
    pages = sorted(REPOSITORY.glob("docs/t*.md" if args.smoke else "docs/*.md"))
    documents = "".join(page.read_text() for page in pages)
    for kind in exported_tokenizers.KINDS:
        if args.only not in f"tokenizer {kind}":
            continue
        with tempfile.TemporaryDirectory(prefix="check_transformers_") as work:
            tools = exported_tokenizers.Tools(
                lambda *parts: run(program, *parts), lambda *parts: train(program, *parts), Path(work)
            )
            row, right = exported_tokenizers.check(tools, kind, documents)
        print("| " + " | ".join(row) + " |", flush=True)
        if not right:
            wrong.append(f"tokenizer {kind}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sluice", default="build/release/sluice", type=Path)
    parser.add_argument("--only", default="", help="only what has this in its name")
    parser.add_argument("--quick", action="store_true", help="without the models of some size")
    parser.add_argument("--smoke", action="store_true", help="only each score function, the behaviour of a few exports, and tokenizers")
    args = parser.parse_args()
    program = args.sluice.resolve()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)

    print(f"transformers {transformers.__version__}, torch {torch.__version__}, {run(program, '--version').strip()}\n")
    wrong = []
    if args.smoke:
        check_scores(program, args, wrong)
    else:
        check_models(program, args, wrong)
    check_behaviours(program, args, wrong)
    check_tokenizers(program, args, wrong)
    print(f"\n{len(wrong)} wrong{': ' + '; '.join(wrong) if wrong else ''}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
