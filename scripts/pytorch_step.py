#!/usr/bin/env python3
"""Times one training step of a GPT-2 shaped model in PyTorch on the CPU, for scripts/bench_peers.

The step is the one `sluice bench` times: pre-LayerNorm blocks with biases, one fused query-key-value projection, causal
softmax attention, tanh GELU, an output head tied to the token embedding, mean cross entropy, gradient clipping at 1,
AdamW. bf16 means autocast over fp32 weights. Tokens are random and drawn before the clock starts.

Needs only PyTorch. Prints one line, and with --json the same figures as an object.
"""
import argparse
import json
import math
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--vocab", type=int, default=50257)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--compile", action="store_true", help="run the model through torch.compile")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="steps that are timed")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them")
    parser.add_argument("--json", action="store_true", help="print an object instead of a line")
    arguments = parser.parse_args()
    if arguments.width % arguments.heads:
        parser.error(f"--width {arguments.width} is not a multiple of --heads {arguments.heads}")
    return arguments


def causal_attention(query, key, value):
    """softmax(query key^T / sqrt(d), causal) value; every tensor is batch x heads x T x d."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    T = query.shape[-2]
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    future = torch.ones(T, T, dtype=torch.bool, device=query.device).triu(1)
    return torch.softmax(scores.masked_fill(future, float("-inf")), dim=-1) @ value


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        B, T, C = x.shape
        query, key, value = (part.view(B, T, self.heads, C // self.heads).transpose(1, 2)
                             for part in self.qkv(self.norm1(x)).split(C, dim=2))
        mixed = causal_attention(query, key, value).transpose(1, 2).reshape(B, T, C)
        x = x + self.projection(mixed)
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, layers, heads, width, vocab, context):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=0.02)

    def forward(self, inputs, targets):
        positions = torch.arange(inputs.shape[1])
        x = self.tokens(inputs) + self.positions(positions)
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def make_optimizer(model):
    """AdamW by the fastest of its implementations that this PyTorch has for the CPU; returns it and its name."""
    groups = [{"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
              {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0}]
    for name in ("fused", "foreach"):
        try:
            return torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95), **{name: True}), name
        except (RuntimeError, TypeError):
            continue
    return torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95)), "plain"


def main():
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(42)
    model = Gpt(args.layers, args.heads, args.width, args.vocab, args.context)
    optimizer, optimizer_name = make_optimizer(model)
    forward = torch.compile(model) if args.compile else model
    batches = torch.randint(args.vocab, (args.warmup + args.steps, args.batch, args.context + 1))

    seconds = []
    for batch in batches:
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.precision == "bf16"):
            loss = forward(batch[:, :-1], batch[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    seconds = sorted(seconds[args.warmup:])
    median = statistics.median(seconds)
    loss = loss.item()
    if not math.isfinite(loss):
        raise SystemExit(f"the loss is {loss}")

    result = {"tokens_per_second": args.batch * args.context / median, "step_seconds": median,
              "fastest_seconds": seconds[0], "slowest_seconds": seconds[-1], "loss": loss,
              "parameters": sum(p.numel() for p in model.parameters()), "precision": args.precision,
              "compiled": args.compile, "optimizer": optimizer_name, "threads": torch.get_num_threads(),
              "torch": torch.__version__, "steps": args.steps}
    if args.json:
        print(json.dumps(result))
    else:
        print("{tokens_per_second:.0f} tokens/s, step {step_seconds:.3f} s (median of {steps}), "
              "{parameters} parameters, {precision}, AdamW {optimizer}, {threads} threads, "
              "PyTorch {torch}".format(**result))


if __name__ == "__main__":
    main()
