"""What a run's folder holds, for the scripts beside this file: its config, info.json and the lines of metrics.jsonl."""
import json
from pathlib import Path

# What says where a line belongs and is no measurement.
PLACE = ("kind", "step", "layer", "head")


class Run:
    def __init__(self, folder):
        self.folder = Path(folder)
        metrics = self.folder / "metrics.jsonl"
        if not metrics.is_file():
            raise SystemExit(f"{folder} is no run's folder: it has no metrics.jsonl")
        self.config = read_json(self.folder / "config.json")
        self.info = read_json(self.folder / "info.json")
        self.name = self.config.get("name", self.folder.resolve().name)
        self.lines = read_lines(metrics)

    def values(self):
        """Each measurement as (step, kind, layer, head, field, value); layer and head are None where there is none."""
        for line in self.lines:
            for field, value in line.items():
                if field not in PLACE and isinstance(value, (int, float)) and not isinstance(value, bool):
                    yield line["step"], line["kind"], line.get("layer"), line.get("head"), field, value

    def without_seed(self):
        """What runs that differ only by seed have in common; None where nothing is known."""
        same = {key: value for key, value in self.config.items() if key not in ("seed", "name", "output")}
        return json.dumps(same, sort_keys=True) if same else None


def read_json(path):
    return json.loads(path.read_text()) if path.is_file() else {}


def read_lines(path):
    """The lines of metrics.jsonl; a last one that a killed run has left half-written is passed over."""
    texts = path.read_text().splitlines()
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError as error:
            if number < len(texts):
                raise SystemExit(f"{path}: line {number} is malformed: {error}") from error
    return [line for line in lines if "kind" in line and "step" in line]


def tag(kind, layer, head, field):
    """The name of a curve: train/loss, probe/L0H3/sink_attention."""
    place = "" if layer is None else f"L{layer}" + ("" if head is None else f"H{head}") + "/"
    return f"{kind}/{place}{field}"
