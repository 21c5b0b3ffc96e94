#!/usr/bin/env python3
"""Runs as W&B runs on disk, nothing is sent: `wandb sync OUT/wandb/offline-run-*` uploads them. Needs wandb.

    scripts/to_wandb.py OUT RUN... [--project NAME]
"""
import argparse
import os
from pathlib import Path

from sluice_metrics import Run, tag

try:
    import wandb
except ImportError as error:
    raise SystemExit("to_wandb.py needs the wandb package: pip install wandb") from error


def convert(run, out, project):
    # Runs that differ only by seed can be averaged in W&B by their group.
    seed = run.config.get("seed")
    group = run.name.removesuffix(f"-s{seed}") if seed is not None else None
    target = wandb.init(mode="offline", project=project, name=run.name, group=group, config=run.config, dir=out,
                        settings=wandb.Settings(silent=True, x_disable_stats=True))
    target.define_metric("*", step_metric="step")
    by_step = {}
    for step, kind, layer, head, field, value in run.values():
        by_step.setdefault(step, {"step": step})[tag(kind, layer, head, field)] = value
    for step in sorted(by_step):
        target.log(by_step[step])
    target.summary.update({key: value for key, value in run.info.items() if not isinstance(value, dict)})
    folder = target.dir
    target.finish()
    print(f"{run.name}: {Path(folder).parent}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--project", default="sluice")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    for run in args.runs:
        convert(Run(run), args.out, args.project)


if __name__ == "__main__":
    main()
