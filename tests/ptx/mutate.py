"""Mutations: each barrier and each wait of every kernel is left out in turn, and some case must fail for it."""

import collections
import multiprocessing
import time

import numpy as np

import redundant
from case import CASES
from device import Device, Wrong
from memory import Fault

# Of one barrier of one kernel: by what its absence was noticed, or "" and what the source says there.
Finding = collections.namedtuple("Finding", "file kernel place by")


def kernels_of(number, folder):
    """The kernels that a case runs, and the number of threads."""
    device = Device(folder, CASES[number].name, dry=True)
    with np.errstate(all="ignore"):
        CASES[number].run(device)
    return device.work, list(dict.fromkeys(device.launched))


def try_case(number, folder, removed):
    """What a case says to a kernel without an instruction; "" if nothing."""
    try:
        CASES[number].run(Device(folder, CASES[number].name, removed))
    except Fault as fault:
        return "race" if "race" in str(fault) else "fault"
    except Wrong as wrong:
        return "never written" if "never written" in str(wrong) else "wrong result"
    return ""


def mutate_kernel(task):
    """Findings for one kernel, with the cases that run it, the smallest first."""
    (file, name), numbers, folder = task
    kernel = Device(folder, "").program(file, name).kernel
    found = []
    for at in kernel.barriers():
        place, by = kernel.place(at), ""
        for number in numbers[:1] if redundant.reason(name, place) else numbers:
            by = try_case(number, folder, (file, name, at))
            if by:
                break
        found.append(Finding(file, name, place, by))
    return found


def run(options):
    folder, start = options.build, time.time()
    runs = collections.defaultdict(list)
    for number, case in enumerate(CASES):
        if case.group not in ("the interpreter", "the tolerance"):
            work, kernels = kernels_of(number, folder)
            for kernel in kernels:
                if options.k in " ".join(kernel):
                    runs[kernel].append((work, number))
    tasks = [(kernel, [number for _, number in sorted(some)], folder) for kernel, some in sorted(runs.items())]
    counts, excused, unnoticed = collections.Counter(), collections.Counter(), 0
    with multiprocessing.Pool(options.jobs) as pool:
        for found in pool.imap_unordered(mutate_kernel, tasks):
            for one in found:
                counts[one.by] += 1
                reason = None if one.by else redundant.reason(one.kernel, one.place)
                if reason:
                    excused[reason] += 1
                elif not one.by:
                    unnoticed += 1
                    print(f"NOT NOTICED {one.file}.cu: {one.kernel} without {one.place}", flush=True)
    noticed = ", ".join(f"{count} {by or 'not noticed'}" for by, count in counts.most_common())
    print(f"{sum(counts.values())} barriers and waits of {len(runs)} kernels left out, one at a time: {noticed}")
    for reason, count in excused.most_common():
        print(f"of those not noticed {count}: {reason}")
    print(f"{time.time() - start:.0f} s")
    return 1 if unnoticed else 0
