"""What is kept of runs: the last value of everything that was measured of them, over heads and layers their mean, least and
largest. One file a part, docs/reproductions/results/PAGE_PART.json."""
import hashlib
import json
import math
import statistics
from collections import defaultdict

from .definition import read_json

KEPT_KINDS = ("risk", "eval", "probe", "gate", "analysis")
LAST_LOSSES = 10  # logged ones, whose mean stands for the training loss


def digest(layers):
    """Of the settings that a run's numbers hang on, as they are written: a default that is added later changes nothing."""
    return hashlib.sha256(json.dumps(layers, sort_keys=True).encode()).hexdigest()[:12]


def rounded(value):
    return float(f"{value:.5g}") if math.isfinite(value) else None


def figures_of(run, until=math.inf):
    """{"probe.sink_attention": number, or {mean, least, largest} of several heads or layers}, as they were last measured."""
    last, values = {}, defaultdict(list)
    for step, kind, layer, head, name, value in run.values():
        if kind in KEPT_KINDS and step <= until:
            last[kind] = max(step, last.get(kind, step))
            values[kind, name, step].append((layer is not None, value))
    figures = {}
    for (kind, name, step), found in values.items():
        if step != last[kind]:
            continue
        numbers = [value for _, value in found if math.isfinite(value)]
        if not numbers:
            continue
        of_places = any(placed for placed, _ in found)
        figures[f"{kind}.{name}"] = {
            "mean": rounded(statistics.fmean(numbers)), "least": rounded(min(numbers)), "largest": rounded(max(numbers))
        } if of_places and len(numbers) > 1 else rounded(numbers[0])
    losses = [line["loss"] for line in run.lines
              if line["kind"] == "train" and line.get("loss") is not None and line["step"] <= until]
    if losses:
        figures["train.loss"] = rounded(statistics.fmean(losses[-LAST_LOSSES:]))
    return figures


def final_figures(run):
    return {**figures_of(run), **quantized(run.folder / "quantization.json")}


def quantized(path):
    if not path.is_file():
        return {}
    numbers = read_json(path)
    plain, quantized_ = (numbers[key]["perplexity"] for key in ("plain", "quantized"))
    figures = {"quantization.plain_perplexity": rounded(plain), "quantization.perplexity": rounded(quantized_),
               "quantization.change": rounded(quantized_ / plain - 1)}
    if "all_activations" in numbers:
        figures["quantization.change_all_activations"] = rounded(numbers["all_activations"]["perplexity"] / plain - 1)
    return figures


class Results:
    """Runs of a part by variant and seed: {"variant", "seed", "commit", "config", "figures"}, and of a part with steps "at",
    figures by step."""

    def __init__(self, path):
        self.path = path
        self.runs = {}
        if path.is_file():
            for run in read_json(path)["runs"]:
                self.runs[run["variant"], run["seed"]] = run

    def has(self, variant, seed, config, steps=()):
        """Of a run with this config, with figures at these steps too."""
        kept = self.runs.get((variant, seed))
        return kept is not None and kept["config"] == config and all(str(step) in kept.get("at", {}) for step in steps)

    def add(self, variant, seed, config, commit, figures, at=None):
        self.runs[variant, seed] = {
            "variant": variant, "seed": seed, "commit": commit, "config": config, "figures": figures,
            **({"at": at} if at else {})}

    def of(self, variant):
        return [run for (name, _), run in sorted(self.runs.items()) if name == variant]

    def save(self, order):
        """One run a line, in the order of the sweep's variants; what the sweep no longer has stands last."""
        place = {variant: number for number, variant in enumerate(order)}
        runs = sorted(self.runs.values(), key=lambda run: (place.get(run["variant"], len(place)), run["variant"], run["seed"]))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = self.path.with_suffix(".new")
        whole.write_text('{"runs": [\n' + ",\n".join(json.dumps(run) for run in runs) + "\n]}\n", encoding="utf-8")
        whole.replace(self.path)
