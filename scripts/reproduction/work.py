"""What is done for a part: data made, runs trained and measured, steps timed, and what came out kept."""
import json
import os
import shutil
import subprocess
from pathlib import Path

from sluice.runs import Run, RunError

from .bench import time_steps
from .definition import Fault, read_json
from .results import Results, digest, figures_of, final_figures
from .text import encode_text


class Workplace:
    """Where work is done, and what of it the user wants."""

    def __init__(self, root, args):
        self.root, self.args = root, args
        self.program = Path(args.program or os.environ.get("SLUICE") or root / "build" / "release" / "sluice").resolve()
        if not self.program.is_file():
            raise Fault(f"there is no {self.program}: build it as README.md says, or name it with --program")
        self.quick_folder = root / "build" / "reproduce_quick"
        self.runs = self.quick_folder / "runs" if args.quick else args.runs.resolve()
        if args.quick and not args.write:
            shutil.rmtree(self.quick_folder, ignore_errors=True)

    def results(self, definition_name, part):
        folder = self.quick_folder if self.args.quick else self.root / "docs" / "reproductions"
        return Results(folder / "results" / f"{definition_name}_{part.name}.json")

    def sluice(self, *words):
        done = subprocess.run([self.program, *map(str, words)], cwd=self.root, check=False)
        if done.returncode in (130, 143):
            raise KeyboardInterrupt
        if done.returncode != 0:
            raise Fault(f"sluice {' '.join(map(str, words))} ended with exit code {done.returncode}")

    def commit(self):
        """Of which the program was built: `sluice VERSION COMMIT (...)`."""
        done = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True)
        return done.stdout.split()[2]

    def sluice_json(self, *words):
        file = self.runs / "answer.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        self.sluice(*words, "--json", file)
        return read_json(file)


def layers_of(file):
    """A config as it is written, and those that it names as its base."""
    layer = read_json(file)
    base = layer.get("base")
    return [layer, *(layers_of((file.parent / base).resolve()) if base else [])]


class SweepFile:
    """The sweep of a part, and of it what is wanted."""

    def __init__(self, place, part):
        self.path = place.root / part.sweep
        self.json = read_json(self.path)
        self.part = part
        self.base = (self.path.parent / self.json["base"]).resolve()
        self.below = layers_of(self.base)  # what all variants are laid over
        self.variants = {name: changes for name, changes in self.json["variants"].items()
                         if part.variants is None or name in part.variants}
        self.seeds = part.quick["seeds"] if place.args.quick else self.json["seeds"]
        for seed in place.args.seeds or []:
            if seed not in self.seeds:
                raise Fault(f"{part.sweep} has no seed {seed}; there are {', '.join(map(str, self.seeds))}")
        wanted = place.args.variants
        unknown = [name for name in wanted or [] if name not in self.json["variants"]]
        if unknown:
            raise Fault(f"{part.sweep} has no variant {unknown[0]}; there are {', '.join(self.json['variants'])}")
        self.wanted = [name for name in self.variants if not wanted or name in wanted]

    def digest(self, variant):
        return digest([self.below, self.json.get("config"), self.variants[variant], self.part.settings])

    def write(self, path, variants, seed):
        """A sweep of some of its variants with one seed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**self.json, "base": str(self.base), "seeds": [seed],
                                    "variants": {name: self.variants[name] for name in variants}}, indent=1))


def bring_up_to_date(place, part):
    sweep = SweepFile(place, part)
    if part.bench:
        if not place.args.write:
            time_steps(place, part, sweep, place.results(place.args.name, part))
        return
    for seed in sweep.seeds:
        if place.args.seeds and seed not in place.args.seeds:
            continue
        results = place.results(place.args.name, part)
        missing = [name for name in sweep.wanted
                   if place.args.again or not results.has(name, seed, sweep.digest(name), part.kept_as)]
        try:
            if missing and not place.args.write:
                train(place, part, sweep, missing, seed)
        finally:  # what is done is kept, whatever stopped the rest
            keep(place, part, sweep, missing, seed)


def train(place, part, sweep, variants, seed):
    if part.needs_text:
        encode_text(place)
    file = place.runs / f"{sweep.path.stem}_seed_{seed}.json"
    sweep.write(file, variants, seed)
    place.sluice("sweep", file, "--jobs", place.args.jobs, "--out", place.runs / sweep.path.stem, *part.set_words())


def keep(place, part, sweep, variants, seed):
    results = place.results(place.args.name, part)  # as they are by now: others may have written them
    for variant in variants:
        path = place.runs / sweep.path.stem / f"{variant}-s{seed}"
        if not is_done(path):
            continue
        if not is_measured(path, part):
            for words in part.measure:
                place.sluice(words[0], path, *words[1:])
        run = Run(path)
        at = {str(name): figures_of(run, step) for name, step in zip(part.kept_as, part.steps)}
        results.add(variant, seed, sweep.digest(variant), run.info.get("commit"), final_figures(run), at)
        results.save(list(sweep.json["variants"]))


def is_done(path):
    try:
        return (path / "metrics.jsonl").is_file() and Run(path).status == "done"
    except RunError as error:
        raise Fault(str(error)) from error


def is_measured(path, part):
    made = {"analyze": "analysis", "quantize": "quantization.json"}
    return all((path / made.get(words[0], "")).exists() for words in part.measure)
