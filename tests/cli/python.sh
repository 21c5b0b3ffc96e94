#!/usr/bin/env bash
# The Python package: tests/python with the standard library alone (-S leaves installed packages out).
set -euo pipefail
command -v python3 > /dev/null || { echo "SKIPPED: python3 is not installed, the Python package was not tested"; exit 77; }
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD/python exec python3 -S -W error -m unittest discover -q -b -s tests/python -p '*_test.py'
