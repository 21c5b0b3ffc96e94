"""Sluice's runs in Python.

    import sluice
    run = sluice.read_run("runs/vga")   # run.config, run.info, run.train, run.probe, run.attention_maps(), ...
    sluice.list_runs("runs")            # every run in a folder
    sluice.runs_frame("runs")           # the same as a table

Frames need pandas; all else needs nothing but Python. The commands sluice-to-tensorboard, sluice-to-wandb and sluice-plot are
to_tensorboard.py, to_wandb.py and plot.py.
"""
from .frames import RunFrames, read_run, runs_frame
from .runs import AttentionMap, Run, RunError, labels, list_runs

__all__ = ["AttentionMap", "Run", "RunError", "RunFrames", "labels", "list_runs", "read_run", "runs_frame"]
