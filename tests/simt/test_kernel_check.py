#!/usr/bin/env python3
"""Runs tagspace_kernel_check, whose path is $KERNEL_CHECK: on a GPU, or the one compiled for the emulator.

One class is one CTest test: test_kernel_check.py -v Deterministic
"""

import itertools
import os
import re
import subprocess
import unittest

PROGRAM = os.environ.get("KERNEL_CHECK", "build/tests/simt/emulated_kernel_check")
NO_GPU = re.compile("no usable GPU: no (NVIDIA driver|device)")


def run(*arguments, **environment):
    """Exit status, stdout and stderr."""
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False,
                          env={**os.environ, **environment})
    return done.returncode, done.stdout, done.stderr


class Spread:
    """Every score, rank weight, table and optimizer once in a mode, over dims and numbers of lanes."""

    mode = ""

    def check(self, *arguments):
        status, out, error = run("--mode", self.mode, *arguments)
        if NO_GPU.search(error):
            self.skipTest(error.strip())
        self.assertEqual(status, 0, f"{arguments}\n{out}{error}")
        self.assertIn("All agree.", out)
        return out

    def spread(self, table):
        lanes = set()
        choices = itertools.product(("dot", "cosine"), ("harmonic", "log", "linear"), ("adagrad", "sgd"))
        for number, (score, rank_weight, optimizer) in enumerate(choices):
            out = self.check(
                "--table", table, "--score", score, "--rank-weight", rank_weight, "--optimizer", optimizer,
                "--dim", (1, 50, 64, 100, 256)[number % 5], "--tries", (100, 2, 8)[(number + number // 3) % 3],
                "--hashtags", (1000, 2, 40, 300)[(number + number // 4) % 4], "--posts", 40, "--seed", number)
            lanes.update(re.findall("([0-9]+) lanes to a post", out))
        self.assertEqual(lanes, {"8", "16", "32"})
        for number, optimizer in enumerate(("adagrad", "sgd")):
            for score in ("dot", "cosine"):
                self.check("--table", table, "--score", score, "--optimizer", optimizer, "--max-norm", 1,
                           "--dim", 50 + 14 * number, "--posts", 40)
        # The largest dim, for which few tries take more lanes than they need.
        self.check("--table", table, "--dim", 8192, "--tries", 1, "--hashtags", 40, "--posts", 4)

    def test_float32(self):
        self.spread("float32")

    def test_bfloat16(self):
        self.spread("bfloat16")


class Deterministic(Spread, unittest.TestCase):
    mode = "deterministic"


class Hogwild(Spread, unittest.TestCase):
    mode = "hogwild"


class Damage(unittest.TestCase):
    """The emulated program damages one value, and must find it."""

    def wrong_lines(self, damage, *arguments):
        status, out, error = run(*arguments, TAGSPACE_DAMAGE=damage)
        self.assertEqual(status, 1, out + error)
        self.assertIn("Not all agree.", out)
        self.assertNotIn("All agree.", out)
        wrong = re.findall(r"^  (\S.*?)  .*WRONG\n    (.*)$", out, re.MULTILINE)
        self.assertTrue(wrong, out)
        return wrong

    def test_a_wrong_number_of_tries(self):
        for mode in ("deterministic", "hogwild"):
            name, where = self.wrong_lines("tries", "--mode", mode)[0]
            self.assertEqual(name, "tries")
            numbers = re.fullmatch("the first at 3: ([0-9]+), where the reference has ([0-9]+)", where)
            self.assertEqual(int(numbers[1]), int(numbers[2]) + 1)

    def test_what_is_not_a_number(self):
        name, where = self.wrong_lines("loss")[0]
        self.assertEqual(name, "losses")
        self.assertIn("at 3: nan, where", where)

    def test_the_last_digit(self):
        self.assertEqual(self.wrong_lines("post gradient")[0][0], "post gradients")
        self.assertEqual(self.wrong_lines("coefficient")[0][0], "coefficients")

    def test_a_wrong_violator(self):
        self.assertEqual(self.wrong_lines("violator")[0][0], "violators")

    def test_a_lost_addition(self):
        names = [name for name, _ in self.wrong_lines("table", "--mode", "hogwild")]
        self.assertGreaterEqual(names.count("table"), 3, names)
        name, where = self.wrong_lines("table", "--max-norm", "1")[0]
        self.assertEqual(name, "table")
        self.assertIn("row 0, element 3", where)


class Usage(unittest.TestCase):
    """Wrong usage: exit status 2, and a message that says what was found and what is allowed."""

    def wrong(self, *arguments):
        status, out, error = run(*arguments)
        self.assertEqual((status, out), (2, ""), error)
        self.assertEqual(error.count("\n"), 1)
        return error

    def test_an_unknown_option(self):
        self.assertIn("no option '--post'", self.wrong("--post", "3"))
        self.assertIn("no option 'deterministic'", self.wrong("deterministic"))
        self.assertIn("no option ''", self.wrong(""))

    def test_a_value_that_is_not_allowed(self):
        for option, values, allowed in (
            ("--posts", ("0", "-1", "1000001", "three", "3x", "3.5", " 3", ""), "from 1 to 1000000"),
            ("--hashtags", ("1", "4294967297"), "from 2 to 100000000"),
            ("--dim", ("0", "8193"), "from 1 to 8192"),
            ("--tries", ("0",), "from 1 to 1000000"),
            ("--score", ("Dot", "dots", ""), "it can be dot or cosine"),
            ("--rank-weight", ("square",), "it can be harmonic, log or linear"),
            ("--mode", ("fast",), "it can be deterministic or hogwild"),
            ("--table", ("float16",), "it can be float32 or bfloat16"),
            ("--optimizer", ("adam",), "it can be adagrad or sgd"),
            ("--max-norm", ("-1", "nan", "inf", "x"), "not below 0"),
            ("--fill", ("zero",), "it can be pattern or none"),
            ("--seed", ("-1", "18446744073709551616"), "from 0 to 18446744073709551615"),
        ):
            for value in values:
                for arguments in ((option, value), (f"{option}={value}",)):
                    error = self.wrong(*arguments)
                    self.assertIn(f"{option} is '{value}'", error)
                    self.assertIn(allowed, error)

    def test_a_value_that_is_missing(self):
        self.assertIn("--dim has no value", self.wrong("--posts", "3", "--dim"))

    def test_help(self):
        status, out, error = run("--help")
        self.assertEqual((status, error), (0, ""))
        for option in ("posts", "hashtags", "dim", "tries", "score", "rank-weight", "mode", "table", "optimizer",
                       "max-norm", "seed", "fill"):
            self.assertIn(f"--{option} ", out)


class NoGpu(unittest.TestCase):
    """The program of a GPU where there is none, or none that it may see."""

    def test_says_so(self):
        status, out, error = run(CUDA_VISIBLE_DEVICES="")
        self.assertEqual((status, out), (1, ""), error)
        self.assertRegex(error, NO_GPU)
        self.assertEqual(error.count("\n"), 1)


if __name__ == "__main__":
    unittest.main()
