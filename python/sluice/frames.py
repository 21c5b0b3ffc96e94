"""Runs as pandas frames. pandas is loaded when a frame is asked for, so that the converters work without it."""
from .runs import Run, RunError, labels, list_runs, to_float

KINDS = ("train", "eval", "risk", "probe", "gate", "guard", "analysis", "analysis_layer", "analysis_head")


def load_pandas():
    try:
        import pandas
    except ImportError as error:
        raise RunError("frames need the pandas package: pip install pandas (sluice.Run gives lines and values without it)") from error
    return pandas


class RunFrames(Run):
    """A run with its metrics as frames: one of each kind of line, with columns step, layer, head and the fields.

    >>> run = sluice.read_run("runs/vga")
    >>> run.train.plot("step", "loss")
    >>> run.probe.pivot(index="step", columns=["layer", "head"], values="sink_attention")
    """

    def frame(self, kind):
        """The lines of a kind; an empty frame where there are none."""
        pandas = load_pandas()
        lines = [{key: narrow(value) for key, value in line.items() if key != "kind"} for line in self.lines
                 if line["kind"] == kind]
        frame = pandas.DataFrame(lines if lines else {"step": []})
        # A column of nothing but null is one of numbers that were not finite.
        return frame.apply(lambda column: column.astype(float) if column.isna().all() and len(column) else column)

    @property
    def kinds(self):
        """The kinds of lines that there are."""
        return sorted({line["kind"] for line in self.lines})

    @property
    def metrics(self):
        """Every measurement as a row: step, kind, layer, head, field, value."""
        frame = load_pandas().DataFrame(list(self.values()), columns=["step", "kind", "layer", "head", "field", "value"])
        return frame.astype({"layer": "Int64", "head": "Int64", "value": float})

    def attention_frame(self, step=None):
        """The saved attention maps of a step (the last) as rows: layer, head, query, key, weight."""
        maps = self.attention_maps()
        if not maps or (step is not None and step not in maps):
            raise RunError(f"{self.path} has no attention maps" + (f" of step {step}, but of {sorted(maps)}" if maps else ""))
        rows = [(one.layer, one.head, query, key, weight) for one in maps[max(maps) if step is None else step]
                for query, row in enumerate(one.weights) for key, weight in enumerate(row if one.both_sides else row[:query + 1])]
        return load_pandas().DataFrame(rows, columns=["layer", "head", "query", "key", "weight"])


def narrow(value):
    """A whole number that no column of numbers can hold as a float."""
    return to_float(value) if type(value) is int and abs(value) >= 2**63 else value


def _frame_of(kind):
    return property(lambda run: run.frame(kind), doc=f"The lines of kind {kind} as a frame.")


for _kind in KINDS:
    setattr(RunFrames, _kind, _frame_of(_kind))


def read_run(folder):
    """The run in a folder; RunError if it is none."""
    return RunFrames(folder)


def runs_frame(folder="runs"):
    """The runs in a folder as a frame: a label, all different, folder, status, steps, parameters and the last losses."""
    runs = list_runs(folder)
    rows = []
    for run, label in zip(runs, labels(runs)):
        last = {}
        for _, kind, _, _, field, value in run.values():
            if (kind, field) in (("train", "loss"), ("eval", "loss"), ("risk", "backcopy"), ("risk", "bigram")):
                last[f"{kind}.{field}"] = value
        rows.append({"run": label, "path": run.path, "seed": run.config.get("seed"), "status": run.status,
                     "steps": run.info.get("steps_done"), "parameters": run.info.get("parameters"), **last})
    return load_pandas().DataFrame(rows)
