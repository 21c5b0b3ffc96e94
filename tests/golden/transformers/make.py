#!/usr/bin/env python3
"""Tiny folders as the transformers library writes them, each with what the library computes: the files beside this one.

    python3 tests/golden/transformers/make.py [CASE ...]        (needs torch, transformers and safetensors)

tests/interchange/interchange_test.cc imports every folder and compares; README.md in the folder above tells how the tools are
installed. Weights are random, and large enough that a wrong activation or a missing bias shows. A folder's
logits.safetensors holds tokens [T] and their logits [T, V] in fp32, computed from the weights as they were stored.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, OPTConfig, OPTForCausalLM
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

HERE = Path(__file__).resolve().parent
NO_TOKENS = {"bos_token_id": None, "eos_token_id": None}


def randomise(model, std):
    generator = torch.Generator().manual_seed(42)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            middle = 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0  # the gain of a norm
            parameter.copy_(middle + std * torch.randn(parameter.shape, generator=generator))
    return model


def gpt2(**changes):
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=31, n_positions=24, n_embd=12, n_layer=2, n_head=2, **NO_TOKENS, **changes)
    )


def like_llama(config, model, **changes):
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    return model(config(vocab_size=31, max_position_embeddings=24, **{**sizes, **NO_TOKENS, **changes}))


def write(name, model, dtype=torch.float32, shard_size="5GB"):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model = randomise(model, 0.3).to(dtype)
    model.save_pretrained(folder, max_shard_size=shard_size)
    (folder / "generation_config.json").unlink(missing_ok=True)


def write_logits(name):
    model = AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32).eval()
    tokens = torch.randint(model.config.vocab_size, (24,), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        logits = model(tokens[None]).logits[0]
    save_file({"logits": logits, "tokens": tokens.int()}, HERE / name / "logits.safetensors")
    size = sum(file.stat().st_size for file in (HERE / name).iterdir())
    print(f"{name}: largest logit {logits.abs().max():.3f}, {size} bytes")


def make_gpt2():
    write("gpt2", gpt2())


def make_gpt2_first():
    """As the first GPT-2 files: no prefix, masks among the weights, fields left out; and F16, in several files."""
    write("gpt2_first", gpt2(n_inner=20, activation_function="relu").transformer, torch.float16, "6KB")
    folder = HERE / "gpt2_first"
    config = json.loads((folder / "config.json").read_text())
    for key in ("tie_word_embeddings", "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "add_cross_attention"):
        config.pop(key, None)
    config["architectures"] = ["GPT2LMHeadModel"]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    name = sorted(set(index["weight_map"].values()))[-1]
    mask = torch.ones(24, 24, dtype=torch.uint8).tril().view(1, 1, 24, 24)
    save_file({**load_file(folder / name), "h.0.attn.bias": mask}, folder / name, metadata={"format": "pt"})
    index["weight_map"]["h.0.attn.bias"] = name
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def make_gpt2_untied():
    write("gpt2_untied", gpt2(tie_word_embeddings=False))


def make_llama():
    write("llama", like_llama(LlamaConfig, LlamaForCausalLM, num_key_value_heads=2), torch.bfloat16)


def make_llama_biases():
    """Tied, with biases, and with fields where version 4 of the library had them."""
    biases = {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}
    write("llama_biases", like_llama(LlamaConfig, LlamaForCausalLM, num_key_value_heads=1, **biases))
    file = HERE / "llama_biases" / "config.json"
    config = json.loads(file.read_text())
    config.pop("rope_parameters")
    config["rope_theta"], config["rope_scaling"], config["torch_dtype"] = 500.0, None, config.pop("dtype")
    file.write_text(json.dumps(config, indent=2) + "\n")


def make_mistral():
    rope = {"rope_type": "default", "rope_theta": 1000.0}
    changes = {"num_key_value_heads": 4, "sliding_window": 24, "rope_parameters": rope}
    write("mistral", like_llama(MistralConfig, MistralForCausalLM, **changes), torch.float16)


def make_qwen3():
    write("qwen3", like_llama(Qwen3Config, Qwen3ForCausalLM, num_key_value_heads=2, head_dim=4), torch.bfloat16)


def make_qwen3_head_size():
    """A head's size that is not width / heads, and attention's biases alone."""
    changes = {"num_key_value_heads": 2, "head_dim": 6, "attention_bias": True, "tie_word_embeddings": True}
    write("qwen3_head_size", like_llama(Qwen3Config, Qwen3ForCausalLM, **changes), torch.bfloat16)


def make_qwen2():
    write("qwen2", like_llama(Qwen2Config, Qwen2ForCausalLM, num_key_value_heads=2), torch.bfloat16)


def make_llama3():
    """Pairs of features that turn fast, in between, and slowly, of which LLaMA 3 stretches each in its own way."""
    rope = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 0.5, "high_freq_factor": 4.0}
    rope["original_max_position_embeddings"] = 64
    changes = {"num_key_value_heads": 2, "head_dim": 8, "rope_parameters": rope, "attention_bias": True}
    write("llama3", like_llama(LlamaConfig, LlamaForCausalLM, **changes), torch.bfloat16)


def make_llama_linear():
    rope = {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.5}
    write("llama_linear", like_llama(LlamaConfig, LlamaForCausalLM, rope_parameters=rope), torch.bfloat16)


def make_opt():
    sizes = {"hidden_size": 12, "ffn_dim": 20, "num_hidden_layers": 2, "num_attention_heads": 2, "pad_token_id": None}
    write("opt", OPTForCausalLM(OPTConfig(vocab_size=31, max_position_embeddings=24, **sizes, **NO_TOKENS)), torch.float16)


def neox(**changes):
    sizes = {"hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(vocab_size=31, max_position_embeddings=24, **{**sizes, **NO_TOKENS, **changes})
    )


def make_gpt_neox():
    """A quarter of each head turns, attention and MLP side by side, the exact GELU: as Pythia."""
    write("gpt_neox", neox(), torch.float16)


def make_gpt_neox_serial():
    rope = {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}
    changes = {"use_parallel_residual": False, "attention_bias": False, "rope_parameters": rope, "hidden_size": 16}
    write("gpt_neox_serial", neox(**changes, tie_word_embeddings=True), torch.float16)


def main():
    cases = {name.removeprefix("make_"): make for name, make in globals().items() if name.startswith("make_")}
    unknown = set(sys.argv[1:]) - set(cases)
    if unknown:
        sys.exit(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(cases)}")
    torch.set_num_threads(1)
    for name in sys.argv[1:] or cases:
        cases[name]()
        write_logits(name)


if __name__ == "__main__":
    main()
