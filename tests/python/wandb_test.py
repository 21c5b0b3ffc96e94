import argparse
import math

from sluice import to_wandb
from sluice.runs import Run

from folders import FolderTest, train_line


class StandIn:
    """What of the wandb module is called; it keeps the runs that were begun."""

    class Settings:
        def __init__(self, **_):
            pass

    def __init__(self, sent=None):
        self.runs, self.sent = [], sent

    def init(self, **options):
        target = StandInRun(options, self.sent)
        self.runs.append(target)
        return target


class StandInRun:
    def __init__(self, options, sent):
        self.options, self.rows, self.ended = options, [], None
        self.resumed, self.summary, self.dir = sent is not None, {} if sent is None else {"step": sent}, "/place/files"
        self.log = self.rows.append

    def define_metric(self, *_, **__):
        pass

    def finish(self, exit_code):
        self.ended = exit_code


class Sending(FolderTest):
    @staticmethod
    def interrupted(**_):
        raise SystemExit(143)

    args = argparse.Namespace(online=False, project="p", out="wb")

    def follow(self, wandb, folder, taken=None):
        return to_wandb.Followed(wandb, Run(folder), "label", self.args, set() if taken is None else taken)

    def test_rows_have_what_is_not_finite_and_what_the_guard_did(self):
        lines = [train_line(1, 2.0), {"kind": "guard", "step": 2, "action": "skip", "reason": "the loss is nan"}, train_line(2, None),
                 {"kind": "probe", "step": 2, "layer": 0, "head": 3, "sink": 0.5}]
        first, second = to_wandb.Rows().rows(lines)
        self.assertEqual(first, {"step": 1, "train/loss": 2.0})
        self.assertTrue(math.isnan(second.pop("train/loss")))
        self.assertEqual(second, {"step": 2, "guard/skip": 1, "guard/reason": "the loss is nan", "probe/L0H3/sink": 0.5})

    def test_runs_that_differ_by_seed_have_one_group(self):
        for name, group in (("vga-s7", "vga"), ("vga_7", "vga"), ("vga17", "vga17"), ("7", "7")):
            wandb = StandIn()
            to_wandb.begin(wandb, Run(self.make_run("r", [], {"name": name, "seed": 7})), name, "id", self.args)
            self.assertEqual(wandb.runs[0].options["group"], group)

    def test_a_followed_run_begins_with_its_first_training_line_and_has_the_id_of_its_conversion(self):
        wandb = StandIn()
        probe = {"kind": "probe", "step": 0, "layer": 0, "sink": 1}
        folder = self.make_run("r", [probe])
        followed = self.follow(wandb, folder)
        followed.take(*followed.follower.poll())
        self.assertEqual(wandb.runs, [])
        self.make_run("r", [probe, train_line(1, 1.0, 0.5)])
        followed.take(*followed.follower.poll())
        self.assertEqual([row["step"] for row in wandb.runs[0].rows], [0, 1])
        self.assertEqual(wandb.runs[0].options["id"], to_wandb.id_of(Run(folder), set()))

    def test_a_cut_is_another_life_and_another_run_another_run(self):
        wandb = StandIn()
        folder = self.make_run("r", [train_line(step, 1, step) for step in (1, 2, 3)])
        followed = self.follow(wandb, folder)
        followed.take(*followed.follower.poll())
        self.make_run("r", [train_line(1, 1, 1), train_line(2, 5, 9)])
        followed.take(*followed.follower.poll())
        self.assertEqual([(row["step"], row.get("life")) for row in wandb.runs[0].rows], [(1, None), (2, None), (3, None), (2, 2)])
        self.make_run("r", [train_line(1, 7, 70)], info={"status": "failed"})
        followed.take(*followed.follower.poll())
        followed.end()
        self.assertEqual([row["train/loss"] for row in wandb.runs[1].rows], [7])
        self.assertNotEqual(wandb.runs[0].options["id"], wandb.runs[1].options["id"])
        self.assertEqual([run.ended for run in wandb.runs], [0, 1])

    def test_what_was_sent_before_is_not_sent_again(self):
        wandb = StandIn(sent=2)
        followed = self.follow(wandb, self.make_run("r", [train_line(step, 1, step) for step in (1, 2, 3)]))
        followed.take(*followed.follower.poll())
        self.assertEqual([row["step"] for row in wandb.runs[0].rows], [3])

    def test_copies_that_are_given_together_have_ids_of_their_own(self):
        taken = set()
        one, two = (Run(self.make_run(f"{place}/r", [train_line(1, 1, 1)])) for place in "ab")
        first, second = to_wandb.id_of(one, taken), to_wandb.id_of(two, taken)
        self.assertNotEqual(first, second)
        self.assertEqual(first, to_wandb.id_of(two, set()))

    def test_a_beginning_that_is_interrupted_keeps_the_id(self):
        wandb = StandIn()
        folder = self.make_run("r", [train_line(1, 1, 1)])
        followed = self.follow(wandb, folder)
        init = wandb.init
        wandb.init = self.interrupted
        with self.assertRaises(SystemExit):
            followed.take(*followed.follower.poll())
        wandb.init = init
        followed.end()
        self.assertEqual(wandb.runs[0].options["id"], to_wandb.id_of(Run(folder), set()))
        self.assertEqual(len(wandb.runs[0].rows), 1)
