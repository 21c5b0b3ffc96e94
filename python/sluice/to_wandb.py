"""Runs as W&B runs on disk, nothing is sent: `wandb sync OUT/wandb/offline-run-*` uploads them. Needs wandb.

    {prog} OUT RUN... [--project NAME] [--online] [--follow [--interval S]]

A run's id follows from the run itself, so that a second conversion is the same run in W&B: a longer one after it has gone on,
not one more. Runs of one name are called "NAME (FOLDER)". Of what is not finite W&B shows NaN or Infinity; what the guard did
is in guard/skip, guard/roll_back, guard/stop and guard/reason.

--online sends at once, to the account that `wandb login` has set up. --follow goes on while the runs train; steps that a
roll-back or a resume takes back stay in W&B's history, and the lines after it have a higher "life".
"""
import hashlib
import os
import re
from pathlib import Path

from .command import add_following, parser, program_name, run_command
from .follow import Follower, follow
from .runs import Run, RunError, flatten, guard_event, labels, open_runs, read_object, tag, values_of

NAME = program_name("sluice-to-wandb")


def load_wandb():
    try:
        import wandb
    except ImportError as error:
        raise RunError(f"{NAME} needs the wandb package: pip install wandb") from error
    return wandb


def id_of(run, taken):
    """The run's id; a copy of a run that is given with it gets one of its own."""
    identity = run.identity()
    if identity in taken:
        identity += hashlib.sha256(str(run.folder.resolve()).encode()).hexdigest()[:6]
    taken.add(identity)
    return identity


class Rows:
    """Lines as rows of W&B's history, one a step."""

    def __init__(self):
        self.counts, self.life = {}, 1

    def rows(self, lines):
        by_step = {}
        for line in lines:
            row = by_step.setdefault(line["step"], {"step": line["step"]})
            if self.life > 1:
                row["life"] = self.life
            if line["kind"] == "guard":
                _, action, reason = guard_event(line)
                self.counts[action] = self.counts.get(action, 0) + 1
                row[f"guard/{action}"] = self.counts[action]
                row["guard/reason"] = f"{row['guard/reason']}; {reason}" if "guard/reason" in row else reason
            for field, value in values_of(line) if line["kind"] != "guard" else ():
                row[tag(line["kind"], line.get("layer"), line.get("head"), field)] = value
        return [by_step[step] for step in sorted(by_step)]


def begin(wandb, run, label, identity, args):
    # Runs that differ only by seed can be averaged in W&B by their group.
    seed = run.config.get("seed")
    group = re.sub(f"[-_]s?{re.escape(str(seed))}$", "", run.name) if seed is not None else None
    # Only a run that is online can be gone on with; on disk each conversion is whole, under the same id.
    target = wandb.init(mode="online" if args.online else "offline", project=args.project, name=label.encode("utf-8", "replace").decode(), id=identity,
                        resume="allow" if args.online else None, group=group, config=run.config, dir=args.out,
                        settings=wandb.Settings(silent=True, x_disable_stats=True, reinit="create_new"))
    target.define_metric("*", step_metric="step")
    return target


def end(target, info, failed):
    target.summary.update({key: value for key, value in flatten(info).items()})
    folder = target.dir
    target.finish(exit_code=1 if failed else 0)
    return Path(folder).parent


class Followed:
    """A run that is sent while it grows. It begins with its first training line, which its id is made of."""

    def __init__(self, wandb, run, label, args, taken):
        self.wandb, self.label, self.args, self.taken = wandb, label, args, taken
        self.folder, self.follower = run.folder, Follower(run.metrics_file)
        self.target, self.identity, self.waiting = None, None, []

    def begin(self):
        run = Run(self.folder)
        if self.identity is None:  # else a beginning that was interrupted
            self.identity = id_of(run, self.taken)
        self.rows = Rows()
        self.target = begin(self.wandb, run, self.label, self.identity, self.args)
        # What an earlier following has sent is not sent again.
        sent = self.target.summary.get("step") if self.target.resumed else None
        self.sent = sent if isinstance(sent, int) else -1

    def take(self, cut, lines):
        if cut is not None:
            self.waiting = [line for line in self.waiting if line["step"] < cut]
            if self.target is not None and self.follower.kept == 0:
                self.end({})  # another run has taken the folder, and with it info.json
            elif self.target is not None:
                self.rows.life += 1
                self.sent = -1
        self.waiting += lines
        if self.target is None and any(line["kind"] == "train" for line in self.waiting):
            self.begin()
        if self.target is not None:
            self.send()

    def send(self):
        for row in self.rows.rows(self.waiting):
            if row["step"] > self.sent:
                self.target.log(row)
        self.waiting = []

    def end(self, info=None):
        if self.target is None and self.waiting:
            self.begin()
            self.send()
        if self.target is None:
            return
        info = read_object(self.folder / "info.json") if info is None else info
        print(f"{self.label}: {end(self.target, info, info.get('status') == 'failed')}", flush=True)
        self.taken.discard(self.identity)
        self.target, self.identity = None, None


def main():
    arguments = parser(NAME, __doc__.replace("{prog}", NAME))
    arguments.add_argument("out", metavar="OUT")
    arguments.add_argument("runs", nargs="+", metavar="RUN")
    arguments.add_argument("--project", default="sluice")
    arguments.add_argument("--online", action="store_true", help="send at once")
    add_following(arguments)
    args = arguments.parse_args()
    wandb = load_wandb()
    runs = open_runs(args.runs)
    for run in runs:
        run.lines  # all are read before anything is written
    os.makedirs(args.out, exist_ok=True)
    chosen, taken = list(zip(runs, labels(runs))), set()
    if args.follow:
        follow_all([Followed(wandb, run, label, args, taken) for run, label in chosen], args)
        return
    for run, label in chosen:
        target = begin(wandb, run, label, id_of(run, taken), args)
        for row in Rows().rows(run.lines):
            target.log(row)
        print(f"{label}: {end(target, run.info, run.status == 'failed')}")


def follow_all(followed, args):
    for one in followed:
        print(f"{one.label}: follows {one.folder}", flush=True)
    try:
        follow(followed, args.interval)
    finally:
        for one in followed:
            one.end()


def command():
    run_command(main)


if __name__ == "__main__":
    command()
