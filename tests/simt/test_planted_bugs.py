"""Every planted bug is found, by the kind of build that is there to find it and for the right reason; where nothing is
planted, nothing is found."""

import os
import re
import subprocess
import unittest

from planted_bugs import BUGS, NUMBERED, Bug, plant

BUILD = os.environ.get("TAGSPACE_PLANTED_BUILD")      # plain, address or thread
PROGRAM = os.environ.get("TAGSPACE_PLANTED_PROGRAM")  # the tests of the kernels, in that build; empty: there is none

# Under the thread sanitizer, which takes three times as long, two of the seven dims, one of them aligned.
CONTROL = {"address": "*",
           "thread": "*-" + ":".join(f"*EqualsTheReferenceTryForTry/Dim{dim}" for dim in (1, 16, 64, 100, 256))}


def found_by(tests, bug=0):
    """Status and output of the tests that the filter `tests` lets through, with a bug planted."""
    # Kernels allocate nothing, and a test that is stopped in the middle frees nothing.
    settings = {"TAGSPACE_PLANTED_BUG": str(bug), "ASAN_OPTIONS": "detect_leaks=0",
                "UBSAN_OPTIONS": "print_stacktrace=1", "TSAN_OPTIONS": "halt_on_error=1"}
    result = subprocess.run([PROGRAM, f"--gtest_filter={tests}", "--gtest_brief=1"], env=os.environ | settings,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace",
                            timeout=500, check=False)
    if "unexpected memory mapping" in result.stdout:
        raise unittest.SkipTest("the thread sanitizer does not run on this kernel: " + result.stdout.strip())
    return result.returncode, result.stdout


@unittest.skipUnless(PROGRAM, "the compiler has no such sanitizer")
class NothingPlanted(unittest.TestCase):
    def test_nothing_is_found(self):
        tests = CONTROL.get(BUILD) or ":".join(sorted({bug.tests for bug in BUGS if bug.build == BUILD}))
        status, output = found_by(tests)
        self.assertEqual(status, 0, output)
        self.assertRegex(output, r"\[  PASSED  \] [1-9]")


@unittest.skipUnless(PROGRAM, "the compiler has no such sanitizer")
class Planted(unittest.TestCase):
    def check(self, number, bug):
        status, output = found_by(bug.tests, number)
        self.assertNotEqual(status, 0, "not found")
        self.assertTrue(re.search(bug.finding, output), f"found, but not as {bug.finding}:\n{output[:5000]}")


for i, planted in NUMBERED:
    if planted.build == BUILD:
        setattr(Planted, f"test_{planted.name}", lambda self, number=i, bug=planted: self.check(number, bug))


class TheList(unittest.TestCase):
    SOURCE = "f(a);\na = b + c;\nb = b + c;\n"

    def plant(self, *edits):
        bugs = [Bug("name", "plain", "", "", "file.cu", *edit) for edit in edits]
        return plant(self.SOURCE, list(enumerate(bugs, 7)))

    def test_right_and_wrong_stand_side_by_side(self):
        planted = self.plant(("a = b + c", "b + c", "b - c"), ("f(a);", "f(a);", ""))
        self.assertEqual(planted, "extern int planted_bug;\n{ if (planted_bug == 8) {  } else { f(a); } }\n"
                                  "a = (planted_bug == 7 ? (b - c) : (b + c));\nb = b + c;\n")

    def test_what_does_not_fit_the_source_is_an_error(self):
        for edits in ([("a = b - c", "b - c", "b + c")], [("b + c", "b + c", "b - c")], [("a = b + c", "d", "e")],
                      [("a = b + c", "b + c", "0"), ("a = b", "b", "d")]):
            with self.assertRaisesRegex(ValueError, "planted bug name, file.cu"):
                self.plant(*edits)


if __name__ == "__main__":
    unittest.main()
