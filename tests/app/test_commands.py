#!/usr/bin/env python3
"""Runs the program as a person does, on a small made-up corpus. Needs only Python's standard library.

The program is $TAGSPACE. One class is one CTest test: test_commands.py -v Using
"""

import array
import collections
import contextlib
import ctypes
import fcntl
import json
import math
import os
import pathlib
import pty
import random
import re
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest
import xml.etree.ElementTree

PROGRAM = os.environ.get("TAGSPACE", "build/tagspace")


def make_posts(count, seed, topics=40):
    """Posts of a few words of one topic, a few of all, and the topic's hashtag; some carry a second one."""
    rng = random.Random(seed)
    lines = []
    for _ in range(count):
        topic = min(int(rng.expovariate(0.12)), topics - 1)
        words = [f"w{topic}x{rng.randrange(8)}" for _ in range(3)] + [f"c{rng.randrange(60)}" for _ in range(5)]
        words.append(f"#tag{topic}")
        if rng.random() < 0.25:
            words.append(f"#Tag{min(int(rng.expovariate(0.12)), topics - 1)}")
        if rng.random() < 0.1:
            words.append(f"tag{topic}")
        rng.shuffle(words)
        lines.append(" ".join(words))
    return lines


def write_lines(path, lines):
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def read_safetensors(path):
    """The tensors' part of the header, the tensors' bytes, and the metadata."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__", {})
    return header, data[8 + size :], metadata


def state_of(path):
    """The JSON text that the program keeps in a checkpoint, wherever in the metadata it stands."""
    for text in read_safetensors(path)[2].values():
        with contextlib.suppress(ValueError):
            state = json.loads(text)
            if isinstance(state, dict) and ("valid" in state or "phase_epochs" in state):
                return state
    raise AssertionError(f"{path} holds no state")


def read_vectors(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    rows, dim = map(int, lines[0].split())
    table = {}
    for line in lines[1:]:
        name, *values = line.split(" ")
        assert len(values) == dim
        table[name] = [float(value) for value in values]
    assert len(table) == rows == len(lines) - 1
    return table


class Workplace(unittest.TestCase):
    """A folder with a corpus, in which the program runs."""

    posts = (3000, 300, 300)

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="tagspace-test-"))
        for seed, (name, count) in enumerate(zip(("train", "valid", "test"), cls.posts)):
            write_lines(cls.folder / f"{name}.txt", make_posts(count, seed + 1))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def config(cls, name, **sections):
        experiment = {
            "name": name,
            "data": {"train": "train.txt", "valid": "valid.txt", "test": "test.txt", "hashtags": {"min_count": 2}},
            "tokenizer": {"type": "word"},
            "encoder": {"type": "bag", "dim": 16},
            "training": {"epochs": 3, "batch_size": 64, "device": "cpu"},
        }
        for section, values in sections.items():
            experiment.setdefault(section, {}).update(values)
        path = cls.folder / f"{name}.json"
        path.write_text(json.dumps(experiment))
        return path.name

    @classmethod
    def run_program(cls, *arguments, stdin=b"", **options):
        return subprocess.run(
            [PROGRAM, *map(str, arguments)], cwd=cls.folder, input=stdin, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, timeout=300, check=False, **options)

    @classmethod
    def succeed(cls, *arguments, stdin=b"", **options):
        done = cls.run_program(*arguments, stdin=stdin, **options)
        if done.returncode != 0:
            raise AssertionError(f"{arguments}: exit status {done.returncode}\n{done.stderr.decode(errors='replace')}")
        return done

    def fail_with(self, *arguments, message, status=1, alone=True, **options):
        """The program must fail with one line that matches `message`; the only line if `alone`."""
        done = self.run_program(*arguments, **options)
        lines = done.stderr.decode(errors="replace").splitlines()
        self.assertEqual(done.returncode, status, lines)
        errors = [line for line in lines if line.startswith("tagspace: error: ")]
        self.assertEqual(len(errors), 1, lines)
        self.assertEqual(lines[-1], errors[0])
        if alone:
            self.assertEqual(len(lines), 1, lines)
        self.assertRegex(errors[0], message)
        self.assertEqual(done.stdout, b"")
        self.assert_nothing_half_written()
        return errors[0]

    def assert_nothing_half_written(self):
        self.assertEqual([str(path) for path in self.folder.rglob("*.partial")], [])

    def assert_same_run(self, one, other):
        """Same tensors in both checkpoints, same figures in every epoch."""
        for name in ("best.safetensors", "last.safetensors"):
            first, second = (read_safetensors(self.folder / "runs" / run / name) for run in (one, other))
            self.assertEqual(first[0], second[0])
            self.assertTrue(first[1] == second[1], f"{name} of {one} and {other} differ")
        self.assertEqual(state_of(self.folder / "runs" / one / "best.safetensors"),
                         state_of(self.folder / "runs" / other / "best.safetensors"))
        calibrations = [(self.folder / "runs" / run / "calibration.json").read_bytes() for run in (one, other)]
        self.assertEqual(calibrations[0], calibrations[1])
        self.assertEqual(self.metrics(one), self.metrics(other))

    def metrics(self, run):
        lines = []
        passed = 0
        for line in (self.folder / "runs" / run / "metrics.jsonl").read_text().splitlines():
            epoch = json.loads(line)
            # Of the epoch's steps; and of all since the beginning, validation included.
            self.assertGreater(epoch["epoch_seconds"], 0)
            passed += epoch["epoch_seconds"]
            self.assertLessEqual(passed, epoch["seconds"] + 1e-6)
            del epoch["seconds"], epoch["epoch_seconds"], epoch["posts_per_second"], epoch["waiting_share"]
            lines.append(epoch)
        return lines


ODD_LINES = [
    b"w1x1 c3 an ordinary line", b"", b" ", b"\t \t", b"\xf0\x9f\x98\x80\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x9a\x80", b"#tag1",
    b"#", b"##", b"#1234", b"\x00", b"a\x00b w1x1\x00", b"\xff\xfe\xfa", b"w1x1 \xc3", b"\xe2\x80\xa8 \xe2\x80\xa9 \xc2\x85", b"a\x0cb\x0bc",
    b"one\rtwo", b"trailing\r", b"http://a.b/#tag1 @someone", b"{\"text\": \"no json here\"}", b"__label__", b"__label__tag2 w2x1",
    b"word " * 2_000_000, b"x" * 10_000_000, b"\xff" * 100_000, b"#" * 100_000, ("\u0301" * 50_000).encode(), b"-", b"--top", b"\\", b"last",
]


class Using(Workplace):
    """What the commands answer."""

    RUNS = {
        "bag": {},
        "cosine": {"loss": {"score": "cosine", "margin": 1, "rank_weight": "linear"}, "encoder": {"initial_scale": 0.1}},
        "cnn": {"encoder": {"type": "cnn", "filters": 24}, "training": {"bag_epochs": 2, "epochs": 2}},
        "pieces": {"tokenizer": {"type": "sentencepiece", "vocab_size": 300}},
    }

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name, sections in cls.RUNS.items():
            cls.succeed("train", cls.config(name, **sections))

    def test_the_model_has_learnt(self):
        for run in self.RUNS:
            with self.subTest(run=run):
                figures = json.loads(self.succeed("evaluate", f"runs/{run}", "--json", "-").stdout)
                self.assertEqual(figures["posts"], 300)
                self.assertGreater(figures["precision_at_1"], 2 * figures["baselines"]["frequency"]["precision_at_1"])
                self.assertGreater(figures["recall_at_10"], figures["baselines"]["frequency"]["recall_at_10"])
                self.assertGreater(figures["baselines"]["words"]["precision_at_1"],
                                   figures["baselines"]["frequency"]["precision_at_1"])

    def test_an_independent_computation_agrees(self):
        """P@1, R@10, mean rank, MRR and the top 10 of 200 posts, from the exported vectors alone."""
        lines = make_posts(200, 77)
        write_lines(self.folder / "check.txt", lines)
        for run in self.RUNS:
            with self.subTest(run=run):
                self.succeed("export", f"runs/{run}", "--output", f"vectors-{run}")
                table = read_vectors(self.folder / f"vectors-{run}" / "hashtags.vec")
                embedded = self.succeed("embed", f"runs/{run}", "--posts", "check.txt").stdout.decode().splitlines()
                self.assertEqual(len(embedded), len(lines))
                predicted = self.succeed("predict", f"runs/{run}", "--posts", "check.txt", "--json").stdout.decode().splitlines()
                figures = json.loads(self.succeed("evaluate", f"runs/{run}", "--posts", "check.txt", "--json", "-").stdout)

                # Python's sums are of double precision and the program's are not: scores nearer than this may stand
                # either way, so that each figure has a lowest and a highest value.
                near = 1e-5
                low, high = [0.0] * 4, [0.0] * 4
                posts = 0
                for line, vector_text, answer in zip(lines, embedded, predicted):
                    vector = [float(value) for value in vector_text.split(" ")]
                    scores = {name: math.fsum(a * b for a, b in zip(vector, row)) for name, row in table.items()}
                    own = {name for name in (hashtag.lower() for hashtag in re.findall(r"#\w+", line)) if name in table}

                    top = json.loads(answer)["hashtags"]
                    self.assertEqual(len(top), 10)
                    ordered = sorted(scores.values(), reverse=True)
                    for place, hashtag in enumerate(top):
                        score = scores["#" + hashtag["hashtag"]]
                        self.assertAlmostEqual(hashtag["score"], score, delta=near)
                        self.assertAlmostEqual(ordered[place], score, delta=near)
                    self.assertEqual(len({hashtag["hashtag"] for hashtag in top}), 10)
                    self.assertEqual([hashtag["score"] for hashtag in top], sorted((h["score"] for h in top), reverse=True))

                    if not own:
                        continue
                    posts += 1
                    for sums, slack in ((low, near), (high, -near)):
                        ranks = [1 + sum(1 for name, score in scores.items() if name != mine and score >= scores[mine] - slack)
                                 for mine in own]
                        sums[0] += min(ranks) == 1
                        sums[1] += sum(rank <= 10 for rank in ranks) / len(ranks)
                        sums[2] += sum(ranks) / len(ranks)
                        sums[3] += 1 / min(ranks)
                self.assertEqual(figures["posts"], posts)
                self.assertGreater(posts, 150)
                self.assertEqual(figures["hashtags"], len(table))
                for name, one, other in zip(("precision_at_1", "recall_at_10", "mean_rank", "mrr"), low, high):
                    least, most = sorted((one / posts, other / posts))
                    self.assertGreaterEqual(figures[name], least - 1e-9, name)
                    self.assertLessEqual(figures[name], most + 1e-9, name)
                    # ... and the range is narrow enough to mean something.
                    self.assertLess(most - least, 0.02 * max(most, 1), name)

    def test_baselines_agree_with_a_computation_by_hand(self):
        figures = json.loads(self.succeed("evaluate", "runs/bag", "--json", "-").stdout)
        table = [line.split("\t")[0] for line in (self.folder / "runs/bag/hashtags.tsv").read_text().splitlines()]
        sums = {"frequency": [0.0] * 4, "words": [0.0] * 4}
        posts = 0
        for line in (self.folder / "test.txt").read_text().splitlines():
            own = {hashtag.lower() for hashtag in re.findall(r"#(\w+)", line)} & set(table)
            if not own:
                continue
            posts += 1
            words = set(re.sub(r"#\w+", " ", line).lower().split())
            rankings = {"frequency": table, "words": [name for name in table if name in words] + [name for name in table if name not in words]}
            for name, ranking in rankings.items():
                ranks = [1 + ranking.index(hashtag) for hashtag in own]
                for i, value in enumerate((min(ranks) == 1, sum(r <= 10 for r in ranks) / len(ranks), sum(ranks) / len(ranks), 1 / min(ranks))):
                    sums[name][i] += value
        self.assertEqual(figures["posts"], posts)
        for name, values in sums.items():
            for key, value in zip(("precision_at_1", "recall_at_10", "mean_rank", "mrr"), values):
                self.assertAlmostEqual(figures["baselines"][name][key], value / posts, places=9)

    def test_evaluate_prints_a_table_and_writes_a_file(self):
        done = self.succeed("evaluate", "runs/bag", "--json", "figures.json")
        text = done.stdout.decode()
        figures = json.loads((self.folder / "figures.json").read_text())
        self.assertIn(f"{100 * figures['precision_at_1']:.2f}", text)
        for word in ("bag", "#words", "frequency", "rare", "middling", "frequent", "P@1", "R@10", "mean rank", "MRR"):
            self.assertIn(word, text)
        groups = figures["by_frequency"].values()
        self.assertEqual(sum(group["hashtags"] for group in groups), figures["hashtags"])
        self.assertEqual(sum(group["predictions"] for group in groups), figures["posts"])
        self.assertAlmostEqual(sum(group["predictions"] * group["precision_at_1"] for group in groups),
                               figures["posts"] * figures["precision_at_1"], places=6)

    def test_one_line_out_for_each_line_in(self):
        for run in self.RUNS:
            for command in (["predict"], ["predict", "--json"], ["embed"]):
                with self.subTest(run=run, command=command):
                    # With and without an end of the last line.
                    done = self.succeed(command[0], f"runs/{run}", *command[1:], stdin=b"\n".join(ODD_LINES) + b"\n" * (run == "bag"))
                    self.assertEqual(done.stdout.count(b"\n"), len(ODD_LINES))
                    self.assertTrue(done.stdout.endswith(b"\n"))
                    self.assertNotIn(b"nan", done.stdout)
                    self.assertNotIn(b"inf", done.stdout)
                    for line in done.stdout.splitlines():
                        if "--json" in command:
                            self.assertEqual(len(json.loads(line)["hashtags"]), 10)
        self.assertEqual(self.succeed("predict", "runs/bag", stdin=b"").stdout, b"")

    def test_predict_formats(self):
        text = self.succeed("predict", "runs/bag", "--top", "3", stdin=b"w1x1 w1x2\n").stdout.decode()
        answer = json.loads(self.succeed("predict", "runs/bag", "--top", "3", "--json", stdin=b"w1x1 w1x2\n").stdout)
        self.assertEqual(text, "\t".join(f"#{h['hashtag']} {h['score']:.4f}" for h in answer["hashtags"]) + "\n")
        self.assertEqual(answer["hashtags"][0]["hashtag"], "tag1")
        # A hashtag in the post tells nothing.
        self.assertEqual(self.succeed("predict", "runs/bag", "--top", "3", stdin=b"w1x1 #tag9 w1x2\n").stdout.decode(), text)
        second = answer["hashtags"][1]["score"]
        few = json.loads(self.succeed("predict", "runs/bag", "--json", "--min-score", repr(second), stdin=b"w1x1 w1x2\n").stdout)
        self.assertEqual(few["hashtags"], answer["hashtags"][:2])
        self.assertEqual(self.succeed("predict", "runs/bag", "--min-score", "1e9", stdin=b"w1x1\nw1x2\n").stdout, b"\n\n")
        all_of_them = json.loads(self.succeed("predict", "runs/bag", "--json", "--top", "1000", "--min-score", "-1e9", stdin=b"w1x1\n").stdout)
        self.assertEqual(len(all_of_them["hashtags"]), len((self.folder / "runs/bag/hashtags.tsv").read_text().splitlines()))

    def test_predict_answers_at_once(self):
        with subprocess.Popen([PROGRAM, "predict", "runs/bag"], cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
            for _ in range(3):
                program.stdin.write(b"w1x1 w1x2\n")
                program.stdin.flush()
                self.assertTrue(select.select([program.stdout], [], [], 60)[0], "no answer to a line")
                self.assertTrue(os.read(program.stdout.fileno(), 1 << 16).startswith(b"#tag1 "))
            program.stdin.close()
            self.assertEqual(program.wait(60), 0)

    def test_a_reader_that_leaves_is_no_failure(self):
        with subprocess.Popen([PROGRAM, "predict", "runs/bag", "--posts", "train.txt"], cwd=self.folder,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
            program.stdout.readline()
            program.stdout.close()
            self.assertEqual(program.wait(60), 0)
            self.assertEqual(program.stderr.read(), b"")

    def test_embed_npy_is_the_text(self):
        lines = "\n".join(make_posts(700, 5)).encode()
        text = self.succeed("embed", "runs/cnn", stdin=lines).stdout.decode().splitlines()
        data = self.succeed("embed", "runs/cnn", "--format", "npy", stdin=lines).stdout
        self.assertEqual(data[:8], b"\x93NUMPY\x01\x00")
        (size,) = struct.unpack("<H", data[8:10])
        self.assertEqual((10 + size) % 64, 0)
        header = eval(data[10 : 10 + size], {"__builtins__": {}})  # pylint: disable=eval-used
        self.assertEqual(header, {"descr": "<f4", "fortran_order": False, "shape": (700, 16)})
        numbers = array.array("f", data[10 + size :])
        self.assertEqual(len(numbers), 700 * 16)
        as_text = array.array("f", (float(value) for line in text for value in line.split(" ")))
        self.assertEqual(as_text, numbers)
        empty = self.succeed("embed", "runs/cnn", "--format", "npy").stdout
        self.assertIn(b"(0, 16)", empty)

    def test_neighbors(self):
        self.succeed("export", "runs/bag", "--output", "vectors-neighbors")
        hashtags = read_vectors(self.folder / "vectors-neighbors/hashtags.vec")
        words = read_vectors(self.folder / "vectors-neighbors/words.vec")

        def cosine(a, b):
            return math.fsum(x * y for x, y in zip(a, b)) / math.hypot(*a) / math.hypot(*b)

        for query, table, of in (("#tag1", hashtags, "hashtags"), ("#Tag1", words, "words"), ("w1x1", hashtags, "hashtags"), ("w1x1", words, "words")):
            with self.subTest(query=query, of=of):
                answer = self.succeed("neighbors", "runs/bag", query, "--of", of, "--top", "5").stdout.decode().splitlines()
                own = hashtags.get(query.lower()) or words[query]
                expected = sorted(((cosine(own, row), name) for name, row in table.items() if name != query), reverse=True)[:5]
                self.assertEqual([line.split("\t")[0] for line in answer], [name for _, name in expected])
                for line, (score, _) in zip(answer, expected):
                    self.assertAlmostEqual(float(line.split("\t")[1]), score, delta=1e-4)
        self.fail_with("neighbors", "runs/bag", "#tga1", message=r"'#tga1' is not in the run's table; did you mean '#tag1'\?")
        self.fail_with("neighbors", "runs/bag", "nosuchword", message="'nosuchword' is not in the run's vocabulary")
        for run in ("cnn", "pieces", "cosine"):
            for query, of in (("#tag1", "words"), ("w1x1", "words"), ("w1x1", "hashtags")):
                self.assertEqual(len(self.succeed("neighbors", f"runs/{run}", query, "--of", of).stdout.splitlines()), 10)

    def test_export_for_the_projector(self):
        self.succeed("export", "runs/pieces", "--output", "projector", "--format", "projector")
        self.succeed("export", "runs/pieces", "--output", "vectors-pieces")
        for what in ("hashtags", "words"):
            table = read_vectors(self.folder / f"vectors-pieces/{what}.vec")
            vectors = (self.folder / f"projector/{what}.vectors.tsv").read_text().splitlines()
            names = (self.folder / f"projector/{what}.metadata.tsv").read_text().splitlines()
            if what == "hashtags":
                self.assertEqual(names.pop(0), "name\ttraining_posts")
            self.assertEqual([name.split("\t")[0] for name in names], list(table))
            self.assertEqual([[float(value) for value in line.split("\t")] for line in vectors], list(table.values()))

    def test_a_run_is_all_that_is_needed_moved_anywhere(self):
        expected = self.succeed("predict", "runs/cnn", "--posts", "test.txt").stdout
        with tempfile.TemporaryDirectory() as elsewhere:
            shutil.copytree(self.folder / "runs/cnn", pathlib.Path(elsewhere) / "a run")
            shutil.copy(self.folder / "test.txt", elsewhere)
            done = subprocess.run([PROGRAM, "predict", "a run", "--posts", "test.txt"], cwd=elsewhere, stdout=subprocess.PIPE, check=True)
            self.assertEqual(done.stdout, expected)
            subprocess.run([PROGRAM, "evaluate", "a run", "--posts", "test.txt"], cwd=elsewhere, stdout=subprocess.DEVNULL, check=True)

    def test_threads_change_nothing(self):
        for command in (["predict", "--json"], ["embed"]):
            answers = {self.succeed(command[0], "runs/cnn", *command[1:], "--posts", "train.txt", "--threads", n).stdout for n in (1, 2, 3)}
            self.assertEqual(len(answers), 1)
        answers = {self.succeed("evaluate", "runs/cnn", "--json", "-", "--threads", n).stdout for n in (1, 2, 3)}
        self.assertEqual(len(answers), 1)

    def test_the_run_folder_is_complete(self):
        run = self.folder / "runs/cnn"
        config = json.loads((run / "config.json").read_text())
        self.assertEqual(config["format"], 1)
        self.assertEqual(config["training"]["early_stopping"], {"metric": "recall_at_10", "patience": 3})
        self.assertEqual(config["data"]["train"], str((self.folder / "train.txt").resolve()))
        for name in ("best.safetensors", "last.safetensors", "hashtags.tsv", "calibration.json", "log.txt", "metrics.jsonl"):
            self.assertTrue((run / name).stat().st_size > 0, name)
        metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        self.assertEqual([(m["epoch"], m["phase"]) for m in metrics], [(1, "bag"), (2, "bag"), (3, "cnn"), (4, "cnn")])
        self.assertEqual(metrics[0]["step"], 47)
        for epoch in metrics:
            self.assertTrue(0 <= epoch["waiting_share"] <= 1, epoch)
        self.assertEqual(metrics[3]["step"], 4 * 47)
        self.assertEqual(set(metrics[0]["valid"]), {"posts", "precision_at_1", "recall_at_10", "mean_rank", "mrr"})
        # The final model of a cnn experiment is the cnn.
        self.assertFalse(state_of(run / "best.safetensors")["as_bag"])

    def test_help_and_wrong_usage(self):
        self.assertTrue(self.succeed("--version").stdout.startswith(b"tagspace "))
        for command in ("train", "tune", "predict", "evaluate", "recommend", "embed", "neighbors", "export", "schema"):
            self.assertIn(b"tagspace " + command.encode(), self.succeed(command, "--help").stdout)
        for arguments in ([], ["fly"], ["predict"], ["predict", "runs/bag", "--top", "0"], ["predict", "runs/bag", "--top", "x"],
                          ["predict", "runs/bag", "--what"], ["train"], ["train", "--resume"], ["export", "runs/bag"],
                          ["embed", "runs/bag", "--format", "xml"]):
            with self.subTest(arguments=arguments):
                done = self.run_program(*arguments)
                self.assertEqual(done.returncode, 2)
                self.assertEqual(done.stdout, b"")
                self.assertNotEqual(done.stderr, b"")

    def test_an_unknown_command_is_named(self):
        done = self.run_program("pedict")
        self.assertEqual(done.returncode, 2)
        self.assertIn("no command is called 'pedict'; did you mean predict?; there are train, tune, predict,", done.stderr.decode())

    def test_schema_is_printed(self):
        self.assertEqual(json.loads(self.succeed("schema").stdout)["type"], "object")
        self.assertIn(b"| `loss.margin` |", self.succeed("schema", "--markdown").stdout)


class Probabilities(Workplace):
    """What scores are worth: probabilities, thresholds, and whether they are true."""

    posts = (3000, 1500, 1500)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.succeed("train", cls.config("bag"))
        cls.succeed("train", cls.config("words", lexical={"type": "linear", "epochs": 3}))
        # Posts whose authors wanted no hashtag: words that say nothing.
        rng = random.Random(5)
        cls.bare = [" ".join(f"c{rng.randrange(60)}" for _ in range(8)) for _ in range(1500)]
        for name in ("valid", "test"):
            both = (cls.folder / f"{name}.txt").read_text().splitlines() + cls.bare
            rng.shuffle(both)
            write_lines(cls.folder / f"{name}-bare.txt", both)
        cls.succeed("train", cls.config("bare", data={"valid": "valid-bare.txt", "test": "test-bare.txt"}))

    def predict(self, run, *arguments, stdin=None, posts="test.txt"):
        source = {"stdin": stdin} if stdin is not None else {}
        where = [] if stdin is not None else ["--posts", posts]
        done = self.succeed("predict", f"runs/{run}", "--json", *where, *arguments, **source)
        return [json.loads(line)["hashtags"] for line in done.stdout.decode().splitlines()]

    def figures(self, run, *arguments):
        return json.loads(self.succeed("evaluate", f"runs/{run}", "--json", "-", *arguments).stdout)

    def test_formats(self):
        for run in ("bag", "words"):
            answers = self.predict(run, "--top", "3", "--probabilities", stdin=b"w1x1 w1x2\n")[0]
            plain = self.predict(run, "--top", "3", stdin=b"w1x1 w1x2\n")[0]
            self.assertEqual([{k: v for k, v in answer.items() if k != "probability"} for answer in answers], plain)
            self.assertGreater(answers[0]["probability"], 0.5)
            text = self.succeed("predict", f"runs/{run}", "--top", "3", "--probabilities", stdin=b"w1x1 w1x2\n").stdout.decode()
            self.assertEqual(text, "\t".join(f"#{a['hashtag']} {a['probability']:.4f}" for a in answers) + "\n")

    def test_a_better_answer_is_never_less_probable_whatever_is_asked_for(self):
        for run in ("bag", "words"):
            few = self.predict(run, "--top", "2", "--probabilities")
            everything = self.predict(run, "--top", "1000", "--probabilities")
            for two, answers in zip(few, everything):
                probabilities = [answer["probability"] for answer in answers]
                self.assertEqual(probabilities, sorted(probabilities, reverse=True))
                self.assertTrue(all(0 < p <= 1 for p in probabilities))
                self.assertEqual(two, answers[:2])

    def test_a_threshold_empties_answers(self):
        answers = self.predict("bare", "--probabilities", posts="test-bare.txt")
        some = self.predict("bare", "--min-probability", "0.2", posts="test-bare.txt")
        for before, after in zip(answers, some):
            self.assertEqual(after, [answer for answer in before if answer["probability"] >= 0.2])
        text = self.succeed("predict", "runs/bare", "--min-probability", "0.2", "--posts", "test-bare.txt").stdout.decode().split("\n")[:-1]
        self.assertEqual([len(line.split("\t")) if line else 0 for line in text], [len(after) for after in some])
        # Posts that deserve none get none, and the others get theirs.
        lines = (self.folder / "test-bare.txt").read_text().splitlines()
        empty = [not after for after in some]
        of_bare = [none for none, line in zip(empty, lines) if "#" not in line]
        of_others = [none for none, line in zip(empty, lines) if "#" in line]
        self.assertGreater(sum(of_bare), 0.9 * len(of_bare))
        self.assertLess(sum(of_others), 0.3 * len(of_others))
        self.assertEqual(self.predict("bag", "--min-probability", "1", stdin=b"w1x1\n\n"), [[], []])
        both = self.predict("bag", "--min-probability", "0", "--min-score", "1e9", stdin=b"w1x1\n")
        self.assertEqual(both, [[]])
        for wrong in ("1.1", "-0.1", "x"):
            self.assertEqual(self.run_program("predict", "runs/bag", "--min-probability", wrong).returncode, 2)

    def test_figures_agree_with_a_computation_by_hand(self):
        for run, posts in (("bag", "test.txt"), ("words", "test.txt"), ("bare", "test-bare.txt")):
            with self.subTest(run=run):
                lines = (self.folder / posts).read_text().splitlines()
                judged = {"first_answer": [], "first_ten_answers": []}
                for line, answers in zip(lines, self.predict(run, "--probabilities", posts=posts)):
                    own = {hashtag.lower() for hashtag in re.findall(r"#(\w+)", line)}
                    of_post = [(a["probability"], a["hashtag"] in own) for a in answers]
                    judged["first_answer"].append(of_post[0])
                    judged["first_ten_answers"] += of_post
                figures = self.figures(run)["probabilities"]
                for name, pairs in judged.items():
                    pairs.sort(key=lambda pair: pair[0])
                    bins = [pairs[len(pairs) * i // 15 : len(pairs) * (i + 1) // 15] for i in range(15)]
                    error = sum(abs(sum(p for p, _ in b) - sum(used for _, used in b)) for b in bins) / len(pairs)
                    self.assertEqual(figures[name]["answers"], len(pairs))
                    self.assertEqual([b["answers"] for b in figures[name]["bins"]], [len(b) for b in bins])
                    # JSON has probabilities as floats, whose order within ties may be another.
                    self.assertAlmostEqual(figures[name]["expected_calibration_error"], error, delta=2e-3)
                    self.assertAlmostEqual(figures[name]["brier"], sum((p - used) ** 2 for p, used in pairs) / len(pairs), delta=1e-6)
                    self.assertAlmostEqual(figures[name]["used_share"], sum(used for _, used in pairs) / len(pairs), delta=1e-9)

    def test_probabilities_are_true(self):
        for run in ("bag", "words", "bare"):
            with self.subTest(run=run):
                for figures in self.figures(run)["probabilities"].values():
                    self.assertLess(figures["expected_calibration_error"], 0.05)
                    self.assertAlmostEqual(figures["mean_probability"], figures["used_share"], delta=0.03)
        # ... for posts like those of data.valid, not for others.
        other = self.figures("bag", "--posts", "test-bare.txt")
        like = self.figures("bare")
        self.assertEqual(other["posts"], like["posts"])
        first = [figures["probabilities"]["first_answer"] for figures in (other, like)]
        self.assertEqual([f["answers"] for f in first], [3000, 3000])
        self.assertGreater(first[0]["expected_calibration_error"], 2 * first[1]["expected_calibration_error"])

    def test_the_table_and_the_plot(self):
        text = self.succeed("evaluate", "runs/bag", "--reliability", "plot.svg").stdout.decode()
        figures = self.figures("bag")["probabilities"]["first_answer"]
        row = next(line for line in text.splitlines() if line.startswith("first answer "))
        self.assertIn(f"{100 * figures['expected_calibration_error']:.2f}", row)
        self.assertIn(f"{figures['brier']:.4f}", row)
        svg = xml.etree.ElementTree.parse(self.folder / "plot.svg").getroot()
        name = "{http://www.w3.org/2000/svg}"
        self.assertEqual(svg.tag, name + "svg")
        self.assertEqual(len(svg.findall(f".//{name}circle")), 15)
        width, height = (float(x) for x in svg.get("viewBox").split()[2:])
        for mark in svg.findall(f".//{name}circle"):
            self.assertTrue(0 < float(mark.get("cx")) < width and 0 < float(mark.get("cy")) < height)
        self.fail_with("evaluate", "runs/bag", "--reliability", "nowhere/plot.svg", message="nowhere/plot.svg")

    def test_of_many_validation_posts_some_from_all_over_the_file(self):
        write_lines(self.folder / "many.txt", make_posts(10001, 9) + self.bare * 6 + self.bare[:1001])
        log = self.succeed("train", self.config("many", data={"valid": "many.txt"}, training={"epochs": 1})).stderr.decode()
        with_hashtag = re.search(r"fitted on 10,001 validation posts, ([0-9,]+) of them with a hashtag of the table", log)
        self.assertAlmostEqual(int(with_hashtag[1].replace(",", "")), 5001, delta=20)

    def test_a_run_without_them(self):
        """One of an older version, say."""
        run = self.folder / "runs/old"
        shutil.copytree(self.folder / "runs/words", run)
        before = (run / "calibration.json").read_bytes()
        (run / "calibration.json").unlink()
        message = r"'runs/old' has no calibration\.json, .*tagspace train --resume --output runs/old$"
        for arguments in (["predict", "--probabilities"], ["predict", "--min-probability", "0.1"], ["evaluate", "--reliability", "x.svg"]):
            self.fail_with(arguments[0], "runs/old", *arguments[1:], message=message)
        self.succeed("predict", "runs/old", stdin=b"w1x1\n")
        figures, whole = self.figures("old"), self.figures("words")
        self.assertNotIn("probabilities", figures)
        del whole["probabilities"]
        self.assertEqual(figures, whole)
        self.succeed("train", "--resume", "--output", "runs/old", "--threads", "1")
        self.assertEqual((run / "calibration.json").read_bytes(), before)
        for damage, message in ((b"{", "calibration.json"), (b"[]", r'has no "temperature" that is a number'),
                                (before.replace(b'"share": ', b'"share": -'), r'has no "share" that is a number and not negative')):
            (run / "calibration.json").write_bytes(damage)
            self.fail_with("predict", "runs/old", "--probabilities", message=message)


class Recommending(Workplace):
    """`recommend`: which post is a user's next."""

    USERS = 60

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.succeed("train", cls.config("bag"))
        cls.succeed("train", cls.config("cosine", loss={"score": "cosine", "margin": 1, "rank_weight": "linear"}))
        # Users who each write about a topic of their own, all at once; and some who wrote one post only.
        rng = random.Random(5)
        cls.writers = [user for user in range(cls.USERS) for _ in range(rng.randrange(2, 7))] + list(range(cls.USERS, cls.USERS + 9))
        rng.shuffle(cls.writers)
        cls.texts = []
        for user in cls.writers:
            topic = user % 40
            words = [f"w{topic}x{rng.randrange(8)}" for _ in range(rng.randrange(4))] + [f"c{rng.randrange(60)}" for _ in range(4)] + ["unheardof"]
            rng.shuffle(words)
            cls.texts.append(" ".join(words) + f" #tag{topic}")
        write_lines(cls.folder / "users.jsonl", cls.lines())

    @classmethod
    def lines(cls):
        return [json.dumps({"text": text, "user": f"u{user}"}) for user, text in zip(cls.writers, cls.texts)]

    def figures(self, *arguments, run="bag", posts="users.jsonl"):
        return json.loads(self.succeed("recommend", f"runs/{run}", "--posts", posts, "--json", "-", *arguments).stdout)

    def word_vectors(self, run, earlier):
        """tf-idf of the words that the run knows, from the text alone."""
        known = {line.split("\t")[0] for line in (self.folder / f"runs/{run}/tokenizer/words.tsv").read_text().splitlines()}
        counted = [{} for _ in self.texts]
        for counts, text in zip(counted, self.texts):
            for word in text.split():
                if word in known:
                    counts[word] = counts.get(word, 0) + 1
        frequency = {}
        for post in earlier:
            for word in counted[post]:
                frequency[word] = frequency.get(word, 0) + 1
        return [{word: (1 + math.log(count)) * math.log((len(earlier) + 1) / max(1, frequency.get(word, 0))) for word, count in counts.items()}
                for counts in counted]

    def test_an_independent_computation_agrees(self):
        of_user = {}
        for post, user in enumerate(self.writers):
            of_user.setdefault(user, []).append(post)
        users = [posts for posts in of_user.values() if len(posts) > 1]
        self.assertEqual(len(users), self.USERS)
        earlier = [post for posts in users for post in posts[:-1]]

        def cosine(a, b):
            length = math.sqrt(sum(x * x for x in a.values()) * sum(x * x for x in b.values()))
            return sum(x * b[key] for key, x in a.items() if key in b) / length if length else 0.0

        def scores_of(vectors):
            """scores[user][candidate]"""
            return [[max(cosine(vectors[post], vectors[other[-1]]) for post in posts[:-1]) for other in users] for posts in users]

        def standardized(scores):
            mean = sum(scores) / len(scores)
            deviation = math.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores))
            return [(score - mean) / deviation if deviation > 1e-9 else 0.0 for score in scores]

        for run in ("bag", "cosine"):
            embedded = self.succeed("embed", f"runs/{run}", "--posts", "users.jsonl").stdout.decode().splitlines()
            by_vectors = scores_of([dict(enumerate(map(float, line.split(" ")))) for line in embedded])
            by_words = scores_of(self.word_vectors(run, earlier))
            both = [[a + 1.5 * b for a, b in zip(standardized(one), standardized(other))] for one, other in zip(by_vectors, by_words)]
            figures = self.figures("--bag-of-words", "--weight", "1.5", run=run)
            self.assertEqual(figures["users"], self.USERS)
            self.assertEqual(figures["candidates"], self.USERS)
            self.assertEqual(figures["earlier_posts"], len(earlier))
            self.assertEqual(figures["with_bag_of_words"]["weight"], 1.5)
            for name, scores, values in (("encoder", by_vectors, figures), ("words", by_words, figures["bag_of_words"]),
                                         ("both", both, figures["with_bag_of_words"])):
                # The program's scores are of single precision: those nearer than this may stand either way, but
                # posts without a word in common are equal for both.
                bounds = []
                for near in (1e-5, -1e-5):
                    ranks = [1 + sum(score >= row[user] - near or score == row[user] == 0 for other, score in enumerate(row) if other != user)
                             for user, row in enumerate(scores)]
                    bounds.append([sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 10, 50)])
                for key, least, most in zip(("precision_at_1", "recall_at_10", "recall_at_50"), *bounds):
                    with self.subTest(run=run, name=name, key=key):
                        self.assertGreaterEqual(values[key], least - 1e-9)
                        self.assertLessEqual(values[key], most + 1e-9)
                        # ... and the range is narrow enough to mean something.
                        self.assertLess(most - least, 0.1)
                # The topics are found again: chance would be one in sixty.
                self.assertGreater(values["precision_at_1"], 0.1, name)
                self.assertGreater(values["recall_at_10"], 0.3, name)

    def test_table_and_file(self):
        figures = self.figures("--bag-of-words")
        done = self.succeed("recommend", "runs/bag", "--posts", "users.jsonl", "--bag-of-words", "--json", "recommended.json")
        self.assertEqual(json.loads((self.folder / "recommended.json").read_text()), figures)
        head, _, columns, *rows = done.stdout.decode().splitlines()
        self.assertIn(f"'users.jsonl': {self.USERS} users", head)
        self.assertEqual(columns.split(), ["P@1", "%", "R@10", "%", "R@50", "%"])
        for row, name, values in zip(rows, ("bag", "bag of words", "bag + bag of words"),
                                     (figures, figures["bag_of_words"], figures["with_bag_of_words"])):
            shown = [f"{100 * values[key]:.2f}" for key in ("precision_at_1", "recall_at_10", "recall_at_50")]
            self.assertEqual(row.split(), name.split() + shown)
        self.assertEqual(len(rows), 3)
        # The encoder alone, where no more is asked for.
        alone = self.succeed("recommend", "runs/bag", "--posts", "users.jsonl").stdout.decode().splitlines()
        self.assertEqual(alone, [head, "", columns, rows[0]])

    def test_threads_change_nothing(self):
        for others in ([], ["--others", "20"]):
            answers = {self.succeed("recommend", "runs/bag", "--posts", "users.jsonl", "--json", "-", "--bag-of-words", *others,
                                    "--threads", n).stdout for n in (1, 2, 3)}
            self.assertEqual(len(answers), 1)

    def test_users_may_stand_in_any_order(self):
        """Only the order of a user's own posts counts."""
        lines = self.lines()
        order = sorted(range(len(lines)), key=lambda post: self.writers[post])
        write_lines(self.folder / "sorted.jsonl", [lines[post] for post in order])
        self.assertEqual(self.figures("--bag-of-words", posts="sorted.jsonl"), self.figures("--bag-of-words"))
        write_lines(self.folder / "reversed.jsonl", reversed(lines))
        self.assertNotEqual(self.figures("--bag-of-words", posts="reversed.jsonl"), self.figures("--bag-of-words"))

    def test_fewer_others_are_easier(self):
        everyone = self.figures("--bag-of-words")
        few = self.figures("--bag-of-words", "--others", "9")
        self.assertEqual(few["candidates"], 10)
        self.assertEqual([few["recall_at_10"], few["bag_of_words"]["recall_at_10"]], [1, 1])
        self.assertGreater(few["precision_at_1"], everyone["precision_at_1"])
        self.assertEqual(self.figures("--others", self.USERS - 1), self.figures())
        self.assertGreater(len({self.figures("--others", "9", "--seed", n)["precision_at_1"] for n in range(5)}), 1)

    def test_posts_that_cannot_be_used(self):
        command = ("recommend", "runs/bag", "--posts")
        self.fail_with(*command, "test.txt", message=r"'test\.txt' cannot say: give a \.jsonl file .* with a \"user\" in every line")
        self.fail_with(*command, "nowhere.jsonl", message=r"'nowhere\.jsonl'.*No such file")
        lines = self.lines()
        for name, line in (("without", '{"text": "w1x1"}'), ("null", '{"text": "w1x1", "user": null}'),
                           ("empty", '{"text": "w1x1", "user": ""}'), ("blank", "")):
            write_lines(self.folder / f"{name}.jsonl", lines[:6] + [line] + lines[6:] + [line])
            self.fail_with(*command, f"{name}.jsonl", message=rf'{name}\.jsonl:7: the line has no "user"')
        write_lines(self.folder / "number.jsonl", lines[:6] + ['{"text": "w1x1", "user": 7}'])
        self.fail_with(*command, "number.jsonl", message=r'number\.jsonl:7: "user" must be a string, found a number')
        for name, users, found in (("one", "aab", "1 user"), ("none", "abc", "no user"), ("nobody", "", "no user")):
            write_lines(self.folder / f"{name}.jsonl", [json.dumps({"text": "w1x1", "user": user}) for user in users])
            self.fail_with(*command, f"{name}.jsonl",
                           message=rf"'{name}\.jsonl' has {found} with two posts or more, of {len(set(users))} users; at least 2 are needed")
        self.fail_with(*command, "users.jsonl", "--others", self.USERS, message=rf"has {self.USERS} users .* at most {self.USERS - 1} other")
        self.fail_with(*command, "users.jsonl", "--json", "nowhere/figures.json", message=r"nowhere/figures\.json")
        for wrong in (["--weight", "2"], ["--seed", "2"], ["--bag-of-words", "--weight", "-1"], ["--others", "x"]):
            self.assertEqual(self.run_program(*command, "users.jsonl", *wrong).returncode, 2, wrong)
        self.assertEqual(self.run_program("recommend", "runs/bag").returncode, 2)


class Programs(Workplace):
    """What `tagspace` does by itself, and what it leaves to tagspace-libtorch."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.succeed("train", cls.config("good", encoder={"type": "cnn", "filters": 24}, training={"epochs": 2}))

    def setUp(self):
        # The program by itself: in a folder "bin", as an installation has it.
        self.place = pathlib.Path(tempfile.mkdtemp(prefix="tagspace-alone-"))
        self.addCleanup(shutil.rmtree, self.place)
        (self.place / "bin").mkdir()
        self.alone = shutil.copy(PROGRAM, self.place / "bin" / "tagspace")

    def run_alone(self, *arguments, stdin=b""):
        return subprocess.run([self.alone, *arguments], cwd=self.folder, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=300, check=False)

    def missing(self, *arguments):
        """The two places where the other program is looked for."""
        done = self.run_alone(*arguments)
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        (line,) = done.stderr.decode().splitlines()
        found = re.fullmatch(r"tagspace: error: this needs LibTorch and with it the program tagspace-libtorch, which is neither "
                             r"'(.*)' nor '(.*)'; build or install it, too", line)
        self.assertIsNotNone(found, line)
        return found.groups()

    def test_libtorch_is_not_loaded(self):
        if shutil.which("ldd") is None:
            self.skipTest("there is no ldd here")
        libraries = subprocess.run(["ldd", PROGRAM], stdout=subprocess.PIPE, check=True).stdout.decode()
        self.assertIn("libc.so", libraries)
        for name in ("torch", "libc10", "cuda"):
            self.assertNotIn(name, libraries)

    def test_what_works_without_the_other_program(self):
        for arguments in (["--help"], ["--version"], ["train", "--help"], ["tune", "--help"], ["schema"], ["evaluate", "runs/good"],
                          ["neighbors", "runs/good", "#tag1"], ["export", "runs/good", "--output", "vectors-alone"]):
            with self.subTest(arguments=arguments):
                done = self.run_alone(*arguments)
                self.assertEqual(done.returncode, 0, done.stderr)
        for command in ("predict", "embed"):
            self.assertEqual(self.run_alone(command, "runs/good", stdin=b"w1x1 w1x2\n").stdout,
                             self.succeed(command, "runs/good", stdin=b"w1x1 w1x2\n").stdout)
        self.assertEqual(self.run_alone("train").returncode, 2)
        done = self.run_alone("train", self.config("typo", loss={"margn": 1}))
        self.assertEqual(done.returncode, 1)
        self.assertIn("loss.margn: unknown key; did you mean loss.margin?", done.stderr.decode())

    def test_what_does_not_says_what_is_missing(self):
        for arguments in (["train", "good.json", "--output", "runs/never"], ["tune", "good.json", "--minutes", "1"], ["predict", "runs/good", "--device", "auto"],
                          ["evaluate", "runs/good", "--device", "cuda"], ["embed", "runs/good", "--device", "cuda:0"]):
            with self.subTest(arguments=arguments):
                beside, installed = self.missing(*arguments)
                self.assertEqual(pathlib.Path(beside), self.place / "bin" / "tagspace-libtorch")
                self.assertTrue(pathlib.Path(installed).is_relative_to(self.place), installed)
        self.assertFalse((self.folder / "runs/never").exists())

    def test_the_other_program_is_found_beside_and_where_it_is_installed(self):
        other = pathlib.Path(os.path.realpath(PROGRAM)).parent / "tagspace-libtorch"
        for number, place in enumerate(map(pathlib.Path, self.missing("train", "good.json"))):
            place.parent.mkdir(parents=True, exist_ok=True)
            # One that cannot be run is no reason to look elsewhere.
            place.write_bytes(b"")
            done = self.run_alone("train", "good.json", "--output", f"runs/found-{number}")
            self.assertEqual(done.returncode, 1)
            self.assertEqual(done.stderr.decode(), f"tagspace: error: cannot run '{place}': Permission denied\n")
            place.unlink()
            place.symlink_to(other)
            done = self.run_alone("train", "good.json", "--output", f"runs/found-{number}")
            self.assertEqual(done.returncode, 0, done.stderr)
            place.unlink()
            self.assert_same_run("good", f"found-{number}")

    def test_validation_and_evaluation_are_the_same_numbers(self):
        best = max(self.metrics("good"), key=lambda epoch: epoch["valid"]["recall_at_10"])["valid"]
        figures = json.loads(self.succeed("evaluate", "runs/good", "--posts", "valid.txt", "--json", "-").stdout)
        self.assertEqual(best, {key: figures[key] for key in best})

    def test_ranks_of_all_posts_give_the_figures_again(self):
        figures = json.loads(self.succeed("evaluate", "runs/good", "--posts", "valid.txt", "--json", "-", "--ranks", "ranks.txt").stdout)
        lines = [line.split("\t") for line in (self.folder / "ranks.txt").read_text().splitlines()]
        self.assertEqual(len(lines), figures["posts"])
        for place, of_ranking in enumerate((figures, figures["baselines"]["frequency"], figures["baselines"]["words"])):
            ranks = [[int(rank) for rank in line[place].split()] for line in lines]
            for name, value in (("precision_at_1", [min(post) == 1 for post in ranks]), ("mrr", [1 / min(post) for post in ranks]),
                                ("recall_at_10", [sum(rank <= 10 for rank in post) / len(post) for post in ranks])):
                self.assertAlmostEqual(of_ranking[name], sum(value) / len(ranks), places=12)

    def test_a_line_alone_gets_the_answer_that_it_gets_among_others(self):
        lines = make_posts(40, 8)
        together = self.succeed("predict", "runs/good", "--json", stdin="\n".join(lines).encode()).stdout.splitlines()
        for line, answer in list(zip(lines, together))[::9]:
            self.assertEqual(self.succeed("predict", "runs/good", "--json", stdin=line.encode()).stdout.splitlines(), [answer])


class Training(Workplace):
    """What training does besides learning."""

    def test_threads_change_nothing(self):
        self.config("threads", encoder={"type": "cnn", "filters": 24, "dropout": 0.2, "word_dropout": 0.2},
                    training={"bag_epochs": 1, "epochs": 2}, optimizer={"schedule": "linear", "max_norm": 1})
        for threads in (1, 2, 3):
            self.succeed("train", "threads.json", "--output", f"runs/threads-{threads}", "--threads", threads)
        self.assert_same_run("threads-1", "threads-2")
        self.assert_same_run("threads-1", "threads-3")

    def test_the_log_says_why_there_is_no_gpu(self):
        self.config("device", training={"epochs": 1, "device": "auto"})
        first = self.succeed("train", "device.json").stderr.decode().splitlines()[0]
        self.assertRegex(first, r", on (cuda:0|the CPU \(no GPU: .{10,}\)), \d+ threads$")
        asked = self.succeed("train", "device.json", "--output", "runs/asked", "--set", "training.device=cpu").stderr.decode()
        self.assertRegex(asked.splitlines()[0], r", on the CPU, \d+ threads$")
        reason = re.search(r"\(no GPU: (.*)\),", first)
        if reason:
            self.fail_with("train", "device.json", "--output", "runs/none", "--set", "training.device=cuda",
                           message=re.escape(f"training.device: cannot use the device cuda: {reason[1]}"))

    def test_the_memory_foretold_is_what_it_takes(self):
        if any(mark in pathlib.Path(PROGRAM).read_bytes() for mark in (b"__asan_init", b"__tsan_init")):
            self.skipTest("a sanitizer has memory of its own")
        for name, encoder, batch_size, threads in (("small", {"type": "bag", "dim": 8}, 64, 1),
                                                   ("large", {"type": "cnn", "dim": 256, "filters": 4000}, 1024, 2)):
            self.config(f"memory-{name}", encoder=encoder,
                        training={"epochs": 1, "batch_size": batch_size, "device": "cpu", "threads": threads})
            with tempfile.TemporaryFile() as log:
                program = subprocess.Popen([PROGRAM, "train", f"memory-{name}.json"], cwd=self.folder, stderr=log)
                _, status, usage = os.wait4(program.pid, 0)
                program.returncode = os.waitstatus_to_exitcode(status)
                log.seek(0)
                text = log.read().decode()
            self.assertEqual(program.returncode, 0, text)
            foretold = int(re.search(r"memory: about ([\d,]+) MiB at most", text)[1].replace(",", ""))
            taken = usage.ru_maxrss / 1024
            self.assertTrue(taken / 1.15 <= foretold <= taken * 1.15, f"{name}: {foretold} MiB foretold, {taken:.0f} taken\n{text}")

    def test_the_seed_decides(self):
        self.config("seed")
        for output, seed in (("a", 5), ("b", 5), ("c", 6)):
            self.succeed("train", "seed.json", "--output", f"runs/seed-{output}", "--set", f"seed={seed}")
        self.assert_same_run("seed-a", "seed-b")
        self.assertNotEqual(self.metrics("seed-a"), self.metrics("seed-c"))

    def test_it_stops_early_and_keeps_the_best(self):
        for metric, better in (("mean_rank", min), ("precision_at_1", max)):
            name = f"early-{metric}"
            self.config(name, training={"epochs": 200, "early_stopping": {"metric": metric, "patience": 2}})
            self.succeed("train", f"{name}.json")
            values = [epoch["valid"][metric] for epoch in self.metrics(name)]
            self.assertLess(len(values), 200)
            best = values.index(better(values)) + 1
            self.assertEqual(len(values), best + 2)
            self.assertEqual(state_of(self.folder / "runs" / name / "best.safetensors")["epoch"], best)

    def test_the_bag_epochs_end_early_and_the_convolution_starts_from_their_best(self):
        self.config("phases", encoder={"type": "cnn", "filters": 24},
                    training={"bag_epochs": 100, "epochs": 1, "early_stopping": {"patience": 1}})
        self.succeed("train", "phases.json")
        phases = [epoch["phase"] for epoch in self.metrics("phases")]
        self.assertLess(phases.count("bag"), 100)
        self.assertEqual(phases[-1], "cnn")
        state = state_of(self.folder / "runs/phases/best.safetensors")
        self.assertEqual((state["as_bag"], state["epoch"]), (False, len(phases)))

    def test_on_a_pipe_there_are_plain_lines(self):
        self.config("plain")
        done = self.succeed("train", "plain.json")
        self.assertEqual(done.stdout, b"")
        self.assertNotIn(b"\x1b", done.stderr)
        self.assertNotIn(b"\r", done.stderr)
        lines = done.stderr.decode().splitlines()
        self.assertEqual(sum("bag epoch" in line for line in lines), 3)
        logged = (self.folder / "runs/plain/log.txt").read_text().splitlines()
        self.assertEqual([line.split(" ", 2)[2] for line in logged], [line.split(" ", 1)[1] for line in lines])

    def test_on_a_terminal_there_is_a_bar_that_fits(self):
        self.config("terminal", encoder={"type": "cnn", "filters": 200}, training={"epochs": 2, "batch_size": 8})
        master, slave = pty.openpty()
        columns = 70
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        with subprocess.Popen([PROGRAM, "train", "terminal.json"], cwd=self.folder, stderr=slave, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, env={**os.environ, "TERM": "xterm"}) as program:
            os.close(slave)
            seen = b""
            with contextlib.suppress(OSError):  # the terminal's other end has closed
                while chunk := os.read(master, 1 << 16):
                    seen += chunk
            self.assertEqual(program.wait(60), 0)
        os.close(master)
        bars = re.findall(r"\r(cnn epoch [^\r\n\x1b]*)\x1b\[K", seen.decode())
        self.assertTrue(bars)
        self.assertTrue(all(len(bar) < columns for bar in bars), bars)
        self.assertTrue(any("left" in bar and "%" in bar for bar in bars), bars)

    def test_odd_posts_are_trained_on_and_reported(self):
        lines = [line.encode() for line in make_posts(2000, 9)]
        lines += [line + b" #tag1" for line in ODD_LINES]
        (self.folder / "odd.txt").write_bytes(b"\n".join(lines))
        self.config("odd", data={"train": "odd.txt"})
        done = self.succeed("train", "odd.json")
        self.assertIn("UTF-8", done.stderr.decode())

    def test_a_damaged_cache_is_made_again(self):
        self.config("cache", data={"cache": "own-cache"}, training={"epochs": 1})
        self.succeed("train", "cache.json", "--output", "runs/cache-0")
        files = sorted(path for path in (self.folder / "own-cache").rglob("*") if path.is_file())
        self.assertTrue(files)
        for number, path in enumerate(files):
            data = path.read_bytes()
            if len(data) < 2:
                continue
            for kind, damaged in (("truncated", data[: len(data) // 2]), ("changed", data[:-1] + bytes([data[-1] ^ 1]))):
                with self.subTest(file=path.name, kind=kind):
                    path.write_bytes(damaged)
                    output = f"runs/cache-{number}-{kind}"
                    done = self.run_program("train", "cache.json", "--output", output)
                    # Made again, or refused by name: never used.
                    if done.returncode == 0:
                        self.assert_same_run("cache-0", output.removeprefix("runs/"))
                    else:
                        self.assertEqual(done.returncode, 1)
                        self.assertIn(path.name, done.stderr.decode())
                    path.write_bytes(data)

    def test_settings_reach_the_run(self):
        self.config("settings")
        self.succeed("train", "settings.json", "--set", "training.epochs=1", "--set", "loss.margin=0.25", "--output", "runs/set")
        config = json.loads((self.folder / "runs/set/config.json").read_text())
        self.assertEqual((config["training"]["epochs"], config["loss"]["margin"]), (1, 0.25))


class Features(Workplace):
    """An encoder that takes in pairs and beginnings of words too."""

    encoder = {"pairs": True, "beginnings": True, "min_count": 2, "pooling": "sqrtn"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.log = cls.succeed("train", cls.config("features", encoder=cls.encoder)).stderr.decode()

    def test_what_was_validated_is_what_evaluates(self):
        self.assertRegex(self.log, r"[1-9][0-9,]* pairs and beginnings of words have vectors too")
        metrics = [json.loads(line) for line in (self.folder / "runs/features/metrics.jsonl").read_text().splitlines()]
        best = max(metrics, key=lambda line: line["valid"]["recall_at_10"])["valid"]
        figures = json.loads(self.succeed("evaluate", "runs/features", "--posts", "valid.txt", "--json", "-").stdout)
        for name in ("precision_at_1", "recall_at_10", "mrr"):
            self.assertAlmostEqual(figures[name], best[name], places=12)
        # The features matter: without them, it is another model.
        self.succeed("train", self.config("without", encoder={"pooling": "sqrtn"}))
        without = json.loads(self.succeed("evaluate", "runs/without", "--posts", "valid.txt", "--json", "-").stdout)
        self.assertNotEqual(figures["mrr"], without["mrr"])

    def test_a_word_is_a_post_of_one_word(self):
        self.succeed("export", "runs/features", "--output", "tables", "--format", "word2vec")
        rows = [line.split() for line in (self.folder / "tables/words.vec").read_text().splitlines()[1:]]
        words = dict((row[0], [float(x) for x in row[1:]]) for row in rows)
        word = max(words, key=len)
        self.assertGreaterEqual(len(word), 4)
        embedded = self.succeed("embed", "runs/features", stdin=(word + "\n").encode()).stdout.decode().split()
        for a, b in zip(words[word], embedded[-16:], strict=True):
            self.assertAlmostEqual(a, float(b), places=5)
        self.succeed("neighbors", "runs/features", word)

    def test_resumed_and_with_any_number_of_threads_it_is_the_same(self):
        config = self.config("whole", encoder=self.encoder, training={"epochs": 2})
        self.succeed("train", config, "--threads", "2")
        self.succeed("train", config, "--threads", "1", "--output", "runs/parts", "--set", "training.epochs=1")
        self.succeed("train", "--resume", "--output", "runs/parts", "--set", "training.epochs=2", "--threads", "3")
        for name in ("best.safetensors", "features.safetensors"):
            self.assertEqual((self.folder / "runs/whole" / name).read_bytes(),
                             (self.folder / "runs/parts" / name).read_bytes(), name)

    def test_bad_settings_and_lost_files_are_told_of(self):
        self.fail_with("train", self.config("of-cnn", encoder={"type": "cnn", "pairs": True}),
                       message=r"encoder\.pairs: allowed only where encoder\.type is \"bag\"")
        shutil.copytree(self.folder / "runs/features", self.folder / "runs/lost")
        (self.folder / "runs/lost/features.safetensors").unlink()
        self.fail_with("predict", "runs/lost", stdin=b"some text\n", message="features.safetensors")


class Pretrained(Workplace):
    """Words that begin with the vectors of a file."""

    # Rates that leave what was there at the beginning as it was.
    still = {"optimizer": {"learning_rate": 1e-30}, "training": {"epochs": 1}}
    known = [f"w{topic}x{i}" for topic in range(40) for i in range(4)]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        rng = random.Random(5)
        cls.vectors = {word: [rng.gauss(0, 3) for _ in range(16)] for word in cls.known}
        cls.write_text("words.vec", cls.vectors)
        cls.config("still", encoder={"pretrained": "words.vec"}, **cls.still)
        cls.log = cls.succeed("train", "still.json").stderr.decode()

    @classmethod
    def write_text(cls, name, vectors):
        rows = [" ".join([word, *map(repr, vector)]) for word, vector in vectors.items()]
        write_lines(cls.folder / name, [f"{len(vectors)} {len(rows[0].split()) - 1}", *rows])

    def words_of(self, run):
        """The word table of the run's best checkpoint, by name."""
        header, data, _ = read_safetensors(self.folder / "runs" / run / "best.safetensors")
        begin, end = header["words"]["data_offsets"]
        values = struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])
        dim = header["words"]["shape"][1]
        names = [line.split("\t")[0] for line in (self.folder / "runs" / run / "tokenizer/words.tsv").read_text().splitlines()]
        return {name: values[i * dim : (i + 1) * dim] for i, name in enumerate(names)}

    def counts(self, words):
        """How often each of the words stands in the posts that are trained on: those with a hashtag of two posts."""
        posts = [line.lower().split() for line in (self.folder / "train.txt").read_text().splitlines()]
        used = collections.Counter(tag for post in posts for tag in {word for word in post if word.startswith("#")})
        return collections.Counter(word for post in posts if any(used[word] >= 2 for word in post)
                                   for word in post if word in words)

    def expected(self, words):
        """The file's vectors of these words, shorter the more frequent they are, scaled to a mean length of 0.6."""
        counts = self.counts(words)
        weighted = {}
        for word in words:
            if word in self.vectors:
                weight = 1e-4 / (1e-4 + counts[word] / counts.total())
                weighted[word] = [weight * x for x in self.vectors[word]]
        mean = sum(math.hypot(*vector) for vector in weighted.values()) / len(weighted)
        return {word: [0.6 * x / mean for x in vector] for word, vector in weighted.items()}

    def assert_begins_with_the_file(self, run):
        words = self.words_of(run)
        expected = self.expected(words)
        self.assertGreater(len(expected), 50)
        for word, vector in expected.items():
            for found, value in zip(words[word], vector, strict=True):
                self.assertAlmostEqual(found, value, delta=1e-6)
        return words, expected

    def test_words_begin_with_the_vectors_of_the_file_and_others_as_ever(self):
        words, expected = self.assert_begins_with_the_file("still")
        self.config("random", **self.still)
        self.succeed("train", "random.json")
        for word, vector in self.words_of("random").items():
            (self.assertNotEqual if word in expected else self.assertEqual)(words[word], vector, word)
        counts = self.counts(words)
        share = 100 * sum(counts[word] for word in expected) / counts.total()
        self.assertIn(f"{len(expected)} of the {len(words)} words of the vocabulary begin with vectors of "
                      f"'{self.folder}/words.vec' (word2vec text, 160 words): {share:.1f} % of the words of the training posts",
                      self.log)

    def test_every_encoder_takes_them(self):
        for name, encoder in (("cnn", {"type": "cnn", "filters": 8}),
                              ("features", {"pairs": True, "beginnings": True, "pooling": "sqrtn"})):
            sections = json.loads(json.dumps(self.still))
            if name == "cnn":
                sections["training"]["bag_epochs"] = 1
            self.config(name, encoder={**encoder, "pretrained": "words.vec"}, **sections)
            self.succeed("train", f"{name}.json")
            self.assert_begins_with_the_file(name)

    def test_binary_files_give_the_same_model(self):
        rows = b"".join(word.encode() + b" " + struct.pack("<16f", *vector) + b"\n" for word, vector in self.vectors.items())
        (self.folder / "words.bin").write_bytes(f"{len(self.vectors)} 16\n".encode() + rows)
        self.succeed("train", "still.json", "--set", "encoder.pretrained=words.bin", "--output", "runs/binary")
        self.assertEqual(self.words_of("binary"), self.words_of("still"))

    def test_what_export_writes_is_read(self):
        self.succeed("export", "runs/still", "--output", "exported")
        log = self.succeed("train", "still.json", "--set", "encoder.pretrained=exported/words.vec", "--output", "runs/again").stderr.decode()
        still, again = self.words_of("still"), self.words_of("again")
        self.assertEqual(list(still), list(again))
        self.assertIn(f"{len(still)} of the {len(still)} words", log)
        for word, vector in again.items():  # each scaled by a weight of its own
            lengths = math.hypot(*vector) * math.hypot(*still[word])
            self.assertAlmostEqual(sum(map(float.__mul__, vector, still[word])), lengths, delta=1e-5 * lengths, msg=word)

    def test_resuming_does_not_need_the_file(self):
        self.write_text("gone.vec", self.vectors)
        self.config("whole", encoder={"pretrained": "gone.vec"}, training={"epochs": 3, "early_stopping": {"patience": 0}})
        self.succeed("train", "whole.json")
        self.succeed("train", "whole.json", "--set", "training.epochs=1", "--output", "runs/parts")
        (self.folder / "gone.vec").write_text("something else")
        self.succeed("train", "--resume", "--output", "runs/parts", "--set", "training.epochs=2")
        (self.folder / "gone.vec").unlink()
        log = self.succeed("train", "--resume", "--output", "runs/parts", "--set", "training.epochs=3").stderr.decode()
        self.assertNotIn("gone.vec", log)
        self.assert_same_run("whole", "parts")
        # Without a checkpoint there is nothing that could take its place.
        for name in ("best", "last"):
            (self.folder / f"runs/parts/{name}.safetensors").unlink()
        self.fail_with("train", "--resume", "--output", "runs/parts", message=r"cannot open '.*/gone\.vec'", alone=False)
        self.write_text("gone.vec", self.vectors)
        self.succeed("train", "--resume", "--output", "runs/parts")
        self.assert_same_run("whole", "parts")

    def test_what_cannot_be_used_is_told_of_before_there_is_a_run(self):
        self.write_text("short.vec", {"w1x1": [1.0] * 15})
        self.write_text("foreign.vec", {"xyz": [1.0] * 16})
        self.write_text("zero.vec", {"w1x1": [0.0] * 16})
        for name, message in (("short.vec", r"'.*/short\.vec' has vectors of 15 numbers, and encoder\.dim is 16"),
                              ("foreign.vec", r"'.*/foreign\.vec' has none of the \d+ words of the vocabulary among its 1$"),
                              ("zero.vec", r"'.*/zero\.vec' has only zeros"),
                              ("none.vec", r"cannot open '.*/none\.vec'"),
                              ("train.txt", r"'.*/train\.txt' is no file of word vectors")):
            self.fail_with("train", "still.json", "--set", f"encoder.pretrained={name}", "--output", "runs/none", message=message, alone=False)
            self.assertFalse((self.folder / "runs/none").exists())
        self.fail_with("train", "still.json", "--set", "tokenizer.type=sentencepiece",
                       message=r'encoder\.pretrained: allowed only where tokenizer\.type is "word", but it is "sentencepiece"')
        self.config("skipgram", encoder={"pretrained": "words.vec"}, optimizer={"type": "sgd"},
                    loss={"type": "skipgram", "score": "cosine", "negative_samples": 5})
        self.fail_with("train", "skipgram.json", message=r"encoder\.pretrained is '.*words\.vec' and loss\.type \"skipgram\", which allows \"\"")
        self.fail_with("tune", "still.json", "--minutes", "1", "--dims", "8,16", message=r"--dims searches encoder\.dim, which .*words\.vec")

    def test_tune_begins_with_them_too(self):
        self.config("tuned", encoder={"pretrained": "words.vec"}, training={"epochs": 1})
        log = self.succeed("tune", "tuned.json", "--minutes", "1", "--trials", "2", "--threads", "1").stderr.decode()
        self.assertEqual(log.count("begin with vectors of"), 1, log)
        self.assertEqual(json.loads((self.folder / "tuned-tuned.json").read_text())["encoder"]["pretrained"], "words.vec")


class Lexical(Workplace):
    """The model of words beside the embedding."""

    lexical = {"type": "linear", "epochs": 60, "learning_rate": 0.05}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        training = {"epochs": 2, "early_stopping": {"patience": 0}}
        cls.config("words", lexical=cls.lexical, training=training)
        cls.log = cls.succeed("train", "words.json").stderr.decode()
        cls.succeed("train", cls.config("vectors", training=training))

    def lexical_file(self, run):
        return self.folder / "runs" / run / "lexical.safetensors"

    def figures(self, run):
        return json.loads(self.succeed("evaluate", f"runs/{run}", "--posts", "valid.txt", "--json", "-").stdout)

    def test_what_was_validated_is_what_evaluates(self):
        mixed, vectors = self.figures("words"), self.figures("vectors")
        state = state_of(self.lexical_file("words"))
        for name in ("precision_at_1", "recall_at_10", "mrr"):
            self.assertAlmostEqual(mixed[name], state["valid"][name], delta=1e-6)
        worth = [figures["precision_at_1"] + figures["recall_at_10"] for figures in (mixed, vectors)]
        self.assertGreaterEqual(worth[0], worth[1])
        self.assertIn("% embedding and", self.log)

    def test_evaluate_tells_what_the_vectors_alone_reach(self):
        mixed, vectors = self.figures("words"), self.figures("vectors")
        self.assertEqual(mixed["vectors_alone"], {name: vectors[name] for name in mixed["vectors_alone"]})
        self.assertNotEqual(mixed["vectors_alone"]["mean_rank"], mixed["mean_rank"])
        self.assertNotIn("vectors_alone", vectors)
        tables = [self.succeed("evaluate", f"runs/{run}", "--posts", "valid.txt").stdout.decode() for run in ("words", "vectors")]
        rows = [[line for line in table.splitlines() if line.startswith(name)] for table, name in zip(tables, ("its vectors", "vectors"))]
        self.assertEqual(rows[0][0].split()[-4:], rows[1][0].split()[-4:])

    def test_predictions_are_ranked_by_the_same_scores(self):
        lines = self.succeed("predict", "runs/words", "--posts", "valid.txt", "--json", "--top", "5").stdout.decode().splitlines()
        posts = (self.folder / "valid.txt").read_text().splitlines()
        self.assertEqual(len(lines), len(posts))
        first = [json.loads(line)["hashtags"][0]["hashtag"] for line in lines]
        right = sum(f"#{tag}" in post.split() for tag, post in zip(first, posts))
        self.assertAlmostEqual(right / len(posts), self.figures("words")["precision_at_1"], delta=0.01)
        for line in lines:
            scores = [answer["score"] for answer in json.loads(line)["hashtags"]]
            self.assertEqual(scores, sorted(scores, reverse=True))

    def test_it_says_which_words_spoke(self):
        post = (self.folder / "valid.txt").read_text().splitlines()[0]
        words = {word for word in post.split() if not word.startswith("#")}
        done = self.succeed("predict", "runs/words", "--json", "--reasons", "3", "--top", "2", stdin=post.encode())
        answers = json.loads(done.stdout)["hashtags"]
        self.assertTrue(answers[0]["because"])
        for reason in answers[0]["because"]:
            self.assertGreater(reason["score"], 0)
            text = reason["text"].removesuffix("...")
            self.assertTrue(all(any(word.startswith(part) for word in words) for part in text.split()), reason)
        self.fail_with("predict", "runs/vectors", "--json", "--reasons", "3", message=r'lexical\.type is "none"')
        self.assertEqual(self.run_program("predict", "runs/words", "--reasons", "3").returncode, 2)

    def test_threads_change_nothing(self):
        self.succeed("train", "words.json", "--threads", "1", "--output", "runs/one-thread")
        self.assertEqual(self.lexical_file("words").read_bytes(), self.lexical_file("one-thread").read_bytes())

    def test_stopped_it_begins_again(self):
        with subprocess.Popen([PROGRAM, "train", "words.json", "--output", "runs/stopped"], cwd=self.folder,
                              stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as program:
            text = ""
            while line := program.stderr.readline().decode():
                text += line
                if "lexical epoch 1/" in line:
                    program.send_signal(signal.SIGINT)
            status = program.wait(120)
        self.assertEqual(status, 130, text)
        self.assertIn("begin it again with: tagspace train --resume --output runs/stopped", text)
        self.assertFalse(self.lexical_file("stopped").exists())
        self.assert_nothing_half_written()
        self.fail_with("predict", "runs/stopped", message=r"has no lexical\.safetensors yet.*train --resume --output runs/stopped")
        self.succeed("train", "--resume", "--output", "runs/stopped")
        self.assertEqual(self.lexical_file("words").read_bytes(), self.lexical_file("stopped").read_bytes())

    def test_a_damaged_file_is_an_error(self):
        shutil.copytree(self.folder / "runs/words", self.folder / "runs/damaged")
        path = self.lexical_file("damaged")
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        self.fail_with("evaluate", "runs/damaged", message=r"damaged/lexical\.safetensors' is not a whole checkpoint")


class Baselines(Workplace):
    """Systems that others are compared with: counting models alone and mixed, and word2vec."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        training = {"epochs": 2, "early_stopping": {"patience": 0}}
        for name, lexical in (("bayes", {"type": "naive_bayes", "smoothing": 100}), ("near", {"type": "neighbors", "neighbors": 20})):
            cls.succeed("train", cls.config(name, lexical={**lexical, "mixture": "alone"}))
            cls.succeed("train", cls.config(f"{name}-mixed", lexical=lexical, training=training))
        cls.config("word2vec", loss={"type": "skipgram", "score": "cosine", "negative_samples": 5},
                   optimizer={"type": "sgd", "learning_rate": 0.1, "schedule": "linear"}, training={"epochs": 6})
        cls.log = cls.succeed("train", "word2vec.json").stderr.decode()

    def precision(self, run):
        done = self.succeed("evaluate", f"runs/{run}", "--posts", "valid.txt", "--json", "-")
        return json.loads(done.stdout)["precision_at_1"]

    def test_alone_they_answer_and_have_no_vectors(self):
        for name in ("bayes", "near"):
            run = f"runs/{name}"
            self.assertFalse((self.folder / run / "best.safetensors").exists())
            # Three of a post's words give its hashtag away.
            self.assertGreater(self.precision(name), 0.8)
            self.assertAlmostEqual(self.precision(name), state_of(self.folder / run / "lexical.safetensors")["valid"]["precision_at_1"], delta=1e-6)
            post = b"c1 w3x1 c7 w3x2 w3x5"
            done = self.succeed("predict", run, "--json", "--top", "2", "--reasons", "4", stdin=post)
            best = json.loads(done.stdout)["hashtags"][0]
            self.assertEqual(best["hashtag"], "tag3")
            self.assertTrue({"w3x1", "w3x2", "w3x5"} & {reason["text"] for reason in best["because"]}, best)
            for command in (("embed", run), ("neighbors", run, "#tag3"), ("export", run, "--output", "vectors")):
                self.fail_with(*command, message=r'has no vectors: its lexical\.mixture is "alone"; allowed here is "learnt"')

    def test_mixed_they_are_no_worse_than_either(self):
        for name in ("bayes", "near"):
            state = state_of(self.folder / f"runs/{name}-mixed/lexical.safetensors")
            self.assertAlmostEqual(self.precision(f"{name}-mixed"), state["valid"]["precision_at_1"], delta=1e-6)
            alone = state_of(self.folder / f"runs/{name}/lexical.safetensors")["valid"]
            worth = [valid["precision_at_1"] + valid["recall_at_10"] for valid in (state["valid"], alone)]
            self.assertGreaterEqual(worth[0], worth[1])
            self.succeed("embed", f"runs/{name}-mixed", stdin=b"c1 w3x1")

    def test_word2vec_is_a_run_like_others(self):
        self.assertGreater(self.precision("word2vec"), 0.5)
        lines = [json.loads(line) for line in (self.folder / "runs/word2vec/metrics.jsonl").read_text().splitlines()]
        self.assertEqual([line["epoch"] for line in lines], list(range(1, len(lines) + 1)))
        best = max(line["valid"]["recall_at_10"] for line in lines)
        self.assertEqual(state_of(self.folder / "runs/word2vec/best.safetensors")["valid"]["recall_at_10"], best)
        near = self.succeed("neighbors", "runs/word2vec", "#tag3", "--of", "words", "--top", "5").stdout.decode()
        self.assertGreaterEqual(near.count("w3x"), 4, near)
        self.succeed("embed", "runs/word2vec", stdin=b"c1 w3x1")
        self.succeed("export", "runs/word2vec", "--output", "vectors-of-word2vec")

    def test_threads_change_nothing(self):
        for name, file in (("bayes", "lexical"), ("near", "lexical"), ("word2vec", "best")):
            for threads in ("1", "3"):
                self.succeed("train", f"{name}.json", "--threads", threads, "--output", f"runs/{name}-{threads}")
                self.assertEqual((self.folder / f"runs/{name}/{file}.safetensors").read_bytes(),
                                 (self.folder / f"runs/{name}-{threads}/{file}.safetensors").read_bytes())

    def test_stopped_word2vec_goes_on(self):
        with subprocess.Popen([PROGRAM, "train", "word2vec.json", "--output", "runs/stopped"], cwd=self.folder,
                              stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as program:
            text = ""
            while line := program.stderr.readline().decode():
                text += line
                if "skipgram epoch 2/" in line:
                    program.send_signal(signal.SIGINT)
            status = program.wait(120)
        self.assertEqual(status, 130, text)
        self.assertIn("go on with: tagspace train --resume --output runs/stopped", text)
        self.assert_nothing_half_written()
        files = [self.folder / "runs" / run / f"{name}.safetensors" for name in ("best", "last") for run in ("word2vec", "stopped")]
        # What a kill behind the third epoch's metrics leaves.
        with open(self.folder / "runs/stopped/metrics.jsonl", "a") as metrics:
            metrics.write(json.dumps({"epoch": 3}) + "\n")
        log = self.succeed("train", "--resume", "--output", "runs/stopped").stderr.decode()
        self.assertRegex(log, r"resumed after [2-5] epochs")
        self.assertNotIn("skipgram epoch 1/", log)
        self.assertEqual(files[0].read_bytes(), files[1].read_bytes())
        arrays = [path.read_bytes().rsplit(b"}", 1)[-1] for path in files[2:]]  # the header knows of seconds
        self.assertEqual(*arrays)
        epochs = [[json.loads(line)["epoch"] for line in (self.folder / "runs" / run / "metrics.jsonl").read_text().splitlines()]
                  for run in ("word2vec", "stopped")]
        self.assertEqual(*epochs)
        # A run that has ended stays as it is.
        log = self.succeed("train", "--resume", "--output", "runs/stopped").stderr.decode()
        self.assertNotIn("skipgram epoch", log)
        self.assertEqual(files[0].read_bytes(), files[1].read_bytes())
        # Nor does it go on with other posts.
        posts = self.folder / "valid.txt"
        text = posts.read_text()
        self.addCleanup(posts.write_text, text)
        posts.write_text(text + "c1 w3x1 #tag3\n")
        done = self.run_program("train", "--resume", "--output", "runs/stopped")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr.decode(), r"error: cannot resume: the posts of .*train\.txt' and .* are not those")

    def test_what_cannot_be(self):
        skipgram = {"loss": {"type": "skipgram", "score": "cosine", "negative_samples": 5}, "optimizer": {"type": "sgd"}}
        for name, sections, message in (
                ("vectors", {**skipgram, "encoder": {"type": "cnn"}}, r'encoder\.type is "cnn" and loss\.type "skipgram", which allows "bag"'),
                ("dot", {**skipgram, "loss": {**skipgram["loss"], "score": "dot"}}, r'loss\.score is "dot" and .* allows "cosine"'),
                ("adagrad", {**skipgram, "optimizer": {"type": "adagrad"}}, r'optimizer\.type is "adagrad" and .* allows "sgd"'),
                ("draws", {**skipgram, "loss": {**skipgram["loss"], "negative_samples": 0}}, r"loss\.negative_samples is 0 and .* allows at least 1"),
                ("gpu", {**skipgram, "training": {"device": "cuda"}}, r'training\.device is "cuda" and .* allows "auto" and "cpu"'),
                ("mixture", {"lexical": {"mixture": "alone"}}, r'lexical\.mixture: allowed only where lexical\.type is not "none", but it is "none"'),
                ("smooth", {"lexical": {"type": "linear", "smoothing": 3}}, r'lexical\.smoothing: allowed only where lexical\.type is "naive_bayes"'),
                ("window", {"loss": {"window": 3}}, r'loss\.window: allowed only where loss\.type is "skipgram"')):
            self.fail_with("train", self.config(f"not-{name}", **sections), message=message)
        self.fail_with("tune", "bayes.json", "--minutes", "1", message=r'lexical\.mixture is "alone": tune searches settings of vectors')
        self.fail_with("tune", "word2vec.json", "--minutes", "1", message=r'loss\.type is "skipgram", which tune')


class Tuning(Workplace):
    """The search for better settings. Time decides nothing here: there is more of it than --trials can use."""

    posts = (1500, 200, 200)
    TRIAL = re.compile(r"trial (\d+): (.*?): (?:(\w+) ([\d.]+) after (\d+) epochs|.*), [\d:.]+(?: s)?(.*)")

    def setUp(self):
        self.before = self.files()

    def files(self):
        return {path.name for path in self.folder.iterdir()}

    def tune(self, config, *arguments, trials, new):
        """Tunes; the files that are new must be `new`. Returns the trials' lines, as matches, and all that was said."""
        done = self.succeed("tune", config, "--minutes", 60, "--trials", trials, *arguments)
        self.assertEqual(done.stdout, b"")
        text = done.stderr.decode()
        self.assert_only_new(new)
        return self.trials(text), text

    def trials(self, text):
        return [match for line in text.splitlines() if (match := self.TRIAL.search(line))]

    def assert_only_new(self, names):
        """The runs of the trials are gone; the tokenized posts are kept as training keeps them."""
        self.assertEqual(self.files() - self.before - {"runs"}, set(names))
        self.assertEqual([path.name for path in self.folder.glob("runs/*")], ["cache"] if (self.folder / "runs").exists() else [])
        self.assert_nothing_half_written()

    def settings(self, document, prefix=""):
        """A config's values by their paths."""
        values = {}
        for key, value in document.items():
            if isinstance(value, dict):
                values.update(self.settings(value, prefix + key + "."))
            else:
                values[prefix + key] = value
        return values

    def test_the_best_trial_is_written_and_trains(self):
        config = self.config("plain", optimizer={"learning_rate": 0.002}, training={"epochs": 6, "early_stopping": {"metric": "mrr"}},
                             lexical={"type": "linear", "epochs": 3})
        trials, text = self.tune(config, trials=8, new={"plain.json", "plain-tuned.json"})
        self.assertEqual([int(trial[1]) for trial in trials], list(range(1, 9)))
        self.assertEqual(trials[0][2], "as given")
        self.assertEqual({trial[3] for trial in trials if trial[4]}, {"mrr"})
        # Of vectors that are clearly worse, nobody asks what they and the words reach.
        self.assertEqual(["clearly worse" in trial[6] for trial in trials], [trial[4] is None for trial in trials])
        values = [float(trial[4] or 0) for trial in trials]
        # A rate this low is easily beaten.
        self.assertGreater(max(values), values[0])
        for i, trial in enumerate(trials):  # what is printed is rounded
            most = max([-1, *values[:i]])
            self.assertTrue(values[i] >= most if "(best so far)" in trial[6] else values[i] <= most, text)
        self.assertNotIn("lexical epoch", text)

        # What the file says is what was said of the trial, and nothing else has changed.
        tuned = json.loads((self.folder / "plain-tuned.json").read_text())
        said = re.search(r"done: 8 trials in .*; the best is trial (\d+), (.*): mrr ([\d.]+), against ([\d.]+) with", text)
        self.assertIn("train it with: tagspace train plain-tuned.json", text)
        best = trials[int(said[1]) - 1]
        self.assertEqual((best[2], best[4], trials[0][4]), said.groups()[1:])
        self.assertGreaterEqual(float(said[3]), float(said[4]))
        self.succeed("train", "plain.json", "--output", "given")
        self.succeed("train", "plain-tuned.json", "--output", "tuned")
        given = json.loads((self.folder / "given/config.json").read_text())
        changed = {f"{path} {json.dumps(value)}" for path, value in self.settings(tuned).items()
                   if path.partition(".")[0] != "data" and value != self.settings(given)[path]}
        self.assertEqual(changed, {'name "plain-tuned"', *best[2].split(", ")})
        self.assertEqual(tuned["data"]["train"], "train.txt")
        self.assertEqual(tuned["lexical"]["type"], "linear")
        # ... and training with it gives the very figures that were promised: those of vectors and words together.
        for run, value in (("given", said[4]), ("tuned", said[3])):
            header = (self.folder / run / "lexical.safetensors").read_bytes()
            size = int.from_bytes(header[:8], "little")
            state = json.loads(json.loads(header[8:8 + size])["__metadata__"]["text"])
            self.assertEqual(f"{state['valid']['mrr']:.4f}", value)
            shutil.rmtree(self.folder / run)

    def test_without_words_the_vectors_figures_count(self):
        config = self.config("vectors", optimizer={"learning_rate": 0.002}, training={"epochs": 4, "early_stopping": {"metric": "mrr"}},
                             encoder={"pairs": True})
        trials, _ = self.tune(config, trials=3, new={"vectors.json", "vectors-tuned.json"})
        self.succeed("train", "vectors.json", "--output", "vectors-run")
        epochs = [json.loads(line) for line in (self.folder / "vectors-run/metrics.jsonl").read_text().splitlines()]
        self.assertEqual(f"{max(epoch['valid']['mrr'] for epoch in epochs):.4f}", trials[0][4])
        shutil.rmtree(self.folder / "vectors-run")

    def test_the_winner_is_trained_with_other_seeds(self):
        config = self.config("seeds", optimizer={"learning_rate": 0.002})
        trials, text = self.tune(config, "--set", "seed=5", "--output", "seeds-out.json", trials=6, new={"seeds.json", "seeds-out.json"})
        values = {int(trial[1]): float(trial[4]) for trial in trials}
        again = re.findall(r"trial (\d+) with seed (\d+): recall_at_10 ([\d.]+)", text)
        finalists = {int(trial) for trial, _, _ in again}
        best_two = sorted(values, key=lambda trial: (-values[trial], trial))[:2]
        self.assertEqual(finalists, {*best_two, 1})
        self.assertEqual(sorted((int(trial), int(seed)) for trial, seed, _ in again),
                         sorted((trial, seed) for trial in finalists for seed in (6, 7)))
        for trial in finalists:
            values[trial] = [values[trial], *(float(value) for number, _, value in again if int(number) == trial)]
        said = int(re.search(r"the best is trial (\d+)", text)[1])
        self.assertAlmostEqual(sum(values[said]), max(sum(values[trial]) for trial in finalists), delta=4e-4)
        self.assertEqual(json.loads((self.folder / "seeds-out.json").read_text())["seed"], 5)

    def test_the_seed_decides_and_threads_do_not(self):
        config = self.config("again", training={"epochs": 2})
        texts = []
        for number, arguments in enumerate((["--threads", 1], ["--threads", 2], ["--set", "seed=2"])):
            self.before = self.files()
            trials, text = self.tune(config, *arguments, "--output", f"again-{number}.json", trials=4, new={f"again-{number}.json"})
            texts.append([trial.group(1, 2, 4, 5, 6) for trial in trials]
                         + re.findall(r"trial \d+ with seed .* epochs|mean .*|the best is .*", text))
        self.assertEqual(texts[0], texts[1])
        # The second trial's settings depend on no result.
        self.assertNotEqual(texts[0][1][1], texts[2][1][1])

    def test_a_convolution_and_the_length_of_vectors(self):
        config = self.config("conv", encoder={"type": "cnn", "filters": 16}, training={"bag_epochs": 2, "epochs": 2},
                             optimizer={"learning_rate": 0.03})
        trials, _ = self.tune(config, "--dims", "8,24", trials=10, new={"conv.json", "conv-tuned.json"})
        tried = {words.split(" ")[0]: set() for trial in trials[1:] for words in trial[2].split(", ")}
        for trial in trials[1:]:
            for words in trial[2].split(", "):
                tried[words.split(" ")[0]].add(words.split(" ")[1])
        self.assertLessEqual({"encoder.dropout", "optimizer.encoder_learning_rate", "encoder.dim"}, set(tried))
        self.assertLessEqual(tried["encoder.dim"], {"8", "24"})
        self.succeed("train", "conv-tuned.json", "--output", "conv-run")
        shutil.rmtree(self.folder / "conv-run")

    def test_what_is_clearly_worse_ends_early(self):
        # All epochs, always: what does not end early has 40.
        config = self.config("long", training={"epochs": 40, "early_stopping": {"patience": 0}})
        trials, _ = self.tune(config, trials=10, new={"long.json", "long-tuned.json"})
        worse = ["clearly worse" in trial[6] for trial in trials]
        self.assertEqual([int(trial[5]) < 40 for trial in trials], worse)
        self.assertTrue(any(worse))
        self.assertFalse(worse[0])

    def test_a_trial_that_diverges_is_told_of_and_passed_by(self):
        # With a rate a few times higher it does not end well.
        config = self.config("wild", optimizer={"type": "sgd", "learning_rate": 4}, encoder={"initial_scale": 1},
                             loss={"margin": 1000, "rank_weight": "linear"}, training={"epochs": 6})
        _, text = self.tune(config, trials=40, new={"wild.json", "wild-tuned.json"})
        self.assertIn("done: 40 trials", text)
        self.assertRegex(text, r"trial \d+: .* not (a )?finite")

    def stop_when(self, pattern, *arguments):
        with subprocess.Popen([PROGRAM, "tune", *arguments], cwd=self.folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as program:
            text = ""
            while line := program.stderr.readline().decode():
                text += line
                if re.search(pattern, line):
                    program.send_signal(signal.SIGINT)
                    break
            text += program.stderr.read().decode()
            return program.wait(120), text

    def test_stopped_it_keeps_the_best_so_far(self):
        config = self.config("stopped", optimizer={"learning_rate": 0.002})
        status, text = self.stop_when("trial 5:", config, "--minutes", "60")
        self.assertEqual(status, 130, text)
        self.assert_only_new({"stopped.json", "stopped-tuned.json"})
        trials = self.trials(text)
        self.assertGreaterEqual(len(trials), 5)
        said = re.search(r"stopped: (\d+) trials in .*; the best is trial (\d+), (.*): recall_at_10 ([\d.]+)", text)
        self.assertEqual(int(said[1]), len(trials))
        self.assertEqual(float(said[4]), max(float(trial[4]) for trial in trials if trial[4]))
        tuned = self.settings(json.loads((self.folder / "stopped-tuned.json").read_text()))
        for words in [] if said[3] == "as given" else said[3].split(", "):
            path, value = words.split(" ")
            self.assertEqual(tuned[path], json.loads(value))

    def test_stopped_before_there_is_anything(self):
        config = self.config("early", training={"epochs": 1, "batch_size": 1}, encoder={"type": "cnn", "filters": 4000})
        status, text = self.stop_when("searching settings", config, "--minutes", "60")
        self.assertEqual(status, 130, text)
        self.assertIn("nothing was written", text)
        self.assert_only_new({"early.json"})

    def test_the_time_is_up(self):
        """Within the first trial, however fast the machine: what it has come to is kept, or that there is nothing is said."""
        config = self.config("time", training={"epochs": 1000000, "early_stopping": {"patience": 0}})
        done = self.run_program("tune", config, "--minutes", "0.02")
        text = done.stderr.decode()
        if done.returncode == 0:
            self.assertIn("done: 1 trial in", text)
            self.assertIn("the time was up", text)
            self.assert_only_new({"time.json", "time-tuned.json"})
        else:
            self.assertIn("tagspace: error: the time was up before the first trial had anything to keep", text)
            self.assert_only_new({"time.json"})

    def test_wrong_usage(self):
        config = self.config("usage")
        for arguments in ([], ["--minutes", "0"], ["--minutes", "-3"], ["--minutes", "nan"], ["--minutes", "soon"], ["--minutes", ""],
                          ["--minutes", "1", "--trials", "0"], ["--minutes", "1", "--dims", "0"], ["--minutes", "1", "--dims", "8,x"]):
            with self.subTest(arguments=arguments):
                done = self.run_program("tune", config, *arguments)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertEqual(done.stdout, b"")
                self.assertIn(arguments[-2] if arguments else "--minutes", done.stderr.decode())
        self.assertEqual(self.run_program("tune", "--minutes", "1").returncode, 2)
        self.fail_with("tune", config, "--minutes", 1, "--set", "loss.margn=1", message="did you mean loss.margin")
        self.fail_with("tune", config, "--minutes", 1, "--set", "data.train=none.txt", message="none.txt", alone=False)
        self.assert_only_new({"usage.json"})

    def test_an_output_that_is_there_is_not_touched(self):
        config = self.config("there", training={"epochs": 1})
        output = self.folder / "there-tuned.json"
        output.write_text("mine")
        self.fail_with("tune", config, "--minutes", 60, "--trials", 1, message=r"'there-tuned\.json' already; .*--overwrite")
        self.assertEqual(output.read_text(), "mine")
        self.tune(config, "--overwrite", trials=1, new={"there.json", "there-tuned.json"})
        self.assertEqual(json.loads(output.read_text())["name"], "there-tuned")
        self.fail_with("tune", config, "--minutes", 60, "--output", "runs", message="'runs' is a folder")
        self.fail_with("tune", config, "--minutes", 60, "--output", "nowhere/x.json", message="'nowhere/.*No such file")


class Resuming(Workplace):
    """A training that was stopped goes on as if it had not been."""

    posts = (20000, 500, 10)

    def stop_after(self, name, arguments, pattern, number, delay=0.0):
        """Starts training, sends the signal `delay` seconds after a line matches, and waits for the end."""
        with subprocess.Popen([PROGRAM, "train", *arguments], cwd=self.folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as program:
            lines = []
            while line := program.stderr.readline().decode():
                lines.append(line)
                if re.search(pattern, line):
                    time.sleep(delay)
                    program.send_signal(number)
                    break
            lines += program.stderr.read().decode().splitlines()
            status = program.wait(120)
        return status, "".join(lines)

    def test_stopped_again_and_again_it_ends_with_the_same_model(self):
        self.config("whole", encoder={"type": "cnn", "filters": 32, "dropout": 0.2, "word_dropout": 0.1},
                    optimizer={"schedule": "linear", "max_norm": 1, "encoder_learning_rate": 0.01},
                    training={"bag_epochs": 3, "epochs": 8, "batch_size": 16, "early_stopping": {"patience": 0}})
        self.succeed("train", "whole.json")
        run = self.folder / "runs/parts"
        rng = random.Random(1)
        arguments = ["whole.json", "--output", "runs/parts"]
        inside_an_epoch = 0
        stops = 0
        for attempt in range(60):
            number = (signal.SIGINT, signal.SIGTERM)[attempt % 2]
            status, text = self.stop_after("parts", arguments, r"tokenized .*valid|reused|epoch \d|resumed after|checkpoint yet",
                                           number, rng.uniform(0.0, 0.15))
            if status == 0 or "done: " in text:
                break  # too late for the signal
            self.assertEqual(status, 128 + number, text)
            if not run.exists():
                continue  # so early that nothing was written
            stops += 1
            self.assertIn("tagspace train --resume --output runs/parts", text)
            self.assertTrue((run / "last.safetensors").exists(), text)
            inside_an_epoch += state_of(run / "last.safetensors")["batch"] > 0
            self.assert_nothing_half_written()
            arguments = [["--resume", "--output", "runs/parts"], ["whole.json", "--output", "runs/parts", "--resume"],
                         ["runs/parts", "--resume"], ["--resume", "--output", "runs/parts", "--threads", "1"]][attempt % 4]
        self.assertIn("done: ", text, "training never ended")
        self.assertGreater(stops, 1)
        self.assertGreater(inside_an_epoch, 0)
        self.assert_same_run("whole", "parts")

    def test_killed_it_goes_on_from_the_last_epoch(self):
        # Many more epochs than are waited for: however late the kill comes, some are left.
        self.config("killed", training={"epochs": 12, "batch_size": 16, "early_stopping": {"patience": 0}},
                    encoder={"type": "cnn", "filters": 32})
        self.succeed("train", "killed.json")
        for after in ("epoch 1/", "epoch 2/"):
            shutil.rmtree(self.folder / "runs/killed-twin", ignore_errors=True)
            status, _ = self.stop_after("killed-twin", ["killed.json", "--output", "runs/killed-twin"], after, signal.SIGKILL, 0.05)
            self.assertEqual(status, -signal.SIGKILL)
            self.leave_half_written("killed-twin")
            self.succeed("train", "--resume", "--output", "runs/killed-twin")
            self.assert_same_run("killed", "killed-twin")
            self.assert_nothing_half_written()

    def test_killed_after_the_last_epoch_it_is_finished(self):
        self.config("last", training={"epochs": 2, "batch_size": 64})
        for output in ("runs/last", "runs/last-twin"):
            self.succeed("train", "last.json", "--output", output)
        (self.folder / "runs/last-twin/calibration.json").unlink()  # is written after the last epoch
        self.leave_half_written("last-twin")
        self.succeed("train", "--resume", "--output", "runs/last-twin")
        self.assert_same_run("last", "last-twin")
        self.assert_nothing_half_written()

    def leave_half_written(self, name):
        """What a kill in the middle of writing would leave."""
        (self.folder / "runs" / name / "last.safetensors.1.partial").write_bytes(b"half")
        with (self.folder / "runs" / name / "metrics.jsonl").open("a") as metrics:
            metrics.write('{"epoch": 99}\n{"ep')

    def test_a_second_signal_ends_it_at_once(self):
        self.config("twice", training={"epochs": 50, "batch_size": 16}, encoder={"type": "cnn", "filters": 1000})
        with subprocess.Popen([PROGRAM, "train", "twice.json"], cwd=self.folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as program:
            while "tokenized" not in program.stderr.readline().decode():
                pass
            program.send_signal(signal.SIGINT)
            program.send_signal(signal.SIGINT)
            self.assertIn(program.wait(60), (130, -signal.SIGINT))
            program.stderr.read()
        self.succeed("train", "twice.json", "--output", "runs/after-twice", "--set", "training.epochs=1", "--set", "encoder.filters=8")
        self.assert_nothing_half_written()  # what was under construction in the cache is removed by the next

    def test_more_epochs_may_be_asked_for(self):
        self.config("short", training={"epochs": 1, "batch_size": 64, "early_stopping": {"patience": 0}})
        self.succeed("train", "short.json")
        again = self.succeed("train", "--resume", "--output", "runs/short")
        self.assertIn("done: 1 epochs", again.stderr.decode())
        self.succeed("train", "--resume", "--output", "runs/short", "--set", "training.epochs=3")
        self.succeed("train", "short.json", "--output", "runs/long", "--set", "training.epochs=3")
        self.assert_same_run("short", "long")
        self.assertEqual(json.loads((self.folder / "runs/short/config.json").read_text())["training"]["epochs"], 3)

    def test_another_device_is_told_of(self):
        self.config("moved", training={"epochs": 1})
        self.succeed("train", "moved.json")
        last = self.folder / "runs/moved/last.safetensors"
        data = last.read_bytes()
        self.assertEqual(data.count(b'\\"on_gpu\\":false'), 1)
        warning = r"warning: the run was trained on a GPU until now, and the rest will be on the CPU"
        for state, warns in ((b'\\"on_gpu\\":false', False), (b'\\"on_gpu\\":true ', True),
                             (b'\\"not_me\\":false', False)):  # the last as before there was this key
            last.write_bytes(data.replace(b'\\"on_gpu\\":false', state))
            said = self.succeed("train", "--resume", "--output", "runs/moved", "--set", "training.epochs=2").stderr.decode()
            (self.assertRegex if warns else self.assertNotRegex)(said, warning)
            self.assertFalse(state_of(last)["on_gpu"])

    def test_what_cannot_be_resumed_is_refused(self):
        self.config("refused", training={"epochs": 1})
        self.succeed("train", "refused.json")
        self.fail_with("train", "refused.json", message=r"there is a run in 'runs/refused' already; .*--resume.*--output")
        self.fail_with("train", "--resume", "--output", "runs/none", message="there is no run folder 'runs/none'")
        self.fail_with("train", "refused.json", "--resume", "--set", "loss.margin=3",
                       message=r"cannot resume the run 'runs/refused' with other settings: loss\.margin is 0\.1 there and 3\.0 here")
        # Other posts behind the same name.
        shutil.copy(self.folder / "train.txt", self.folder / "kept.txt")
        try:
            write_lines(self.folder / "train.txt", make_posts(3000, 99))
            self.fail_with("train", "--resume", "--output", "runs/refused", message="cannot resume: the training posts", alone=False)
            lines = (self.folder / "kept.txt").read_text().splitlines()
            lines[0], lines[1] = lines[1], lines[0]
            write_lines(self.folder / "train.txt", lines)
            self.fail_with("train", "--resume", "--output", "runs/refused",
                           message="cannot resume: the posts of .* are not those that the run was trained on", alone=False)
        finally:
            shutil.move(self.folder / "kept.txt", self.folder / "train.txt")
        last = self.folder / "runs/refused/last.safetensors"
        data = last.read_bytes()
        last.unlink()
        self.fail_with("train", "--resume", "--output", "runs/refused", message=r"'runs/refused/last\.safetensors' is missing", alone=False)
        last.write_bytes(data[:-100])
        self.fail_with("train", "--resume", "--output", "runs/refused", message=r"last\.safetensors", alone=False)
        last.write_bytes((self.folder / "runs/refused/best.safetensors").read_bytes())
        self.fail_with("train", "--resume", "--output", "runs/refused", message=r"last\.safetensors", alone=False)
        last.write_bytes(data)
        self.succeed("train", "--resume", "--output", "runs/refused")
        # While another process writes to the run.
        folder = os.open(self.folder / "runs/refused", os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            self.fail_with("train", "--resume", "--output", "runs/refused", message="'runs/refused' is in use: another tagspace")
        finally:
            os.close(folder)


class BadInput(Workplace):
    """One clear message, exit status 1, nothing half-written."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.succeed("train", cls.config("good", training={"epochs": 1}))

    def setUp(self):
        self.before = sorted(self.folder.rglob("*"))

    def refuse(self, config, message, **options):
        """`train` must refuse this experiment, and no run folder may come of it."""
        text = self.fail_with("train", config, message=message, **options)
        self.assertFalse((self.folder / "runs" / pathlib.Path(config).stem).exists())
        return text

    def test_posts_that_are_not_there(self):
        for name in ("train", "valid", "test"):
            self.refuse(self.config(f"no-{name}", data={name: "nowhere.txt"}), r"nowhere\.txt.*No such file", alone=False)
        self.refuse(self.config("folder", data={"train": "."}), r"Is a directory|not a regular file", alone=False)
        self.fail_with("predict", "runs/good", "--posts", "nowhere.txt", message=r"'nowhere\.txt'.*No such file")
        self.fail_with("evaluate", "runs/good", "--posts", "runs", message=r"'runs'.*[Dd]irectory|'runs'.*folder")

    def test_folders_that_may_not_be_read(self):
        options = {}
        if os.geteuid() == 0:  # who may read everything
            options = {"user": 65534, "group": 65534}
            self.folder.chmod(0o755)
            try:
                able = self.run_program("--version", **options).returncode == 0
            except OSError:
                able = False
            if not able:
                self.skipTest("the program cannot be run by another user than root here")
        secret = self.folder / "secret"
        secret.mkdir()
        shutil.copy(self.folder / "train.txt", secret)
        secret.chmod(0)
        try:
            self.refuse(self.config("denied", data={"train": "secret/train.txt"}), r"secret/train\.txt.*Permission denied", alone=False, **options)
            self.fail_with("train", "good.json", "--output", "secret/run", message="Permission denied", alone=False, **options)
            self.fail_with("predict", "secret", message="Permission denied", **options)
            self.fail_with("export", "runs/good", "--output", "secret/vectors", message="Permission denied", **options)
        finally:
            secret.chmod(0o700)
            shutil.rmtree(secret)

    def test_posts_with_nothing_in_them(self):
        (self.folder / "empty.txt").write_bytes(b"")
        write_lines(self.folder / "blank.txt", [""] * 20)
        write_lines(self.folder / "bare.txt", ["words and no hashtag"] * 20)
        write_lines(self.folder / "lonely.txt", [f"words #only{i}" for i in range(20)])
        write_lines(self.folder / "other.txt", ["words #unknownhashtag"] * 20)
        self.refuse(self.config("empty", data={"train": "empty.txt"}), r"empty\.txt' is empty|empty\.txt.*no post", alone=False)
        self.refuse(self.config("blank", data={"train": "blank.txt"}), r"blank\.txt.*hashtag", alone=False)
        self.refuse(self.config("bare", data={"train": "bare.txt"}), r"bare\.txt.*hashtag", alone=False)
        self.refuse(self.config("lonely", data={"train": "lonely.txt"}), r"min_count", alone=False)
        self.refuse(self.config("other", data={"valid": "other.txt"}), r"other\.txt.*hashtag", alone=False)
        self.fail_with("evaluate", "runs/good", "--posts", "bare.txt", message=r"no post of 'bare\.txt' has a hashtag of the run's table")
        self.fail_with("evaluate", "runs/good", "--posts", "empty.txt", message=r"empty\.txt")

    def test_configs(self):
        self.refuse("nowhere.json", r"cannot open 'nowhere\.json': No such file")
        for name, text, message in (
                ("syntax", '{"name": "x",\n "seed": }', r"syntax\.json:2:10: .*unexpected"),
                ("nothing", "", r"nothing\.json:1:1: "),
                ("twice", '{"name": "x", "name": "y"}', r"'twice\.json': name: the key stands there twice"),
                ("list", "[]", r"'list\.json': found a list"),
                ("binary", "\0\1\2", r"binary\.json:1:1: ")):
            (self.folder / f"{name}.json").write_text(text)
            self.refuse(f"{name}.json", message)
        for name, sections, message in (
                ("unknown", {"loss": {"margn": 1}}, r"'unknown\.json': loss\.margn: unknown key; did you mean loss\.margin\?"),
                ("type", {"encoder": {"dim": "64"}}, r"'type\.json': encoder\.dim: found \"64\" \(text\), allowed is a whole number from 1"),
                ("value", {"encoder": {"dropout": 1.5}}, r"'value\.json': encoder\.dropout: found 1\.5, allowed is a number from 0 to below 1"),
                ("cuda", {"training": {"device": "cuda:999"}}, r"training\.device: cannot use the device cuda:999: ."),
                ("hogwild", {"training": {"device": "cpu", "row_updates": "hogwild"}},
                 r"training\.row_updates is \"hogwild\", which only a GPU can do, and training\.device is \"cpu\""),
                ("halves", {"training": {"device": "cpu", "table_format": "bfloat16"}},
                 r"training\.table_format is \"bfloat16\", which only a GPU can do"),
                ("pool", {"loss": {"negatives": "shared", "max_tries": 65537}},
                 r"loss\.max_tries is 65537 and loss\.negatives \"shared\", which allows at most 65536; a larger number"),
                ("starspace", {"loss": {"type": "starspace"}},
                 r"loss\.negative_samples is 0 and loss\.type \"starspace\", which needs at least 1"),
                ("positives", {"loss": {"type": "softmax", "all_positives": True}},
                 r"loss\.all_positives is true and loss\.type \"softmax\", which takes one positive a post")):
            self.refuse(self.config(name, **sections), message)
        self.fail_with("train", "good.json", "--set", "loss.margin=-1", message=r"--set loss\.margin=-1: found -1, allowed is")

    def test_outputs(self):
        self.fail_with("train", "good.json", message="there is a run in 'runs/good' already")
        (self.folder / "file").write_text("text")
        self.fail_with("train", "good.json", "--output", "file", message="'file' is a file")
        self.fail_with("train", "good.json", "--output", "file/run", message="file/run", alone=False)
        self.fail_with("train", "good.json", "--output", ".", message="'.' is not empty")
        self.fail_with("predict", "runs/good", "--device", "gpu", message="no device is called 'gpu'")
        self.fail_with("evaluate", "runs/good", "--device", "cuda:999", message="cannot use the device cuda:999")
        self.fail_with("export", "runs/good", "--output", "file", message="'file'")
        self.fail_with("evaluate", "runs/good", "--json", "file/figures.json", message=r"file/figures\.json")
        self.assertEqual((self.folder / "file").read_text(), "text")

    def test_an_empty_output_folder_is_used(self):
        (self.folder / "made").mkdir()
        self.succeed("train", "good.json", "--output", "made")
        self.succeed("predict", "made")
        shutil.rmtree(self.folder / "made")

    def commands(self, run):
        return (["predict", run], ["evaluate", run], ["recommend", run, "--posts", "test.txt"], ["embed", run], ["neighbors", run, "#tag1"], ["export", run, "--output", "never"])

    def test_run_folders(self):
        for command in self.commands("runs"):
            self.fail_with(*command, message="'runs' is no run folder of tagspace: it has no config.json")
        for command in self.commands("nowhere"):
            self.fail_with(*command, message="there is no run folder 'nowhere'")
        self.assertFalse((self.folder / "never").exists())

        def copy():
            shutil.rmtree(self.folder / "copy", ignore_errors=True)
            shutil.copytree(self.folder / "runs/good", self.folder / "copy")
            return self.folder / "copy"

        config = json.loads((copy() / "config.json").read_text())
        (self.folder / "copy/config.json").write_text(json.dumps({**config, "format": 2, "future": True}))
        for command in self.commands("copy"):
            self.fail_with(*command, message=r"'copy' has format 2, but this program reads formats up to 1")

        for name in ("best.safetensors", "hashtags.tsv", "tokenizer/words.tsv", "tokenizer/tokenizer.json", "config.json"):
            (copy() / name).unlink()
            self.fail_with("predict", "copy", message=re.escape(pathlib.Path(name).name))
            if name != "config.json":
                (copy() / name).write_bytes(b"")
                self.fail_with("predict", "copy", message=re.escape(pathlib.Path(name).name))
        # Of another shape than the config says.
        (copy() / "config.json").write_text(json.dumps({**config, "encoder": {**config["encoder"], "dim": 17}}))
        self.fail_with("predict", "copy", message=r"best\.safetensors")

    def test_damaged_checkpoints(self):
        shutil.copytree(self.folder / "runs/good", self.folder / "damaged")
        path = self.folder / "damaged/best.safetensors"
        data = path.read_bytes()
        rng = random.Random(3)
        for size in [0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1]:
            path.write_bytes(data[:size])
            self.fail_with("predict", "damaged", message=r"'damaged/best\.safetensors'")
        path.write_bytes(data + b"\0")
        self.fail_with("predict", "damaged", message=r"'damaged/best\.safetensors'")
        (header,) = struct.unpack("<Q", data[:8])
        for at in [0, 7, 8, 8 + header - 1, len(data) - 1] + [rng.randrange(8 + header) for _ in range(20)] + [rng.randrange(len(data)) for _ in range(10)]:
            changed = bytearray(data)
            changed[at] ^= 1 << rng.randrange(8)
            path.write_bytes(changed)
            with self.subTest(at=at):
                self.fail_with("predict", "damaged", message=r"'damaged/best\.safetensors'")
        path.write_bytes(data)
        self.succeed("predict", "damaged")

    def test_a_loss_that_is_not_finite(self):
        self.config("wild", optimizer={"type": "sgd", "learning_rate": 1000}, loss={"rank_weight": "linear", "margin": 1000},
                    encoder={"initial_scale": 100}, training={"epochs": 50})
        self.fail_with("train", "wild.json", message="finite", alone=False)
        log = (self.folder / "runs/wild/log.txt").read_text()
        self.assertIn("error: ", log.splitlines()[-1])


class OnGpu(Workplace):
    """The program on a GPU, and a run that moves between it and the CPU."""

    @classmethod
    def setUpClass(cls):
        # Asked of the driver itself: a GPU that is there, but cannot be used, is no reason to skip.
        try:
            driver = ctypes.CDLL("libcuda.so.1")
        except OSError:
            raise unittest.SkipTest("no usable GPU: no NVIDIA driver") from None
        count = ctypes.c_int(0)
        if driver.cuInit(0) in (34, 100) or (driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value == 0):
            raise unittest.SkipTest("no usable GPU: no device")
        super().setUpClass()

    def predictions(self, run, device):
        texts = "".join(line + "\n" for line in make_posts(200, 77)).encode()
        lines = self.succeed("predict", run, "--device", device, "--json", "--top", 40, stdin=texts).stdout.splitlines()
        return [{entry["hashtag"]: entry["score"] for entry in json.loads(line)["hashtags"]} for line in lines]

    def assert_alike(self, some, others, tolerance):
        self.assertEqual(len(some), len(others))
        for one, other in zip(some, others):
            shared = one.keys() & other.keys()
            self.assertGreater(len(shared), 0.9 * len(one))
            for name in shared:
                self.assertLessEqual(abs(one[name] - other[name]), tolerance * (1 + abs(other[name])))

    def recall(self, run, device):
        done = self.succeed("evaluate", run, "--device", device, "--json", "-")
        return json.loads(done.stdout)["recall_at_10"]

    def test_trained_on_one_device_used_on_the_other(self):
        for encoder in ({"type": "bag"}, {"type": "cnn", "filters": 64}):
            name = "gpu-" + encoder["type"]
            self.config(name, encoder=encoder, training={"epochs": 4, "batch_size": 32})
            on = {}
            for device in ("cuda", "cpu"):
                run = f"runs/{name}-{device}"
                done = self.succeed("train", f"{name}.json", "--output", run, "--set", f"training.device={device}")
                self.assertIn("on cuda:0," if device == "cuda" else "on the CPU,", done.stderr.decode())
                # Products in TF32 on the one side.
                self.assert_alike(self.predictions(run, "cuda"), self.predictions(run, "cpu"), 2e-2)
                on[device] = self.recall(run, device)
                self.assertAlmostEqual(on[device], self.recall(run, "cuda" if device == "cpu" else "cpu"), delta=0.02)
            self.assertGreater(on["cuda"], 0.5)
            self.assertAlmostEqual(on["cuda"], on["cpu"], delta=0.1)

    def test_resumed_on_either_device(self):
        self.config("gpu-parts", training={"epochs": 2, "device": "cuda", "early_stopping": {"patience": 0}})
        self.succeed("train", "gpu-parts.json")
        more = ("train", "--resume", "--output", "runs/gpu-parts", "--set")
        same = self.succeed(*more, "training.epochs=3").stderr.decode()
        self.assertNotIn("warning", same)
        self.succeed("train", "gpu-parts.json", "--output", "runs/gpu-whole", "--set", "training.epochs=3")
        best = [read_safetensors(self.folder / run / "best.safetensors")[1] for run in ("runs/gpu-parts", "runs/gpu-whole")]
        self.assertEqual(*best)
        moved = self.succeed(*more, "training.epochs=4", "--set", "training.device=cpu").stderr.decode()
        self.assertRegex(moved, "warning: the run was trained on a GPU until now, and the rest will be on the CPU")

    def test_hogwild_and_half_tables(self):
        self.config("gpu-fast", training={"device": "cuda", "row_updates": "hogwild", "table_format": "bfloat16"},
                    optimizer={"max_norm": 1})
        self.succeed("train", "gpu-fast.json")
        self.assertGreater(self.recall("runs/gpu-fast", "cpu"), 0.5)


class FullDisk(Workplace):
    """A disk that takes no more: here, files that may not grow beyond a size."""

    def limited(self, size):
        return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))}

    def test_the_old_checkpoint_stays(self):
        self.config("disk", encoder={"dim": 64}, training={"epochs": 1, "early_stopping": {"patience": 0}})
        self.succeed("train", "disk.json")
        run = self.folder / "runs/disk"
        before = {name: (run / name).read_bytes() for name in ("best.safetensors", "last.safetensors")}
        size = len(before["last.safetensors"])
        self.assertGreater(size, 50000)
        self.fail_with("train", "--resume", "--output", "runs/disk", "--set", "training.epochs=3", message=r"safetensors': File too large",
                       alone=False, **self.limited(size // 2))
        for name, data in before.items():
            self.assertEqual((run / name).read_bytes(), data)
        # With space again, it goes on as if nothing had been.
        self.succeed("train", "--resume", "--output", "runs/disk", "--set", "training.epochs=3")
        self.succeed("train", "disk.json", "--output", "runs/disk-whole", "--set", "training.epochs=3")
        self.assert_same_run("disk", "disk-whole")

    def test_no_run_folder_is_begun(self):
        self.config("no-space")
        self.fail_with("train", "no-space.json", "--set", "data.cache=no-space-cache", message="File too large", alone=False, **self.limited(2000))
        self.assertFalse((self.folder / "runs/no-space").exists())
        # The corpus is there, but the run's first files do not fit.
        self.succeed("train", "no-space.json", "--output", "runs/other")
        self.fail_with("train", "no-space.json", message="File too large", alone=False, **self.limited(300))
        self.assertFalse((self.folder / "runs/no-space").exists())

    def test_results_that_do_not_fit(self):
        self.config("results")
        self.succeed("train", "results.json")
        self.fail_with("export", "runs/results", "--output", "exported", message="File too large", **self.limited(1000))
        self.assertEqual(list((self.folder / "exported").iterdir()), [])
        with open("/dev/full", "wb") as full:
            for command in (["predict", "runs/results", "--posts", "test.txt"], ["evaluate", "runs/results"], ["schema"]):
                done = subprocess.run([PROGRAM, *command], cwd=self.folder, stdout=full, stderr=subprocess.PIPE, check=False)
                self.assertEqual(done.returncode, 1)
                self.assertEqual(done.stderr.decode(), "tagspace: error: cannot write to standard output: No space left on device\n")


if __name__ == "__main__":
    PROGRAM = os.path.abspath(PROGRAM)
    if not os.path.exists(PROGRAM):
        sys.exit(f"there is no program at {PROGRAM}: set TAGSPACE")
    unittest.main()
