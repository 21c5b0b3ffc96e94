"""PTX of the device files, made by nvcc where it is older than what it is made of."""

import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARCHITECTURE = "compute_80"


def compiler():
    """nvcc, or None."""
    for place in (os.environ.get("CUDACXX"), shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"):
        if place and shutil.which(place):
            return place
    return None


def sources():
    return sorted((ROOT / "src/kernels/cuda").rglob("*.cu")) + [pathlib.Path(__file__).with_name("faults.cu")]


def is_current(made, depends):
    """Whether what nvcc wrote down as read is older than what it made."""
    if not made.exists() or not depends.exists():
        return False
    names = re.sub(r"\\\n", " ", depends.read_text(encoding="utf-8")).split(":", 1)[1].split()
    age = made.stat().st_mtime
    return all(os.path.exists(name) and os.path.getmtime(name) <= age for name in names)


def compile_one(nvcc, source, folder):
    """An error message, or None."""
    made, depends = folder / (source.stem + ".ptx"), folder / (source.stem + ".d")
    if is_current(made, depends):
        return None
    command = [
        nvcc,
        "-std=c++20",
        "-O3",
        "-DNDEBUG",
        "-I",
        str(ROOT / "src"),
        f"-arch={ARCHITECTURE}",
        "-lineinfo",
        "-ptx",
        "-MD",
        "-MF",
        str(depends),
        "-o",
        str(made) + ".part",
        str(source),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        return f"{source.relative_to(ROOT)}: {run.stdout}{run.stderr}"
    os.replace(str(made) + ".part", made)
    return None


def compile_all(nvcc, folder, jobs):
    """The largest files first. Returns error messages."""
    folder.mkdir(parents=True, exist_ok=True)
    ordered = sorted(sources(), key=lambda source: ("attention_" not in source.stem, -source.stat().st_size))
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return [error for error in pool.map(lambda source: compile_one(nvcc, source, folder), ordered) if error]
