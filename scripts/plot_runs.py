#!/usr/bin/env python3
"""Curves of several runs on one figure, from their metrics.jsonl (needs matplotlib).

    scripts/plot_runs.py OUT.png|OUT.pdf RUN... [--layer 0] [--head 0]

One panel a quantity: the risks (or the loss), sink attention, logit gap, value norms, gate openings; one colour a run.
Where a quantity has a value at position 0 and elsewhere, the first is solid and the second dashed.
"""
import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# title, kind of line, [(field, line style)], logarithmic
PANELS = [
    ("backcopy risk, nats", "risk", [("backcopy", "-")], True),
    ("bigram risk, nats", "risk", [("bigram", "-")], False),
    ("loss, nats", "train", [("loss", "-")], False),
    ("sink attention", "probe", [("sink_attention", "-")], False),
    ("sink logit gap, over the queries", "probe", [("sink_logit_gap_queries", "-")], False),
    ("value norm: position 0, elsewhere (dashed)", "probe", [("value_norm_sink", "-"), ("value_norm_rest", "--")], False),
    ("block output norm: position 0, elsewhere (dashed)", "probe",
     [("residual_norm_sink", "-"), ("residual_norm_rest", "--")], False),
    ("gate opening: mean, at position 0 (dashed)", "gate", [("mean", "-"), ("mean_sink", "--")], False),
]


def read_lines(run, layer, head):
    """Lines of metrics.jsonl by kind; of the kinds that have layers, those of one layer and head."""
    by_kind = {}
    with open(Path(run) / "metrics.jsonl") as file:
        for text in file:
            line = json.loads(text)
            if line.get("layer", layer) == layer and line.get("head", head) == head:
                by_kind.setdefault(line["kind"], []).append(line)
    return by_kind


def draw(axes, panel, runs):
    title, kind, fields, logarithmic = panel
    later = []  # what a loss is after its first fall, which would flatten all that follows
    for index, (name, lines) in enumerate(runs):
        for field, style in fields:
            points = [(line["step"], line[field]) for line in lines.get(kind, []) if field in line]
            if points:
                later += [value for step, value in points if step >= 0.1 * points[-1][0]]
                axes.plot(*zip(*points), style, color=f"C{index}", label=name if style == "-" else None, linewidth=1.2)
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=8)
    if logarithmic:
        axes.set_yscale("log")
    elif kind in ("risk", "train") and later:
        margin = 0.05 * (max(later) - min(later))
        axes.set_ylim(min(later) - margin, max(later) + margin)
    axes.grid(alpha=0.3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--layer", type=int, default=0)
    parser.add_argument("--head", type=int, default=0)
    args = parser.parse_args()

    runs = [(Path(run).name, read_lines(run, args.layer, args.head)) for run in args.runs]
    has_risk = any("risk" in lines for _, lines in runs)
    panels = [panel for panel in PANELS
              if any(panel[1] in lines for _, lines in runs) and not (has_risk and panel[1] == "train")]
    rows = (len(panels) + 1) // 2
    figure, axes = plt.subplots(rows, 2, figsize=(9, 2.4 * rows), sharex=True, squeeze=False)
    for spot, panel in zip(axes.flat, panels):
        draw(spot, panel, runs)
    for spot in axes.flat[len(panels):]:
        spot.set_visible(False)
    for spot in axes[-1]:
        spot.set_xlabel("step", fontsize=8)
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main()
