#!/usr/bin/env python3
"""Calls the package in python/, which needs no installing: see --help, and docs/python.md."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))

from sluice.plot import command  # noqa: E402

command()
