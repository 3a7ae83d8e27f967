"""The statistics of scripts/reproduce."""

import importlib.machinery
import importlib.util
import itertools
import pathlib
import sys
import unittest

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


if __name__ == "__main__":
    unittest.main()
