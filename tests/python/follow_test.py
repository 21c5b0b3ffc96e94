import os

from sluice.follow import Follower, follow
from sluice.runs import RunError

from folders import FolderTest, text_of, train_line


class Following(FolderTest):
    def setUp(self):
        super().setUp()
        self.path = self.root / "metrics.jsonl"
        self.follower = Follower(self.path)

    def write(self, lines, mode="w"):
        with open(self.path, mode) as file:
            file.write(lines if isinstance(lines, str) else text_of(lines))

    def steps(self):
        cut, lines = self.follower.poll()
        return cut, [line["step"] for line in lines]

    def test_only_whole_lines_and_each_once(self):
        self.assertEqual(self.steps(), (None, []))  # not there yet
        self.write('{"kind":"train","step":1,"loss":1}\n{"kind":"tr')
        self.assertEqual(self.steps(), (None, [1]))
        self.write('ain","step":2,"loss":1}\n', "a")
        self.assertEqual(self.steps(), (None, [2]))
        self.assertEqual(self.steps(), (None, []))

    def test_a_cut_takes_back_what_came_after_it(self):
        self.write([train_line(step, 1, step) for step in range(1, 9)])
        self.assertEqual(self.steps(), (None, [1, 2, 3, 4, 5, 6, 7, 8]))
        self.write([train_line(step, 1, step) for step in range(1, 5)])
        self.assertEqual(self.steps(), (5, []))
        self.write([train_line(5, 2, 7)], "a")
        self.assertEqual(self.steps(), (None, [5]))

    def test_a_cut_that_has_grown_beyond_the_old_end_is_seen(self):
        for long in (8, 500):  # also longer than what is compared at each look
            with self.subTest(long=long):
                self.follower = Follower(self.path)
                self.write([train_line(step, 1, step) for step in range(long)])
                self.steps()
                self.write([train_line(step, 1, step) for step in range(long - 4)] +
                           [train_line(step, 1, step + 0.5) for step in range(long - 4, long + 9)])
                self.assertEqual(self.steps(), (long - 4, list(range(long - 4, long + 9))))
                self.assertEqual(self.follower.kept, long - 4)

    def test_another_file_in_its_place_begins_anew(self):
        self.write([train_line(1, 1, 1), train_line(2, 1, 1)])
        self.steps()
        os.rename(self.path, self.root / "old")
        self.assertEqual(self.steps(), (None, []))
        self.write([train_line(1, 1, 2)])
        self.assertEqual(self.steps(), (1, [1]))
        self.assertEqual(self.follower.kept, 0)

    def test_a_malformed_line_is_named(self):
        self.write('{"kind":"train","step":1}\n{oops\n')
        with self.assertRaisesRegex(RunError, "metrics.jsonl, byte 26 is malformed"):
            self.follower.poll()

    def test_goes_on_until_the_run_is_done(self):
        folder = self.make_run("r", [train_line(1, 1)])
        test = self

        class Target:
            follower = Follower(folder / "metrics.jsonl")
            seen = []

            def take(self, cut, lines):
                self.seen += [line["step"] for line in lines]
                if self.seen == [1]:  # the last line and the end come between two looks
                    test.make_run("r", [train_line(1, 1), train_line(2, 1)], None, {"status": "done"})

        target = Target()
        target.folder = folder
        follow([target], 0.01)
        self.assertEqual(target.seen, [1, 2])
