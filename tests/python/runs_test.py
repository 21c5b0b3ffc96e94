import json
import math

import sluice
from sluice.runs import flatten, labels, open_runs

from folders import FolderTest, train_line


class Reading(FolderTest):
    def test_null_and_numbers_beyond_the_range_are_values(self):
        folder = self.make_run("r", [train_line(1, 2.5), train_line(2, None)])
        with open(folder / "metrics.jsonl", "a") as file:
            file.write('{"kind":"train","step":3,"loss":1' + "0" * 400 + '}\n{"kind":"train","step":4,"loss":-1e999}\n{"ki')
        values = [value for *_, value in sluice.read_run(folder).values()]
        self.assertEqual(values[0], 2.5)
        self.assertTrue(math.isnan(values[1]))
        self.assertEqual(values[2:], [math.inf, -math.inf])

    def test_an_analysis_says_what_its_figures_are_called(self):
        from sluice.plot import described_panels, make_groups
        folder = self.make_run("r", [train_line(3, 1)])
        self.assertEqual(sluice.read_run(folder).figures, [])
        (folder / "analysis").mkdir()
        new = {"key": "new_share", "group": "attention", "title": "new", "meaning": "a share"}
        known = {"key": "kurtosis", "group": "attention's output", "title": "kurtosis", "meaning": "mean over layers"}
        for step, figures in ((2, [known]), (10, [{**new, "of_heads": True}, known, {"key": 3}, "text"])):
            (folder / f"analysis/step_{step:08}.json").write_text(json.dumps(
                {"step": step, "summary": {}, "layers": [], "heads": [], "figures": figures}))
        run = sluice.read_run(folder)
        self.assertEqual(run.figures, [new, known])
        self.assertEqual(described_panels(make_groups([run], False)), [("analysis", ["new_share"], "attention, new", False)])

    def test_a_saved_analysis_takes_the_place_of_its_steps_lines(self):
        folder = self.make_run("r", [{"kind": "analysis", "step": 2, "sink_rate": 0.5}, train_line(3, 1)])
        (folder / "analysis").mkdir()
        (folder / "analysis/step_00000002.json").write_text(json.dumps(
            {"step": 2, "summary": {"sink_rate": 0.25}, "layers": [{"layer": 1, "kurtosis": 3.5}], "heads": []}))
        self.assertEqual(list(sluice.Run(folder).values()), [
            (2, "analysis", None, None, "sink_rate", 0.25), (2, "analysis_layer", 1, None, "kurtosis", 3.5),
            (3, "train", None, None, "loss", 1.0)])

    def test_attention_maps_are_square(self):
        folder = self.make_run("r", [])
        (folder / "attention").mkdir()
        (folder / "attention/step_00000000.json").write_text(json.dumps(
            {"step": 0, "tokens": ["a", "b"], "maps": [{"layer": 0, "head": 1, "weights": [[1.0], [0.25, 0.75]], "gate": [1, 0]}]}))
        one, = sluice.read_run(folder).attention_maps()[0]
        self.assertEqual((one.layer, one.head, one.tokens, one.gate), (0, 1, ["a", "b"], [1, 0]))
        self.assertEqual(one.weights, [[1.0, 0.0], [0.25, 0.75]])

    def test_the_guard_is_told_of(self):
        folder = self.make_run("r", [{"kind": "guard", "step": 3, "action": "skip", "reason": "the loss is nan"}])
        self.assertEqual(sluice.Run(folder).guard_events(), [(3, "skip", "the loss is nan")])

    def test_list_runs_goes_into_folders_but_not_into_runs(self):
        for place in ("b/y", "a", "a/old1"):
            self.make_run(place, [])
        (self.root / "empty").mkdir()
        self.assertEqual([run.path for run in sluice.list_runs(self.root)], [str(self.root / "a"), str(self.root / "b/y")])

    def test_what_is_wrong_is_one_sentence(self):
        good = '{"kind":"train","step":1,"loss":1}\n'
        for file, content, sentence in (
                ("metrics.jsonl", good + "{oops\n" + good, "metrics.jsonl: line 2 is malformed"),
                ("metrics.jsonl", "[1]\n" + good, "line 1 is malformed: it is no JSON object"),
                ("metrics.jsonl", '{"kind":"train","step":"1"}\n' + good, "step a whole number"),
                ("metrics.jsonl", '{"kind":"train","step":true}\n' + good, "step a whole number"),
                ("metrics.jsonl", '{"kind":"train","step":-1}\n' + good, "step a whole number"),
                ("metrics.jsonl", '{"kind":"a","step":1' + "0" * 30 + "}\n" + good, "step a whole number"),
                ("metrics.jsonl", "[" * 100000 + "\n" + good, "line 1 is malformed"),
                ("config.json", "[]", "config.json is malformed: it holds no JSON object"),
                ("config.json", '{"a":' * 100000, "config.json is malformed"),
                ("info.json", b"\xff\xfe", "info.json is not valid UTF-8"),
                ("analysis/step_00000001.json", '{"step":1}', "holds no analysis"),
                ("attention/step_00000001.json", '{"step":1,"tokens":[],"maps":[3]}', "holds no attention maps")):
            with self.subTest(file=file, sentence=sentence):
                folder = self.make_run("r", [train_line(1, 1)])
                (folder / file).parent.mkdir(exist_ok=True)
                (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
                with self.assertRaises(sluice.RunError) as caught:
                    run = sluice.Run(folder)
                    run.lines
                    run.attention_maps()
                self.assertIn(sentence, str(caught.exception))
                for path in sorted(folder.rglob("*"), reverse=True):
                    path.rmdir() if path.is_dir() else path.unlink()
        for folder in (self.root / "nosuch", self.root, self.root / ("x" * 300)):
            with self.assertRaises(sluice.RunError):
                sluice.Run(folder)
        with self.assertRaises(sluice.RunError):
            sluice.list_runs(self.root / "nosuch")

    def test_without_pandas_a_frame_says_what_to_install(self):
        run = sluice.read_run(self.make_run("r", [train_line(1, 1)]))
        with self.assertRaisesRegex(sluice.RunError, "pip install pandas"):
            run.train


class Names(FolderTest):
    def test_runs_of_one_name_get_labels_of_their_own(self):
        runs = [sluice.Run(self.make_run(place, [], {"name": name, "seed": seed}))
                for place, name, seed in (("a", "base", 1), ("b", "base", 1), ("c", "other", 1), ("d", "s", 1), ("e", "s", 2))]
        self.assertEqual(labels(runs), [f"base ({self.root}/a)", f"base ({self.root}/b)", "other", "s seed 1", "s seed 2"])
        self.assertEqual(labels([runs[0], runs[0]]), [f"base ({self.root}/a) #1", f"base ({self.root}/a) #2"])

    def test_a_run_given_twice_is_one(self):
        folder = self.make_run("a", [])
        self.assertEqual(len(open_runs([folder, f"{folder}/", folder / "../a"])), 1)

    def test_a_name_that_is_no_string_is_the_folders(self):
        for name in (7, "", None, ["x"]):
            self.assertEqual(sluice.Run(self.make_run("folder", [], {"name": name})).name, "folder")


class Identity(FolderTest):
    config = {"name": "base", "seed": 1, "device": "auto", "train": {"steps": 10, "batch": 4}, "log": {"every": 1}}

    def test_stays_while_the_run_goes_on_and_moves(self):
        folder = self.make_run("a/run", [train_line(1, 2.0, 0.5)], self.config)
        before = sluice.Run(folder).identity()
        self.make_run("a/run", [train_line(1, 2.0, 0.5), train_line(2, 1.0, 0.6)],
                      {**self.config, "device": "cuda", "train": {"steps": 99, "batch": 4}, "log": {}}, {"status": "done"})
        self.assertEqual(sluice.Run(folder).identity(), before)
        (self.root / "b").mkdir()
        self.assertEqual(sluice.Run(folder.rename(self.root / "b/run")).identity(), before)

    def test_differs_for_another_run(self):
        def of(place, **changes):
            line = train_line(1, 2.0, changes.pop("ms", 0.5))
            return sluice.Run(self.make_run(place, [line], {**self.config, **changes})).identity()

        base = of("a/run")
        others = [of("b/run", ms=0.6), of("a/other"), of("c/run", seed=2), of("d/run", train={"steps": 10, "batch": 8})]
        self.assertEqual(len({base, *others}), 5)

    def test_before_the_first_training_line_it_is_the_place(self):
        one, two = (sluice.Run(self.make_run(place, [], self.config)).identity() for place in ("a/run", "b/run"))
        self.assertNotEqual(one, two)


class Settings(FolderTest):
    def test_a_config_is_flat_settings(self):
        self.assertEqual(flatten({"train": {"optimizer": {"lr": 0.1}, "decay": ["a"]}, "x": None, "b": True}),
                         {"train.optimizer.lr": 0.1, "train.decay": '["a"]', "x": "null", "b": True})


class Plots(FolderTest):
    def group(self, *names):
        from sluice.plot import make_groups
        runs = [sluice.Run(self.make_run(f"r{at}", [train_line(1, at)], {"name": name, "seed": seed, "model": {}}))
                for at, (name, seed) in enumerate(names)]
        return [(group.label, len(group.runs)) for group in make_groups(runs, False)]

    def test_runs_that_differ_by_seed_are_one_curve(self):
        self.assertEqual(self.group(("vga-s1", 1), ("vga-s2", 2)), [("vga", 2)])
        self.assertEqual(self.group(("bias", 1), ("bias", 2)), [("bias", 2)])
        self.assertEqual(self.group(("x_seed12", 12), ("x_seed13", 13)), [("x", 2)])
        self.assertEqual(self.group(("a", 1), ("b", 2)), [("a", 2)])

    def test_runs_of_one_name_and_seed_are_two(self):
        self.assertEqual(self.group(("base", 1), ("base", 1)), [(f"base ({self.root}/r0)", 1), (f"base ({self.root}/r1)", 1)])

    def test_what_a_group_draws_is_the_mean_at_common_steps(self):
        from sluice.plot import Group
        runs = [sluice.Run(self.make_run(place, lines, {"name": place})) for place, lines in (
            ("a", [train_line(1, 1), train_line(2, 3)]), ("b", [train_line(2, 5)]), ("c", []))]
        self.assertEqual(Group(runs, "x").curve("train", "loss", "mean", 1), ([2], [4.0], [2 ** 0.5], 2))
