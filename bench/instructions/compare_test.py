#!/usr/bin/env python3
"""Tries compare.py: a guard that lets everything pass would look just like one that works."""

import unittest

from compare import TOLERANCE, compare, totals

TOOLS = {"rustc": "1.95.0", "libc": "2.36"}


def record(counts, **tools):
    return {"tools": TOOLS | tools, "counts": counts}


class Compare(unittest.TestCase):
    def verdict(self, before, now, **tools):
        lines, fine = compare(record(before), record(now, **tools))
        return "\n".join(lines), fine

    def test_what_is_as_it_was_is_fine(self):
        most = int(1e6 * TOLERANCE) - 1
        for now in (1_000_000, 1_000_001, 1_000_000 + most, 1_000_000 - most):
            text, fine = self.verdict({"plan": 1_000_000}, {"plan": now})
            self.assertTrue(fine, text)
            self.assertNotIn("Error", text)

    def test_what_is_slower_fails_and_says_what_to_do(self):
        text, fine = self.verdict({"a": 100, "plan": 1_000_000}, {"a": 100, "plan": 1_031_000})
        self.assertFalse(fine)
        self.assertIn("Error: plan takes more", text)
        self.assertIn("+3.10%", text)
        self.assertIn("--record", text)

    def test_what_is_faster_fails_too_so_that_it_stays_so(self):
        text, fine = self.verdict({"plan": 1_000_000}, {"plan": 900_000})
        self.assertFalse(fine)
        self.assertIn("FASTER", text)
        self.assertIn("--record", text)

    def test_cases_that_come_and_go_are_noticed(self):
        for before, now in (({"a": 1, "b": 1}, {"a": 1}), ({"a": 1}, {"a": 1, "b": 1})):
            text, fine = self.verdict(before, now)
            self.assertFalse(fine, text)
            self.assertIn("Error: b is not as recorded", text)

    def test_another_compiler_is_no_regression_but_a_slow_path_still_is(self):
        text, fine = self.verdict({"plan": 100}, {"plan": 110}, rustc="1.99.0")
        self.assertTrue(fine, text)
        self.assertIn("rustc 1.95.0 then, 1.99.0 now", text)
        text, fine = self.verdict({"plan": 100}, {"plan": 130}, rustc="1.99.0")
        self.assertFalse(fine, text)


class Totals(unittest.TestCase):
    def test_they_are_found_in_a_profile(self):
        self.assertEqual(totals("version: 1\nevents: Ir\nfn=(1) x\n1 2\ntotals: 1234\n"), 1234)

    def test_a_profile_without_them_is_an_error(self):
        for profile in ("", "events: Ir\n", "totals:\n"):
            with self.assertRaises(ValueError):
                totals(profile)


if __name__ == "__main__":
    unittest.main()
