#!/usr/bin/env python3
"""Runs the PTX that nvcc makes of src/kernels/cuda, on this machine's processor, and compares with references in double.

  tests/ptx/run.py              the quick cases
  tests/ptx/run.py --all        all cases; a kernel that none of them runs is an error
  tests/ptx/run.py --mutate     each barrier and each wait is left out in turn, in every kernel; that nothing is noticed is an
                                error, unless redundant.py says why
  tests/ptx/run.py -k WORD      cases (or, with --mutate, kernels) whose names have the word; --list names them

Exit codes: 0, 1 with a line for each failure, 77 where nvcc, c++filt or numpy are missing. PTX goes to --build, by default
build/ptx.
"""

import argparse
import multiprocessing
import os
import pathlib
import shutil
import sys
import time
import traceback

import build

try:
    import numpy  # noqa: F401
except ImportError:
    print("python3 has no numpy (Debian: python3-numpy): the PTX of the kernels is not run")
    sys.exit(77)

import mutate
from case import CASES
from cases import (  # noqa: F401
    attention_cases,
    average_cases,
    core_cases,
    dropout_cases,
    elementwise_cases,
    fault_cases,
    optimizer_cases,
    order_cases,
    route_cases,
    rows_cases,
    stage_cases,
)
from device import Device, Wrong
from memory import Fault
from ptx_text import Module


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--mutate", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("-k", metavar="WORD", default="")
    parser.add_argument("--build", metavar="FOLDER", type=pathlib.Path, default=build.ROOT / "build/ptx")
    parser.add_argument("--jobs", metavar="N", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def run_case(task):
    """(number, seconds, kernels launched, the largest error as a share of its bound, what is wrong or "")."""
    number, folder = task
    case, start = CASES[number], time.process_time()
    device, problem = Device(folder, case.name), ""
    try:
        case.run(device)
    except (Fault, Wrong) as error:
        problem = str(error)
    except Exception:
        problem = traceback.format_exc(limit=-3)
    return number, time.process_time() - start, device.launched, max(device.errors, default=0), problem


def run_cases(chosen, options):
    """Prints failures and a table. Returns how many failed and the kernels that ran."""
    groups, failures, ran = {}, 0, set()
    with multiprocessing.Pool(options.jobs) as pool:
        for number, seconds, launched, error, problem in pool.imap_unordered(run_case, [(n, options.build) for n in chosen]):
            case = CASES[number]
            count, total, worst, wrong, kernels = groups.setdefault(case.group, [0, 0.0, 0.0, 0, set()])
            groups[case.group] = [count + 1, total + seconds, max(worst, error), wrong + bool(problem), kernels | set(launched)]
            ran |= set(launched)
            if problem:
                failures += 1
                print(f"FAILED {case.name}: {problem}", flush=True)
    print("| cases | number | kernels | largest error, of its bound | seconds | |\n|---|---:|---:|---:|---:|---|")
    for group in dict.fromkeys(case.group for case in CASES):
        if group in groups:
            count, total, worst, wrong, kernels = groups[group]
            verdict = f"{wrong} wrong" if wrong else "all right"
            print(f"| {group} | {count} | {len(kernels)} | {worst:.2f} | {total:.1f} | {verdict} |")
    return failures, ran


def never_run(folder, ran):
    """The kernels that no case runs; for one of a header it is enough that a case runs it in one file."""
    modules = {source.stem: Module(folder / f"{source.stem}.ptx") for source in build.sources()}
    headers = {name for file, name in ran if name in modules[file].shared}
    kernels = {(file, name) for file, module in modules.items() for name in module.starts}
    return {(file, name) for file, name in kernels - ran if name not in headers & modules[file].shared}


def main():
    options = arguments()
    if options.list:
        print("\n".join(case.name for case in CASES if options.k in case.name and (options.all or case.quick)))
        return 0
    nvcc = build.compiler()
    for tool, found in (("nvcc", nvcc), ("c++filt", shutil.which("c++filt"))):
        if not found:
            print(f"{tool} is not installed: the PTX of the kernels is not run")
            return 77
    errors = build.compile_all(nvcc, options.build, options.jobs)
    if errors:
        print("\n".join(errors))
        return 1
    if options.mutate:
        return mutate.run(options)
    chosen = [n for n, case in enumerate(CASES) if options.k in case.name and (options.all or case.quick)]
    start = time.time()
    failures, ran = run_cases(chosen, options)
    print(f"{len(chosen) - failures} of {len(chosen)} cases right, {len(ran)} kernels run, {time.time() - start:.0f} s")
    if options.all and not options.k:
        missing = never_run(options.build, ran)
        failures += len(missing)
        for file, name in sorted(missing):
            print(f"FAILED no case runs {file}.cu: {name}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
