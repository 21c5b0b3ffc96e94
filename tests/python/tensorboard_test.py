import math

from sluice import to_tensorboard
from sluice.runs import Run
from sluice.tensorboard import split_records

from event_fields import fields
from folders import FolderTest, train_line


def events_of(folder):
    return [dict(fields(one[12:-4])) for one in split_records((folder / to_tensorboard.EVENTS).read_bytes())]


def scalars_of(folder):
    """What TensorBoard would show: a new session takes back its step and the later ones."""
    found = {}
    for event in events_of(folder):
        if 7 in event:
            for points in found.values():
                for step in [step for step in points if step >= event[2]]:
                    del points[step]
        for _, value in fields(event.get(5, b"")):
            value = dict(fields(value))
            if 2 in value:
                found.setdefault(value[1].decode(), {})[event[2]] = value[2]
    return found


class Converting(FolderTest):
    def convert(self, *folders):
        from sluice.runs import labels, open_runs
        runs = open_runs(folders)
        out = self.root / "tb"
        out.mkdir(exist_ok=True)
        places = []
        for run, label in zip(runs, labels(runs)):
            places.append(to_tensorboard.folder_for(run, label, out))
            to_tensorboard.write_lines(run, run.lines, places[-1] / to_tensorboard.EVENTS)
            to_tensorboard.mark(places[-1], run)
        return places

    def test_a_diverged_run_is_seen(self):
        place, = self.convert(self.make_run("r", [
            train_line(1, 2.0), train_line(2, 1e39), {"kind": "guard", "step": 3, "action": "skip", "reason": "the loss is nan"},
            train_line(3, None), train_line(4, -1e300)]))
        found = scalars_of(place)
        loss = found["train/loss"]
        self.assertEqual((loss[1], loss[2], loss[4]), (2.0, math.inf, -math.inf))
        self.assertTrue(math.isnan(loss[3]))
        self.assertEqual(found["guard/skip"], {3: 1.0})
        content = (place / to_tensorboard.EVENTS).read_bytes()
        for text in (b"step 3, skip: the loss is nan", b"guard/reason", b"_hparams_/session_start_info", b"seed"):
            self.assertIn(text, content)

    def test_runs_of_one_name_stay_apart_in_one_call_and_in_several(self):
        one, two, three = (self.make_run(place, [train_line(1, loss, loss)]) for place, loss in (("x/lr1", 3), ("x/lr2", 9), ("y/lr1", 5)))
        places = self.convert(one, two)
        places += self.convert(three)
        self.assertEqual(len(set(places)), 3)
        self.assertEqual([scalars_of(place)["train/loss"][1] for place in places], [3, 9, 5])
        self.assertEqual(self.convert(two), [places[1]])  # it keeps its folder, whatever it is given with
        self.assertEqual(self.convert(three, one), [places[2], places[0]])

    def test_another_ones_folder_is_not_taken(self):
        mine = self.root / "tb/base/events.out.tfevents.other"
        mine.parent.mkdir(parents=True)
        mine.write_text("mine")
        place, = self.convert(self.make_run("r", [train_line(1, 1)]))
        self.assertNotEqual(place, mine.parent)
        self.assertEqual(list(mine.parent.iterdir()), [mine])

    def test_a_run_that_moved_keeps_its_folder(self):
        folder = self.make_run("a/r", [train_line(1, 3.0, 0.1)])
        place, = self.convert(folder)
        (self.root / "b").mkdir()
        self.assertEqual(self.convert(folder.rename(self.root / "b/r")), [place])

    def test_names_that_are_no_folders_names(self):
        for name in ("..", "a/b", "x" * 400, "\u00e4" * 200, "/etc", "half \ud800", "line\nend"):
            with self.subTest(name=name):
                place, = self.convert(self.make_run("run", [train_line(1, 1)], {"name": name}))
                self.assertEqual(place.parent, self.root / "tb")

    def test_a_run_that_went_on_is_appended_to_its_file(self):
        lines = [train_line(step, step, step) for step in range(1, 5)]
        place, = self.convert(self.make_run("r", lines[:2], info={"seconds": 1, "steps_done": 2}))
        before = (place / to_tensorboard.EVENTS).read_bytes()
        self.convert(self.make_run("r", lines, {"name": "base", "seed": 1, "more": 1}, {"seconds": 5, "steps_done": 4}))
        after = (place / to_tensorboard.EVENTS).read_bytes()
        self.assertTrue(after.startswith(before))
        self.assertEqual(scalars_of(place)["train/loss"], {1: 1, 2: 2, 3: 3, 4: 4})
        self.assertEqual(len(events_of(place)), 7)  # version, settings, two steps; changed settings, two steps
        self.convert(self.make_run("r", [train_line(1, 8, 1)]))
        self.assertEqual(scalars_of(place)["train/loss"], {1: 8})
        (place / to_tensorboard.EVENTS).write_bytes(after[:-3])  # torn by a kill
        self.convert(self.make_run("r", lines))
        self.assertEqual(scalars_of(place)["train/loss"], {1: 1, 2: 2, 3: 3, 4: 4})

    def test_following_takes_back_what_the_run_takes_back(self):
        folder = self.make_run("r", [train_line(step, 1, step) for step in range(1, 6)])
        place = self.root / "tb"
        place.mkdir()
        followed = to_tensorboard.Followed(Run(folder), place)
        self.assertEqual(sorted(scalars_of(place)["train/loss"]), [1, 2, 3, 4, 5])
        self.make_run("r", [train_line(step, 1, step) for step in range(1, 4)] + [train_line(4, 7, 9)])
        followed.take(*followed.follower.poll())
        self.assertEqual(scalars_of(place)["train/loss"], {1: 1, 2: 1, 3: 1, 4: 7})
        self.make_run("r", [train_line(1, 5, 11)], {"name": "base", "seed": 2})  # --resume never
        followed.take(*followed.follower.poll())
        self.assertEqual(scalars_of(place)["train/loss"], {1: 5})
