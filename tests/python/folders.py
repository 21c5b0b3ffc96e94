"""Runs as folders of made-up lines, in a temporary folder that is removed."""
import json
import tempfile
import unittest
from pathlib import Path


def train_line(step, loss, ms=None):
    line = {"kind": "train", "step": step, "loss": loss}
    return line if ms is None else {**line, "step_ms": ms}


def text_of(lines):
    return "".join(json.dumps(line) + "\n" for line in lines)


class FolderTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.root = Path(temporary.name)

    def make_run(self, place, lines, config=None, info=None):
        folder = self.root / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"name": "base", "seed": 1} if config is None else config))
        (folder / "info.json").write_text(json.dumps(info or {"status": "running"}))
        (folder / "metrics.jsonl").write_text(text_of(lines))
        return folder
