"""What a page is made of: its parts (a sweep and what is measured of its runs, or the cost of a step), tables, pictures."""
import json
from dataclasses import dataclass, field


class Fault(Exception):
    """One sentence for the user."""


def read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Fault(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Fault(f"{path} is malformed: {error}") from error


def take(source, keys, where):
    """The object, when it has no other keys than these."""
    unknown = sorted(set(source) - set(keys))
    if unknown:
        raise Fault(f"{where}: unknown key {unknown[0]}; there are {', '.join(keys)}")
    return source


@dataclass
class Part:
    """Runs of a sweep with what is measured of them; or, with `bench`, the time of a step of each of its variants."""

    name: str
    sweep: str
    bench: str = ""                              # a config whose step is timed with each variant in it
    baseline: str = ""                           # the variant that a time is divided by
    rounds: int = 3                              # of timing
    timing: list = field(default_factory=list)   # options of `sluice bench`
    measure: list = field(default_factory=list)  # commands of sluice, before the run's folder: [["analyze", "--save"]]
    needs_text: bool = False
    settings: list = field(default_factory=list)  # --set of every run
    steps: list = field(default_factory=list)    # at which figures are kept, beside the last
    kept_as: list = field(default_factory=list)  # what they are called: the same steps, if --quick shortens a run
    quick: dict = field(default_factory=dict)    # what --quick changes
    variants: list = None                        # only these

    KEYS = ("sweep", "bench", "baseline", "rounds", "timing", "measure", "needs_text", "settings", "steps", "quick")

    def __post_init__(self):
        self.kept_as = self.steps

    def set_words(self):
        return [word for setting in self.settings for word in ("--set", setting)]

    def shrink(self):
        """As --quick has it."""
        take(self.quick, ("variants", "seeds", "settings", "measure", "rounds", "timing", "steps"), f"{self.name}.quick")
        self.variants = self.quick.get("variants")
        self.settings = self.settings + self.quick.get("settings", [])
        self.measure = self.quick.get("measure", self.measure)
        self.steps = self.quick.get("steps", self.steps)
        self.rounds = self.quick.get("rounds", self.rounds)
        self.timing = self.quick.get("timing", self.timing)


class Definition:
    """docs/reproductions/NAME.json."""

    def __init__(self, path, content, quick):
        take(content, ("parts", "tables", "pictures"), path)
        self.path, self.quick = path, quick
        self.page = path.with_suffix(".md")
        self.parts = {name: Part(name, **take(of, Part.KEYS, f"{path}: {name}")) for name, of in content["parts"].items()}
        self.tables, self.pictures = content.get("tables", {}), content.get("pictures", {})
        for name, table in self.tables.items():
            self.check_published(name, table)
        if quick:
            for part in self.parts.values():
                part.shrink()

    def check_published(self, name, table):
        """Its values must be of a part, and of steps that the part keeps."""
        if "published" not in table:
            return
        if table.get("part") not in self.parts:
            raise Fault(f"{self.path}: table {name} is of part {table.get('part')}, which is not there")
        kept = self.parts[table["part"]].steps
        for line in table["published"]:
            if line.get("step") not in kept:
                raise Fault(f"{self.path}: table {name} has step {line.get('step')}, and part {table['part']} keeps {kept}")

    @staticmethod
    def read(root, name, quick):
        folder = root / "docs" / "reproductions"
        path = folder / f"{name}.json"
        if not path.is_file():
            known = ", ".join(sorted(found.stem for found in folder.glob("*.json"))) or "none"
            raise Fault(f"docs/reproductions has no definition named {name}; there are {known}")
        return Definition(path, read_json(path), quick)

    def parts_named(self, names):
        unknown = [name for name in names or [] if name not in self.parts]
        if unknown:
            raise Fault(f"{self.path.name} has no part {unknown[0]}; there are {', '.join(self.parts)}")
        return [part for name, part in self.parts.items() if not names or name in names]
