"""What scripts/benchmark makes of posts and of figures."""

import collections
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
sys.dont_write_bytecode = True
import benchmark_posts  # noqa: E402
import benchmark_report  # noqa: E402

PROGRAM = os.environ["TAGSPACE"]


def read(path):
    """[(words, hashtags)] of a prepared file."""
    posts = []
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split(" ")
        posts.append(
            ([w for w in words if not w.startswith("__label__")], [w[9:] for w in words if w.startswith("__label__")])
        )
    return posts


class Posts(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_hashtags_leave_the_text(self):
        words, hashtags = benchmark_posts.parse("#Go time for __label__rust again #go, page&#39; or c#7")
        self.assertEqual(hashtags, ["t_go", "t_rust"])
        self.assertNotIn("go", words)
        self.assertEqual(words[:3], ["time", "for", "again"])

    def test_every_word_has_a_plain_name_of_its_own(self):
        texts = [
            "don't dont",
            "été ete",
            "@user user",
            "http www.x.org",
            "wow!!! wow!",
            "naïve \N{CAT FACE}",
            "日本 日",
        ]
        for text in texts:
            words, _ = benchmark_posts.parse(text)
            for word in words:
                self.assertRegex(word, "^[a-z0-9_]+$")
        self.assertEqual(len(set(benchmark_posts.parse("don't dont")[0])), 2)
        self.assertEqual(len(set(benchmark_posts.parse("été ètè ete")[0])), 3)
        self.assertEqual(benchmark_posts.parse("wow!!!"), benchmark_posts.parse("wow!"))

    def test_rare_words_and_hashtags_are_left_out(self):
        train = [(["a", "b"], ["x"]), (["a", "c"], ["x", "y"]), (["c"], ["y"]), (["d", "d"], ["z"])]
        posts = {"train": train, "valid": [(["b", "a"], ["x"])], "test": [(["b"], ["x"]), (["a"], ["z"])]}
        benchmark_posts.write(self.folder, posts, hashtag_count=2, word_count=2)
        self.assertEqual(read(self.folder / "train.txt"), [(["a"], ["x"]), (["a", "c"], ["x", "y"]), (["c"], ["y"])])
        self.assertEqual(read(self.folder / "valid.txt"), [(["a"], ["x"])])
        self.assertEqual(read(self.folder / "test.txt"), [])

    def test_made_up_posts_hold_every_word_and_hashtag(self):
        benchmark_posts.synthetic(self.folder, (300, 20, 20), words=700, hashtags=50, lengths=(6, 6))
        train = read(self.folder / "train.txt")
        self.assertEqual(len({w for words, _ in train for w in words}), 700)
        self.assertEqual(len({h for _, own in train for h in own}), 50)
        self.assertEqual({len(words) for words, _ in read(self.folder / "test.txt")}, {6})

    def test_tagspace_reads_the_same_words(self):
        texts = [
            "don't stop @user http://x.org #go",
            "naïve été... 日本 www x_1 10km #go",
            "\N{CAT FACE}\N{CAT FACE} it's 5% #été",
        ] * 6
        for split in benchmark_posts.SPLITS:
            (self.folder / f"{split}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
        prepared = self.folder / "prepared"
        benchmark_posts.prepare(self.folder, prepared, hashtag_count=1)
        settings = [f"data.{split}={prepared / split}.txt" for split in benchmark_posts.SPLITS]
        settings += [
            "data.hashtags.min_count=1",
            "tokenizer.min_count=1",
            "training.epochs=1",
            f"data.cache={self.folder / 'cache'}",
        ]
        words = [word for setting in settings for word in ("--set", setting)]
        run = self.folder / "run"
        subprocess.run(
            [PROGRAM, "train", ROOT / "configs" / "wsabie-64.json", *words, "--output", run],
            check=True,
            capture_output=True,
        )

        def counts(path):
            return {
                name: int(count)
                for name, count in (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
            }

        posts = read(prepared / "train.txt")
        self.assertEqual(
            counts(run / "tokenizer" / "words.tsv"), collections.Counter(w for text, _ in posts for w in text)
        )
        self.assertEqual(counts(run / "hashtags.tsv"), collections.Counter(h for _, own in posts for h in own))


class Report(unittest.TestCase):
    SPEED = {"name": "a & b", "ours": [20.0, 30.0, 60.0], "theirs": [10.0, 10.0, 10.0], "unit": "posts/s"}
    SECONDS = {"name": "c", "ours": [2.0], "theirs": [1.0], "unit": "s", "lower": True}
    MISSING = {"name": "d", "missing": "no network"}

    def test_a_ratio_says_how_many_times_as_fast_tagspace_is(self):
        self.assertEqual(benchmark_report.ratios(self.SPEED), [2, 3, 6])
        self.assertEqual(benchmark_report.ratios(self.SECONDS), [0.5])

    def test_three_digits_are_shown(self):
        shown = {0: "0", 0.012345: "0.0123", 1.5: "1.50", 12.34: "12.3", 123.4: "123", 560123.0: "560,123"}
        self.assertEqual({value: benchmark_report.number(value) for value in shown}, shown)

    def test_what_is_missing_is_named_and_has_no_figure(self):
        section = {"title": "T", "text": "x", "rows": [self.SPEED, self.MISSING]}
        line = next(
            line for line in benchmark_report.document("# B", [section]).splitlines() if line.startswith("| d ")
        )
        self.assertIn("not available: no network", line)
        self.assertNotRegex(line, r"\d")

    def test_the_picture_has_a_bar_for_each_ratio(self):
        picture = benchmark_report.picture([{"title": "T<", "rows": [self.SPEED, self.SECONDS, self.MISSING]}])
        bars = xml.etree.ElementTree.fromstring(picture).findall("{http://www.w3.org/2000/svg}rect")
        self.assertEqual([bar.get("class") for bar in bars], ["bar", "slower"])
        self.assertGreater(float(bars[0].get("width")), float(bars[1].get("width")))  # 3 times beside half


if __name__ == "__main__":
    unittest.main()
