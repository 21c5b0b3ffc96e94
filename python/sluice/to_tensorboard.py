"""Runs as TensorBoard event files. Needs nothing but Python; `tensorboard --logdir OUT` shows them.

    {prog} OUT RUN... [--follow [--interval S]]

Each run becomes OUT/NAME/events.out.tfevents.sluice, written anew each time: a run that goes on can be converted again. Of
runs of one name each has a folder of its own, "NAME (FOLDER)", and keeps it in later calls. With the curves go the settings
(pages HPARAMS and TEXT) and what the guard did (guard/skip, guard/roll_back, guard/stop, and its reasons as text). Values
that are not finite, or beyond a float's range, are marked as such in the curves.

--follow goes on while the runs train. Steps that a roll-back or a resume takes back are taken back in TensorBoard too. What
`sluice analyze --save` keeps comes with a conversion without --follow.
"""
import datetime
import json
import os
import time
from pathlib import Path

from . import tensorboard
from .command import add_following, file_name, parser, program_name, run_command
from .follow import Follower, follow
from .runs import Run, RunError, flatten, guard_event, labels, open_runs, read_object, tag, values_of

NAME = program_name("sluice-to-tensorboard")
EVENTS = "events.out.tfevents.sluice"
OWNER = ".sluice_run"  # which run a folder is of


def start_of(info):
    try:
        start = datetime.datetime.strptime(info.get("started", ""), "%Y-%m-%dT%H:%M:%SZ")
    except (TypeError, ValueError):
        return 0.0
    return start.replace(tzinfo=datetime.timezone.utc).timestamp()


def number_of(info, key):
    value = info.get(key, 0)
    return value if isinstance(value, (int, float)) else 0


def head_of(run):
    """What stands before the curves, as records: the settings, as a table of hyperparameters and as text."""
    start = start_of(run.info)
    values = [tensorboard.text("config", "```\n" + json.dumps(run.config, indent=2) + "\n```")]
    if run.config:
        values.append(tensorboard.hyperparameters(flatten(run.config), start))
    return [tensorboard.version_event(start), tensorboard.summary_event(start, 0, values)]


class Curves:
    """Lines as events. The guard's are counted, so that each action is a step up."""

    def __init__(self):
        self.counts = {}
        self.written = 0

    def events(self, lines, time_of):
        by_step = {}
        for line in lines:
            values = by_step.setdefault(line["step"], [])
            if line["kind"] == "guard":
                values += self.guard_values(*guard_event(line))
                continue
            for field, value in values_of(line):
                values.append(tensorboard.scalar(tag(line["kind"], line.get("layer"), line.get("head"), field), value))
                self.written += 1
        return [tensorboard.summary_event(time_of(step), step, by_step[step]) for step in sorted(by_step) if by_step[step]]

    def guard_values(self, step, action, reason):
        self.counts[action] = self.counts.get(action, 0) + 1
        self.written += 1
        return [tensorboard.scalar(f"guard/{action}", self.counts[action]),
                tensorboard.text("guard/reason", f"step {step}, {action}: {reason}")]


def write_whole(path, content):
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def bring_up_to_date(path, head, curves):
    """The file becomes the head and the curves. Where it has the first of these curves already, times apart, only the rest
    is appended: a TensorBoard that is open reads on, and would not see that a file was replaced."""
    try:
        old = tensorboard.split_records(path.read_bytes())
    except FileNotFoundError:
        old = None
    bodies = [tensorboard.without_time(one) for one in curves]
    if old and len(old) > 1 and [tensorboard.without_time(one) for one in old[2:]] == bodies[:len(old) - 2]:
        same_head = tensorboard.without_time(old[1]) == tensorboard.without_time(head[1])
        append(path, ([] if same_head else head[1:]) + curves[len(old) - 2:])
    else:
        write_whole(path, b"".join(head + curves))


def append(path, records):
    with open(path, "ab") as file:
        file.write(b"".join(records))


def write_lines(run, lines, path):
    """Times are not in the metrics: steps are spread evenly over what the run took, or has taken until now."""
    start, took = start_of(run.info), number_of(run.info, "seconds")
    steps = max([1, number_of(run.info, "steps_done")] + [line["step"] for line in lines])
    if run.status == "running" and start > 0:
        took = max(took, run.metrics_file.stat().st_mtime - start)
    curves = Curves()
    bring_up_to_date(path, head_of(run), curves.events(lines, lambda step: start + took * step / steps))
    return curves


# ---- whose folder is whose -------------------------------------------------------------------------------------------

def is_of(folder, run):
    """Whether this folder of events is the run's: of the same folder, or of the same run, which lay elsewhere before."""
    owner = read_object(folder / OWNER)
    there = owner.get("folder")
    if there == str(run.folder.resolve()):
        return True
    return owner.get("run") == run.identity() and not (Path(str(there)) / "metrics.jsonl").exists()


def folder_for(run, label, out):
    """The run's folder in OUT: the one it had before, else the first name that no other run has."""
    for marker in sorted(out.glob(f"*/{OWNER}")):
        if is_of(marker.parent, run):
            return marker.parent
    candidates = [label, f"{run.name} ({run.path})"] + [f"{run.name} ({run.path}) #{n}" for n in range(2, 1000)]
    for name in candidates:
        folder = out / file_name(name)
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            break
    else:
        raise RunError(f"{out} has no free name for {run.path}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def mark(folder, run):
    owner = {"folder": str(run.folder.resolve()), "run": run.identity()}
    write_whole(folder / OWNER, (json.dumps(owner) + "\n").encode())


class Followed:
    """A run's folder of events that grows with the run."""

    def __init__(self, run, folder):
        self.folder, self.out = run.folder, folder
        self.follower = Follower(run.metrics_file)
        self.begin(run, self.follower.poll()[1])

    def begin(self, run, lines):
        self.mark_with(run, lines)
        self.curves = write_lines(run, lines, self.out / EVENTS)

    def mark_with(self, run, lines):
        mark(self.out, run)
        self.is_marked = any(line["kind"] == "train" for line in lines)  # which the run's identity is made of

    def take(self, cut, lines):
        if not self.is_marked:
            self.mark_with(Run(self.folder), lines)
        if cut is not None:
            print(f"{self.out}: back to step {cut}", flush=True)
            if self.follower.kept == 0:  # another run may have taken the folder
                self.begin(Run(self.folder), lines)
                return
        now = time.time()
        records = [] if cut is None else [tensorboard.session_event(now, cut)]
        append(self.out / EVENTS, records + self.curves.events(lines, lambda step: now))


def main():
    arguments = parser(NAME, __doc__.replace("{prog}", NAME))
    arguments.add_argument("out", metavar="OUT")
    arguments.add_argument("runs", nargs="+", metavar="RUN")
    add_following(arguments)
    args = arguments.parse_args()
    runs = open_runs(args.runs)
    for run in runs:
        run.lines  # all are read before anything is written
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    followed = []
    for run, label in zip(runs, labels(runs)):
        folder = folder_for(run, label, out)
        if args.follow:
            followed.append(Followed(run, folder))
            print(f"{folder / EVENTS}: follows {run.path}", flush=True)
        else:
            curves = write_lines(run, run.lines, folder / EVENTS)
            mark(folder, run)
            print(f"{folder / EVENTS}: {curves.written} values")
    if followed:
        follow(followed, args.interval)


def command():
    run_command(main)


if __name__ == "__main__":
    command()
