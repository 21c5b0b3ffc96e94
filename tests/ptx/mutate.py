"""Mutations: each barrier and each wait of every kernel is left out in turn, and some case must fail for it."""

import collections
import multiprocessing
import time

import redundant
from case import CASES
from device import Device, Wrong
from memory import Fault

# Of one barrier of one kernel: by what its absence was noticed, or "" and what the source says there.
Finding = collections.namedtuple("Finding", "file kernel place by")


def kernels_of(task):
    """The kernels that a case runs, and how long it takes."""
    number, folder = task
    device, start = Device(folder, CASES[number].name), time.process_time()
    CASES[number].run(device)
    return number, time.process_time() - start, list(dict.fromkeys(device.launched))


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
    """Findings for one kernel, with the cases that run it, the quickest first."""
    (file, name), numbers, folder = task
    kernel = Device(folder, "").program(file, name).kernel
    found = []
    for at in kernel.barriers():
        by = ""
        for number in numbers:
            by = try_case(number, folder, (file, name, at))
            if by:
                break
        found.append(Finding(file, name, kernel.place(at), by))
    return found


def run(options):
    folder, start = options.build, time.time()
    runs = collections.defaultdict(list)
    with multiprocessing.Pool(options.jobs) as pool:
        numbers = [
            n for n, case in enumerate(CASES) if case.group not in ("the interpreter", "the tolerance", "attention registry")
        ]
        for number, seconds, kernels in pool.imap_unordered(kernels_of, [(n, folder) for n in numbers]):
            for kernel in kernels:
                if options.k in " ".join(kernel):
                    runs[kernel].append((seconds, number))
        tasks = [(kernel, [number for _, number in sorted(some)], folder) for kernel, some in sorted(runs.items())]
        counts, unnoticed, excused = collections.Counter(), [], collections.Counter()
        for found in pool.imap_unordered(mutate_kernel, tasks):
            for one in found:
                counts[one.by] += 1
                reason = None if one.by else redundant.reason(one.kernel, one.place)
                if reason:
                    excused[reason] += 1
                elif not one.by:
                    unnoticed.append(one)
                    print(f"NOT NOTICED {one.file}.cu: {one.kernel} without {one.place}", flush=True)
    total = sum(counts.values())
    print(
        f"{total} barriers and waits of {len(runs)} kernels left out, one at a time: "
        + ", ".join(f"{count} {by or 'not noticed'}" for by, count in counts.most_common())
    )
    for reason, count in excused.most_common():
        print(f"of those not noticed {count}: {reason}")
    print(f"{time.time() - start:.0f} s")
    return 1 if unnoticed else 0
