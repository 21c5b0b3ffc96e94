"""What a run's folder holds, for the scripts beside this file: its config, info.json, the lines of metrics.jsonl, and what
`sluice analyze --save` has kept, as the lines that a run itself would have written of it."""
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
        self.lines = with_analyses(read_lines(metrics), self.folder / "analysis")

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


def with_analyses(lines, folder):
    """The lines, with those of each analysis in the folder in the place of any of its step."""
    found = {}
    for path in sorted(folder.glob("step_*.json")):
        analysis = read_json(path)
        step = analysis["step"]
        found[step] = [{"kind": "analysis", "step": step, **analysis["summary"]}]
        for kind, parts in (("analysis_layer", "layers"), ("analysis_head", "heads")):
            found[step] += [{"kind": kind, "step": step, **part} for part in analysis[parts]]
    lines = [line for line in lines if not (line["kind"].startswith("analysis") and line["step"] in found)]
    return sorted(lines + [line for some in found.values() for line in some], key=lambda line: line["step"])


def tag(kind, layer, head, field):
    """The name of a curve: train/loss, probe/L0H3/sink_attention."""
    place = "" if layer is None else f"L{layer}" + ("" if head is None else f"H{head}") + "/"
    return f"{kind}/{place}{field}"
