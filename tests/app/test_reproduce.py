"""scripts/reproduce: its statistics, axes and tables, and the whole with a program that only pretends to train."""

import importlib.machinery
import importlib.util
import itertools
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "reproduce"
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("reproduce", str(SCRIPT))
reproduce = importlib.util.module_from_spec(importlib.util.spec_from_loader("reproduce", loader))
loader.exec_module(reproduce)


class SignedRank(unittest.TestCase):
    def test_by_hand(self):
        # Differences 1, -2, 3, 4, 5, 6, 0: the sum of the positive ranks is 19 of 21, its mean 10.5, its variance 6 * 7 * 13 / 24.
        first = [2, 1, 4, 5, 6, 7, 3]
        second = [1, 3, 1, 1, 1, 1, 3]
        smaller, equal, p = reproduce.signed_rank(first, second)
        self.assertAlmostEqual(smaller, 1 / 7)
        self.assertAlmostEqual(equal, 1 / 7)
        self.assertAlmostEqual(p, 0.0747, places=4)  # z = 8.5 / 4.7697 = 1.7821

    def test_ties_by_hand(self):
        # Differences 1, 1, -1, 2: ranks 2, 2, 2, 4; the positive ones sum to 8, mean 5, variance 4 * 5 * 9 / 24 - (27 - 3) / 48 = 7.
        _, _, p = reproduce.signed_rank([2, 2, 1, 3], [1, 1, 2, 1])
        self.assertAlmostEqual(p, 0.2568, places=4)  # z = 3 / sqrt 7 = 1.1339

    def test_mean_and_variance_are_those_of_all_signs(self):
        # The approximation's mean and deviation are exact: over all 2^6 signs of the differences 1, 2, 2, 4, 5, 5.
        sizes, ranks = [1, 2, 2, 4, 5, 5], [1, 2.5, 2.5, 4, 5.5, 5.5]
        sums = [sum(r for r, sign in zip(ranks, signs) if sign > 0) for signs in itertools.product((-1, 1), repeat=6)]
        mean = sum(sums) / 64
        variance = sum((s - mean) ** 2 for s in sums) / 64
        self.assertEqual(mean, 6 * 7 / 4)
        self.assertAlmostEqual(variance, 6 * 7 * 13 / 24 - (6 + 6) / 48)
        _, _, p = reproduce.signed_rank(sizes, [0] * 6)
        self.assertAlmostEqual(p, reproduce.math.erfc((21 - mean) / variance**0.5 / 2**0.5))

    def test_no_difference_is_no_evidence(self):
        self.assertEqual(reproduce.signed_rank([3, 4], [3, 4]), (0, 1, 1))


class Cells(unittest.TestCase):
    def test_standard_errors(self):
        self.assertEqual(reproduce.cell([1, 2, 3], 2), "2.00 ± 0.58")  # 1 / sqrt 3
        self.assertEqual(reproduce.cell([2], 1), "2.0")


class Axes(unittest.TestCase):
    def test_by_hand(self):
        self.assertEqual(reproduce.ticks(73.9), [0, 20, 40, 60, 80])
        self.assertEqual(reproduce.ticks(54), [0, 20, 40, 60])
        self.assertEqual(reproduce.ticks(50), [0, 10, 20, 30, 40, 50])
        self.assertEqual(reproduce.ticks(3), [0, 1, 2, 3])
        self.assertEqual(reproduce.round_numbers(0.3, 15), [0.2, 0.5, 1, 2, 5, 10, 20])
        self.assertEqual(reproduce.round_numbers(1, 10), [1, 2, 5, 10])

    def test_they_hold_what_they_are_for(self):
        for i in range(1, 400):
            most = 1.1 ** i / 1e6
            marks = reproduce.ticks(most)
            self.assertLessEqual(3, len(marks))
            self.assertLessEqual(len(marks), 6)
            self.assertLess(marks[-2], most)
            self.assertGreaterEqual(marks[-1] * (1 + 1e-9), most)
            self.assertRegex(f"{marks[1]:.6e}", r"^[125]\.000000e")
            numbers = reproduce.round_numbers(most, 30 * most)
            self.assertLessEqual(numbers[0], most)
            self.assertGreater(numbers[1], most)
            self.assertGreaterEqual(numbers[-1], 30 * most)


class Document(unittest.TestCase):
    def test_a_section_is_replaced_and_the_others_stay(self):
        document = reproduce.with_section("", "Set A", "a 1")
        document = reproduce.with_section(document, "Set B", "b 1")
        document = reproduce.with_section(document, "Set A", "a 2")
        self.assertEqual(document.count(reproduce.HEAD), 1)
        self.assertNotIn("a 1", document)
        self.assertLess(document.index("a 2"), document.index("b 1"))
        self.assertEqual(reproduce.with_section(document, "Set B", "b 1"), document)
        with self.assertRaisesRegex(reproduce.Refused, "not a pair"):
            reproduce.with_section(document.replace("<!-- set-a: end -->", ""), "Set A", "a 3")


# What `tagspace` is asked for: figures that depend on system, dimension and seed alone, a line in calls.txt for each training, and a
# failure of the training that is named in the file fail.
PROGRAM = r"""#!/usr/bin/env -S python3 -I -S
import json, pathlib, sys
command, *words = sys.argv[1:]
here = pathlib.Path(__file__).parent
option = lambda name: words[words.index(name) + 1]
if command == "train":
    run = pathlib.Path(option("--output"))
    settings = dict(word.split("=") for word in words if "=" in word)
    with open(here / "calls.txt", "a") as calls:
        calls.write(f"{run.name} {settings.get('training.threads', 0)} {'--resume' in words} {pathlib.Path(words[0]).name}\n")
    run.mkdir(exist_ok=True)
    (run / "config.json").write_text(json.dumps({"training": {"early_stopping": {"metric": "mrr"}}}))
    if (here / "fail").exists() and (here / "fail").read_text() == run.name:
        sys.exit(1)
    system, dim, seed = run.name.split("-")
    speed = {"bpr": 0.5, "warp": 1}.get(system, 2)
    lines = [{"epoch": epoch, "phase": "bag" if epoch < 3 else "cnn" if system == "tagspace" else "bag", "epoch_seconds": speed,
              "seconds": 10 * epoch, "valid": {"mrr": 0.1 * min(epoch, 3), "recall_at_10": 0.1 * epoch}} for epoch in range(1, 6)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
elif command == "evaluate":
    run = pathlib.Path(words[0])
    system, dim, seed = run.name.split("-")
    worth = int(dim) / 1000 + int(seed) / 100
    figures = {"posts": 3, "hashtags": 7, "precision_at_1": worth, "recall_at_10": worth, "mean_rank": 9, "mrr": worth,
               "baselines": {name: {"precision_at_1": 0.25, "recall_at_10": 0.5, "mean_rank": 2} for name in ("frequency", "words")}}
    pathlib.Path(option("--ranks")).write_text(f"{1000 - int(dim)} 2000\t960 7000\t1 2\n5\t5\t4\n{int(seed)}\t3\t9\n")
    pathlib.Path(option("--json")).write_text(json.dumps(figures))
else:
    assert command == "recommend" and "--bag-of-words" in words
    three = lambda value: {"precision_at_1": value, "recall_at_10": 2 * value, "recall_at_50": 3 * value}
    figures = {"users": 10, "earlier_posts": 45, "candidates": 10, **three(0.01), "bag_of_words": three(0.02),
               "with_bag_of_words": three(0.03)}
    pathlib.Path(option("--json")).write_text(json.dumps(figures))
"""


class Significance(unittest.TestCase):
    def test_the_first_places_count_for_one_over_the_rank(self):
        rows = []
        for system, best_ranks in (("wsabie", [2, 2, 2, 90]), ("tagspace", [1, 1, 1, 100])):
            row = object.__new__(reproduce.Row)
            row.system, row.dim, row.best_ranks, row.ranks_by_frequency = system, 64, [best_ranks, best_ranks], [2, 2, 2, 2]
            rows.append(row)
        table = [[cell.strip() for cell in line.split("|")[2:-1]] for line in reproduce.significance_table(rows)[-2:]]
        # One post lost.
        self.assertEqual(table[0], ["0.0 %", "75.0 %", "25.0 %", "0.317", "0.0 %", "25.0 %", "0.317"])
        # Three posts by 1 place (each of rank 2), one lost by 10 (rank 4): 6 to 4. Three by 1/2 (rank 3), one lost by 1/900: 9 to 1.
        # Variance 4 * 5 * 9 / 24, less (3^3 - 3) / 48 for the three that are equal.
        deviation = (7.5 - 0.5) ** 0.5
        p = [math.erfc(distance / deviation / 2 ** 0.5) for distance in (1, 4)]
        self.assertEqual(table[1], ["75.0 %", "0.0 %", "25.0 %", f"{p[0]:.3f}", "75.0 %", "25.0 %", f"{p[1]:.3f}"])


class Whole(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        for name in ("train.txt", "valid.txt", "test.txt", "users.jsonl"):
            (self.folder / name).write_text("a #b\n")
        (self.folder / "program").write_text(PROGRAM)
        (self.folder / "program").chmod(0o755)

    def reproduce(self, *words, status=0):
        paths = [word for name in ("train", "valid", "test") for word in (f"--{name}", self.folder / f"{name}.txt")]
        done = subprocess.run([sys.executable, SCRIPT, *paths, "--work", self.folder / "work", "--output", self.folder / "out.md",
                               "--program", self.folder / "program", *map(str, words)], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, status, done.stderr)
        calls = self.folder / "calls.txt"
        lines = calls.read_text().splitlines() if calls.exists() else []
        calls.unlink(missing_ok=True)
        return lines, done.stderr

    def rows(self, heading):
        text = (self.folder / "out.md").read_text()
        part = text[text.index(heading):]
        return [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line.startswith("|")]

    def test_tables(self):
        calls, _ = self.reproduce("--dims", "64,128", "--seeds", "1,2", "--systems", "wsabie,tagspace", "--losses", "warp,bpr",
                                  "--users", self.folder / "users.jsonl", "--set-name", "Mine")
        self.assertEqual({call.split()[0] for call in calls},
                         {f"{system}-{dim}-{seed}" for system in ("wsabie", "tagspace") for dim in (64, 128) for seed in (1, 2)}
                         | {f"{loss}-64-{seed}" for loss in ("warp", "bpr") for seed in (1, 2)})
        configs = {call.split()[0]: call.split()[3] for call in calls}
        self.assertEqual(configs["tagspace-128-1"], "tagspace-128.json")
        self.assertEqual(configs["warp-64-2"], "wsabie-64.json")
        rows = self.rows("## Mine")
        # 0.074 and 0.084: their mean, and half of what lies between.
        self.assertIn(["WSABIE", "64", "7.90 ± 0.50", "7.90 ± 0.50", "9.0 ± 0.0", "24.45 / 29.64 / 2619"], rows)
        self.assertIn(["frequency", "", "25.00", "50.00", "2.0", "4.20 / 1.59 / 11103"], rows)
        # One post of three is ranked better; the others alike: no evidence. Of one post alone, z = 1.
        # Ranks 936, 5 and 1.5, by frequency 960, 5 and 3.
        self.assertIn(["WSABIE against frequency, 64 dimensions", "66.7 %", "33.3 %", "0.0 %", "0.180", "66.7 %", "0.0 %", "0.180"], rows)
        self.assertIn(["#TagSpace against WSABIE, 64 dimensions", "0.0 %", "100.0 %", "0.0 %", "1.000", "0.0 %", "0.0 %", "1.000"], rows)
        of_one = f"{math.erfc(0.5 ** 0.5):.3f}"
        self.assertIn(["#TagSpace, 128 dimensions against 64", "33.3 %", "66.7 %", "0.0 %", of_one, "33.3 %", "0.0 %", of_one], rows)
        rows = self.rows("### Document recommendation")
        self.assertIn(["bag of words", "", "2.00", "4.00", "6.00", "1.36 / 4.29 / 8.03"], rows)
        self.assertIn(["#TagSpace", "64", "1.00 ± 0.00", "2.00 ± 0.00", "3.00 ± 0.00", "1.27 / 4.56 / 9.64"], rows)
        self.assertIn(["#TagSpace + bag of words", "64", "3.00 ± 0.00", "6.00 ± 0.00", "9.00 ± 0.00", "1.80 / 5.90 / 11.22"], rows)
        # BPR has five epochs of half a second, WARP of one; the third is the best. Who has ended keeps what it has.
        rows = self.rows("### Losses")
        self.assertEqual(rows[3][5:], ["3 ± 0", "1.50 ± 0.00", "0.5"])
        self.assertEqual(rows[4:], [["", "after 1 epoch", "after 5 epochs", "after 20 epochs", "after 1 s", "after 2 s", "after 5 s",
                                     "at the end"],
                                    ["---", *["--:"] * 7],
                                    ["WARP", "10.0 ± 0.0", *["30.0 ± 0.0"] * 2, "10.0 ± 0.0", "20.0 ± 0.0", *["30.0 ± 0.0"] * 2],
                                    ["BPR", "10.0 ± 0.0", *["30.0 ± 0.0"] * 2, "20.0 ± 0.0", *["30.0 ± 0.0"] * 3]])
        for name in ("out-mine.svg", "out-mine-losses.svg"):
            picture = xml.etree.ElementTree.parse(self.folder / name)
            texts = ["".join(element.itertext()) for element in picture.iter("{http://www.w3.org/2000/svg}text")]
            self.assertIn("seconds of training", texts)
            self.assertIn("0", texts)

    def test_what_was_done_is_not_done_again(self):
        (self.folder / "fail").write_text("wsabie-64-2")
        calls, error = self.reproduce("--dims", 64, "--seeds", "1,2", "--systems", "wsabie", status=1)
        self.assertEqual([call.split()[0] for call in calls], ["wsabie-64-1", "wsabie-64-2"])
        self.assertIn("train failed; the same command goes on from here", error)
        self.assertFalse((self.folder / "out.md").exists())
        (self.folder / "fail").unlink()
        calls, _ = self.reproduce("--dims", 64, "--seeds", "1,2", "--systems", "wsabie")
        self.assertEqual([call.split()[:3:2] for call in calls], [["wsabie-64-2", "True"]])
        # Posts of users are another task for the same trainings.
        calls, _ = self.reproduce("--dims", 64, "--seeds", "1,2", "--systems", "wsabie", "--users", self.folder / "users.jsonl")
        self.assertEqual(calls, [])
        _, error = self.reproduce("--dims", 64, "--seeds", "1,2", "--systems", "wsabie", "--users", self.folder / "users.jsonl")
        self.assertEqual(error, "")
        (self.folder / "users.jsonl").write_text("others\n")
        _, error = self.reproduce("--dims", 64, "--seeds", "1,2", "--systems", "wsabie", "--users", self.folder / "users.jsonl")
        self.assertIn("recommending by wsabie-64-1", error)

    def test_runs_of_an_older_program(self):
        """Without epoch_seconds: all seconds, for all curves."""
        self.reproduce("--dims", 64, "--seeds", "1", "--systems", "wsabie,tagspace")
        metrics = self.folder / "work/wsabie-64-1/metrics.jsonl"
        metrics.write_text(re.sub(r'"epoch_seconds": \d+, ', "", metrics.read_text()))
        calls, _ = self.reproduce("--dims", 64, "--seeds", "1", "--systems", "wsabie,tagspace")
        self.assertEqual(calls, [])
        picture = (self.folder / f"out-{reproduce.slug(self.folder.name)}.svg").read_text()
        self.assertIn("seconds, validation included", picture)
        self.assertEqual(*re.findall(r'points="([^"]*)"', picture)[2:])  # by seconds
        # Without the ranks of the baselines: measured again, not trained.
        (self.folder / "work/wsabie-64-1/ranks.txt").write_text("5\n5\n1\n")
        calls, _ = self.reproduce("--dims", 64, "--seeds", "1", "--systems", "wsabie,tagspace")
        self.assertEqual(calls, [])
        self.assertIn("WSABIE against frequency, 64 dimensions", (self.folder / "out.md").read_text())

    def test_jobs_share_the_cores_but_losses_are_alone(self):
        calls, _ = self.reproduce("--dims", 64, "--seeds", "1,2", "--systems", "wsabie", "--losses", "bpr", "--jobs", "2")
        threads = {name: int(number) for name, number, _, _ in map(str.split, calls)}
        self.assertEqual(threads["wsabie-64-2"], max(1, len(os.sched_getaffinity(0)) // 2))
        self.assertEqual(threads["bpr-64-2"], 0)  # the config's, which are all
        text = (self.folder / "out.md").read_text()
        self.assertIn("2 trainings shared the machine", text)
        self.assertIn("one training at a time", text)
        # A loss that was trained beside others is not said to have been alone.
        self.reproduce("--dims", 64, "--seeds", "1,2", "--systems", "wsabie,hinge", "--jobs", "2")
        self.reproduce("--dims", 64, "--seeds", "1,2", "--systems", "wsabie", "--losses", "hinge,bpr")
        text = (self.folder / "out.md").read_text()
        self.assertIn("2 trainings at a time", text)
        self.assertNotIn("one training at a time", text)

    def test_runs_of_other_posts_are_not_taken(self):
        self.reproduce("--dims", 64, "--seeds", "1", "--systems", "wsabie")
        before = (self.folder / "out.md").read_text()
        _, error = self.reproduce("--dims", 64, "--seeds", "1", "--systems", "wsabie", "--min-count", 7, status=1)
        self.assertRegex(error, r"^reproduce: '.*wsabie-64-1' is of other posts or settings \(min_count\): choose another --work")
        (self.folder / "valid.txt").write_text("b #a\n")  # as long as before
        calls, error = self.reproduce("--dims", 64, "--seeds", "1", "--systems", "wsabie", "--set-name", "Other", status=1)
        self.assertIn("(valid)", error)
        self.assertEqual(calls, [])
        self.assertEqual((self.folder / "out.md").read_text(), before)
        calls, _ = self.reproduce("--dims", 64, "--seeds", "1", "--systems", "wsabie", "--work", self.folder / "other")
        self.assertEqual(len(calls), 1)

    def test_a_dimension_may_have_a_config_of_its_own(self):
        calls, _ = self.reproduce("--dims", "32,256", "--seeds", "1", "--systems", "tagspace,wsabie")
        self.assertEqual({call.split()[0]: call.split()[3] for call in calls},
                         {"tagspace-32-1": "tagspace-64.json", "wsabie-32-1": "wsabie-64.json", "tagspace-256-1": "tagspace-256.json",
                          "wsabie-256-1": "wsabie-64.json", "wsabie-512-1": "wsabie-64.json"})

    def test_losses_as_systems_have_a_second_task_too(self):
        self.reproduce("--dims", 64, "--seeds", "1", "--systems", "wsabie,starspace", "--users", self.folder / "users.jsonl")
        self.assertIn(["StarSpace's", "64", "1.00", "2.00", "3.00", ""], self.rows("### Document recommendation"))

    def test_what_others_wrote_is_not_touched(self):
        (self.folder / "out.md").write_text("# My notes\n")
        calls, error = self.reproduce("--dims", 64, "--seeds", "1", "--systems", "wsabie", status=1)
        self.assertRegex(error, r"^reproduce: '.*out\.md' is there already and not a document of this script")
        self.assertEqual(calls, [])
        self.assertEqual((self.folder / "out.md").read_text(), "# My notes\n")

    def test_wrong_usage(self):
        for words, message in ((["--systems", "wsabi"], "'wsabi' is none of"), (["--losses", "wsabie"], "'wsabie' is none of warp"),
                               (["--jobs", "0"], "must be 1 or more"), (["--dims", "64,x"], "numbers from 1 on, separated by commas"),
                               (["--seeds", "1,1"], "each once"), (["--seeds", "0"], "from 1 on"), (["--users", "none.jsonl"], "no file 'none.jsonl'")):
            _, error = self.reproduce(*words, status=2)
            self.assertIn(message, error)


if __name__ == "__main__":
    unittest.main()
