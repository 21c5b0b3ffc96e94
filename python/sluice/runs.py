"""What a run's folder holds: its config, info.json, the lines of metrics.jsonl, attention maps, and what
`sluice analyze --save` has kept. Needs nothing but Python; `frames.py` makes pandas frames of it.

Numbers that are not finite stand as null in metrics.jsonl, since JSON has no word for them: here they are nan again.
"""
import hashlib
import json
import math
from pathlib import Path

# What says where a line belongs and is no measurement.
PLACE = ("kind", "step", "layer", "head")

# What may change between a run and its continuation, and with it what does not make another run of it.
CHANGES = ("name", "device", "log", "output")
CHANGES_IN_TRAIN = ("steps", "micro_batch", "recompute", "zero", "bucket_mb", "rank_timeout")


class RunError(ValueError):
    """A folder or file that is not what it should be; its text is one sentence."""


class Run:
    """A run as it is on the disk now. `path` is the folder as it was given, `name` the config's, else the folder's."""

    def __init__(self, folder):
        self.path = str(folder)
        self.folder = Path(folder)
        metrics = self.folder / "metrics.jsonl"
        if not is_file(metrics):
            raise RunError(f"{folder} is no run's folder: it has no metrics.jsonl")
        self.metrics_file = metrics
        self.config = read_object(self.folder / "config.json")
        self.info = read_object(self.folder / "info.json")
        name = self.config.get("name")
        self.name = name if isinstance(name, str) and name else self.folder.resolve().name
        self._lines = None

    def __repr__(self):
        return f"<sluice.Run {self.name!r} in {self.path!r}>"

    @property
    def lines(self):
        """Its metrics as dicts, in the order of their steps, with those of each saved analysis."""
        if self._lines is None:
            self._lines = with_analyses(read_lines(self.metrics_file), self.folder / "analysis")
        return self._lines

    @property
    def figures(self):
        """What its newest analysis says of its own figures: dicts with key, group, title and meaning."""
        newest = max((self.folder / "analysis").glob("step_*.json"), default=None)
        listed = read_object(newest).get("figures") if newest else None
        keys = ("key", "group", "title", "meaning")
        whole = [each for each in listed or [] if isinstance(each, dict) and all(isinstance(each.get(k), str) for k in keys)]
        return [{k: each[k] for k in keys} for each in whole]

    @property
    def status(self):
        """running, done, stopped or failed; a run that was killed still says running."""
        status = self.info.get("status")
        return status if isinstance(status, str) else ""

    def values(self):
        """Each measurement as (step, kind, layer, head, field, value); layer and head are None where there is none."""
        for line in self.lines:
            for field, value in values_of(line):
                yield line["step"], line["kind"], line.get("layer"), line.get("head"), field, value

    def guard_events(self):
        """What the guard did, as (step, action, reason): skip, roll_back or stop."""
        return [guard_event(line) for line in self.lines if line["kind"] == "guard"]

    def without_seed(self):
        """What runs that differ only by seed have in common; None where nothing is known."""
        same = {key: value for key, value in self.config.items() if key not in ("seed", "name", "output")}
        return json.dumps(same, sort_keys=True) if same else None

    def identity(self):
        """Twelve hex digits that stay the run's own while it goes on, is stopped, resumed or moved with its folder's name,
        and differ for another run, be it of the same config: they are made of the folder's name, of what the config may
        not change, and of the first training line, whose times no other run shares."""
        config = {key: value for key, value in self.config.items() if key not in CHANGES}
        if isinstance(config.get("train"), dict):
            config["train"] = {key: value for key, value in config["train"].items() if key not in CHANGES_IN_TRAIN}
        first = next((line for line in self.lines if line["kind"] == "train"), None)
        # Before its first line a run has nothing of its own but its place.
        own = [self.folder.resolve().name if first else str(self.folder.resolve()), config, first]
        return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:12]

    def attention_maps(self):
        """The saved attention maps by step: {0: [AttentionMap, ...], ...}."""
        found = {}
        for path in sorted((self.folder / "attention").glob("step_*.json")):
            content = read_object(path)
            try:
                found[content["step"]] = [AttentionMap(content["step"], content["tokens"], one) for one in content["maps"]]
            except (KeyError, TypeError, AttributeError) as error:
                raise RunError(f"{path} holds no attention maps: {error!r}") from error
        return found


class AttentionMap:
    """A head's attention on a held-out sequence: weights[query][key], zero where key > query unless queries see both sides
    (both_sides, of masked language models); gate is a list, or None."""

    def __init__(self, step, tokens, one):
        self.step, self.tokens = step, tokens
        self.layer, self.head, self.gate = one["layer"], one["head"], one.get("gate")
        self.both_sides = len(one["weights"]) > 1 and len(one["weights"][0]) == len(one["weights"])
        self.weights = [row + [0.0] * (len(one["weights"]) - len(row)) for row in one["weights"]]

    def __repr__(self):
        return f"<sluice.AttentionMap step {self.step}, layer {self.layer}, head {self.head}>"


def list_runs(folder="runs"):
    """All runs in a folder, in its sub-folders too, in the order of their paths; not what `--resume never` put aside."""
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder")
    found = [path.parent for path in folder.rglob("metrics.jsonl")]
    inside = {path for path in found if any(parent in found for parent in path.parents)}
    return [Run(path) for path in sorted(found) if path not in inside]


def values_of(line):
    """The measurements of a line, as (field, float)."""
    for field, value in line.items():
        if field in PLACE or isinstance(value, bool):
            continue
        if value is None:
            yield field, math.nan
        elif isinstance(value, (int, float)):
            yield field, to_float(value)


def to_float(value):
    try:
        return float(value)
    except OverflowError:  # a whole number beyond 1.8e308
        return math.inf if value > 0 else -math.inf


def guard_event(line):
    return line["step"], str(line.get("action", "")), str(line.get("reason", ""))


def labels(runs):
    """What to call each of the runs, all different: its name; where several share it also the seed, else the folder, else
    the place in the list, as `sluice compare` does."""
    out = [run.name for run in runs]

    def extend(extra):
        shared = [label for label in out if out.count(label) > 1]
        for at, label in enumerate(list(out)):
            more = extra(at, label) if label in shared else ""
            out[at] = f"{label} {more}" if more else label

    seeds = {}
    for run, label in zip(runs, out):
        if "seed" in run.config:
            seeds.setdefault(label, set()).add(str(run.config["seed"]))
    extend(lambda at, label: f"seed {runs[at].config['seed']}"
           if "seed" in runs[at].config and len(seeds[label]) > 1 else "")
    extend(lambda at, label: f"({runs[at].path})")
    extend(lambda at, label: f"#{at + 1}")
    return out


def open_runs(folders):
    """A Run for each folder, each once."""
    runs, seen = [], set()
    for folder in folders:
        run = Run(folder)
        if run.folder.resolve() not in seen:
            seen.add(run.folder.resolve())
            runs.append(run)
    return runs


def is_file(path):
    try:
        return path.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise RunError(f"{path} cannot be read: {error.strerror}") from error


def read_text(path):
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is not valid UTF-8 at byte {error.start}") from error


def read_object(path):
    """A file's JSON object; an empty one where there is no file."""
    if not is_file(path):
        return {}
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is malformed: {error}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} is malformed: it holds no JSON object")
    return content


def parse_line(text, where):
    """A line of metrics.jsonl; None for one that is no measurement of a step."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{where} is malformed: {error}") from error
    if not isinstance(line, dict):
        raise RunError(f"{where} is malformed: it is no JSON object")
    if "kind" not in line or "step" not in line:
        return None
    if not isinstance(line["kind"], str) or type(line["step"]) is not int or not 0 <= line["step"] < 2**63:
        raise RunError(f"{where} is malformed: kind must be a string and step a whole number")
    return line


def read_lines(path):
    """The lines of metrics.jsonl; a last one that a killed run has left half-written is passed over."""
    texts = read_text(path).rstrip().split("\n")
    lines = []
    for number, text in enumerate(texts, 1):
        if text.strip():
            try:
                lines.append(parse_line(text, f"{path}: line {number}"))
            except RunError:
                if number < len(texts):
                    raise
    return [line for line in lines if line is not None]


def with_analyses(lines, folder):
    """The lines, with those of each analysis in the folder in the place of any of its step."""
    found = {}
    for path in sorted(folder.glob("step_*.json")):
        analysis = read_object(path)
        try:
            step = analysis["step"]
            found[step] = [{"kind": "analysis", "step": step, **analysis["summary"]}]
            for kind, parts in (("analysis_layer", "layers"), ("analysis_head", "heads")):
                found[step] += [{"kind": kind, "step": step, **part} for part in analysis[parts]]
        except (KeyError, TypeError) as error:
            raise RunError(f"{path} holds no analysis: {error!r}") from error
    lines = [line for line in lines if not (line["kind"].startswith("analysis") and line["step"] in found)]
    return sorted(lines + [line for some in found.values() for line in some], key=lambda line: line["step"])


def tag(kind, layer, head, field):
    """The name of a curve: train/loss, probe/L0H3/sink_attention."""
    place = "" if layer is None else f"L{layer}" + ("" if head is None else f"H{head}") + "/"
    return f"{kind}/{place}{field}"


def flatten(config, prefix=""):
    """A config's settings as {"train.optimizer.lr": 0.0003}; lists as JSON."""
    out = {}
    for key, value in config.items():
        if isinstance(value, dict):
            out.update(flatten(value, f"{prefix}{key}."))
        else:
            out[prefix + key] = value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
    return out
