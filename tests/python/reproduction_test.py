"""Tables and kept results of scripts/reproduce."""
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from reproduction.definition import Definition, Fault  # noqa: E402
from reproduction.page import replaced  # noqa: E402
from reproduction.results import Results, digest  # noqa: E402
from reproduction.tables import cell, markdown, seeds_line, text_of, values_of  # noqa: E402


def results_of(folder, *runs):
    results = Results(Path(folder) / "part.json")
    for variant, seed, figures in runs:
        results.add(variant, seed, "digest", "commit", figures)
    return results


class Numbers(unittest.TestCase):
    def test_digits_count_from_the_first_one_that_is_not_zero_before_the_point(self):
        self.assertEqual(text_of(0.12345, 3), "0.123")
        self.assertEqual(text_of(12.345, 3), "12.3")
        self.assertEqual(text_of(1234.5, 3), "1234")
        self.assertEqual(text_of(0.0, 3), "0.000")

    def test_very_small_and_very_large_ones_have_exponents(self):
        self.assertEqual(text_of(0.00012345, 3), "1.23e-4")
        self.assertEqual(text_of(-2.5e7, 3), "-2.50e7")

    def test_a_cell_is_the_mean_and_the_sample_deviation_of_its_seeds(self):
        self.assertEqual(cell([1.0, 2.0, 3.0]), "2.00 ± 1.0")
        self.assertEqual(cell([2.0]), "2.00")
        self.assertEqual(cell([]), "")


class Tables(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.results = {"bb": results_of(
            folder.name,
            ("softmax", 1, {"risk.bigram": 2.0, "probe.a": {"mean": 4.0, "least": 1.0, "largest": 9.0}, "probe.b": 2.0}),
            ("softmax", 2, {"risk.bigram": 3.0}),
            ("vga", 2, {"risk.bigram": 2.5}))}

    def column(self, **more):
        return {"title": "title", "part": "bb", "key": "risk.bigram", **more}

    def test_a_figure_of_heads_is_reduced_as_the_column_says(self):
        self.assertEqual(values_of(self.results, self.column(key="probe.a"), "softmax"), [4.0])
        self.assertEqual(values_of(self.results, self.column(key="probe.a", over="largest"), "softmax"), [9.0])

    def test_a_quotient_is_of_the_same_run(self):
        self.assertEqual(values_of(self.results, self.column(key="probe.a / probe.b"), "softmax"), [2.0])

    def test_a_difference_is_of_the_same_seed(self):
        self.assertEqual(values_of(self.results, self.column(minus="softmax"), "vga"), [-0.5])

    def test_variants_without_results_have_no_row(self):
        text = markdown({"columns": [self.column()]}, self.results, ["softmax", "relu", "vga"])
        self.assertEqual([line.split("|")[1].strip() for line in text.split("\n")], ["", "---", "softmax", "vga"])

    def test_layouts_are_transposed(self):
        text = markdown({"columns": [self.column()], "layout": "variants across"}, self.results, ["softmax", "vga"])
        self.assertEqual(text.split("\n")[2], "| title | 2.50 ± 0.71 | 2.50 |")

    def test_it_is_said_which_variants_have_fewer_seeds(self):
        self.assertEqual(seeds_line(self.results["bb"], ["softmax", "vga"]), "2 seeds of each variant; of vga 1.")
        self.assertEqual(seeds_line(self.results["bb"], ["vga", "relu"]), "1 seed of each variant. Not run yet: relu.")
        self.assertEqual(seeds_line(self.results["bb"], ["relu"]), "Not run yet.")

    def test_an_unknown_key_of_a_column_is_refused(self):
        with self.assertRaisesRegex(Fault, "unknown key colour"):
            values_of(self.results, self.column(colour="red"), "vga")

    def test_what_is_kept_is_read_again(self):
        self.results["bb"].save(["vga", "softmax"])
        again = Results(self.results["bb"].path)
        self.assertEqual(again.runs, self.results["bb"].runs)
        self.assertTrue(again.has("vga", 2, "digest"))
        self.assertFalse(again.has("vga", 2, "another"))


class Pages(unittest.TestCase):
    def test_only_what_stands_between_marks_is_replaced(self):
        text = "before\n<!-- table a -->\nold\n<!-- end -->\nafter\n"
        once = replaced(text, {"table a": "new"}, "page.md")
        self.assertEqual(once, "before\n<!-- table a -->\n\nnew\n\n<!-- end -->\nafter\n")
        self.assertEqual(replaced(once, {"table a": "new"}, "page.md"), once)

    def test_a_mark_without_a_table_and_a_table_without_a_mark_are_refused(self):
        with self.assertRaisesRegex(Fault, "no such table"):
            replaced("<!-- table b -->\n<!-- end -->\n", {}, "page.md")
        with self.assertRaisesRegex(Fault, "has no mark <!-- table a -->"):
            replaced("", {"table a": "new"}, "page.md")
        with self.assertRaisesRegex(Fault, "needs an <!-- end -->"):
            replaced("<!-- table a -->\n", {"table a": "new"}, "page.md")

    def test_settings_that_are_written_differently_have_other_digests(self):
        self.assertEqual(digest({"a": 1, "b": 2}), digest({"b": 2, "a": 1}))
        self.assertNotEqual(digest({"a": 1}), digest({"a": 2}))

    def test_every_definition_is_whole(self):
        root = Path(__file__).resolve().parents[2]
        for path in (root / "docs" / "reproductions").glob("*.json"):
            for quick in (False, True):
                self.assertTrue(Definition.read(root, path.stem, quick).parts)


if __name__ == "__main__":
    unittest.main()
