#!/usr/bin/env python3
"""Tries how bench/all takes tables apart and puts them into a file, and what a row is held to."""

import importlib.machinery
import importlib.util
import os
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, f"{HERE}/sync"]
sys.dont_write_bytecode = True
import goals

loader = importlib.machinery.SourceFileLoader("bench_all", f"{HERE}/all")
every = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_all", loader))
loader.exec_module(every)

PAGE = "# Figures\n\n<!-- big -->\nold\n<!-- end -->\n\nwords\n\n<!-- far -->\n<!-- end -->\n"


class Sections(unittest.TestCase):
    def test_what_a_run_prints_is_cut_at_its_headings(self):
        printed = "# 2 CPUs\n# ahoy: 1\n\n## big: 1 GiB\n\n| a |\n\n## far: a way\n| b |\n"
        got = list(every.sections(iter(printed.splitlines(keepends=True))))
        machine = ("machine", "- 2 CPUs\n- ahoy: 1")
        self.assertEqual(got, [machine, ("big", "| a |"), ("far", "| b |")])

    def test_a_run_that_fails_keeps_the_rows_before(self):
        def failing():
            yield "## big: 1 GiB\n"
            yield "| a |\n"
            sys.exit("Error: no room")

        got = every.sections(failing())
        self.assertEqual([next(got), next(got)], [("machine", ""), ("big", "| a |")])
        with self.assertRaises(SystemExit):
            next(got)


class Marks(unittest.TestCase):
    def written(self, *tables):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/page.md"
            with open(path, "w") as file:
                file.write(PAGE)
            for name, text in tables:
                every.write(path, name, text)
            with open(path) as file:
                return file.read()

    def test_only_what_is_between_the_marks_is_replaced(self):
        self.assertEqual(self.written(("big", "| new |")),
                         PAGE.replace("-->\nold\n<", "-->\n\n| new |\n\n<"))

    def test_writing_again_adds_nothing(self):
        once = self.written(("far", "| x |"), ("big", "| y |"))
        self.assertEqual(self.written(*[("far", "| x |"), ("big", "| y |")] * 2), once)

    def test_a_name_without_marks_is_missed(self):
        self.assertIsNone(every.between(PAGE, "small"))

    def test_the_page_has_marks_for_everything(self):
        with open(f"{HERE}/RESULTS.md") as file:
            page = file.read()
        for name in ["machine", *every.SYNC, *every.SERVICES]:
            self.assertIsNotNone(every.between(page, name), name)


class Goals(unittest.TestCase):
    def run_of(self, rival, **figures):
        return {"row": "small", "rival": rival} | figures

    def test_medians_are_compared(self):
        results = [self.run_of("ahoy", seconds=s) for s in (1.0, 1.2, 9.0)]
        results += [self.run_of("rsync", seconds=s) for s in (0.1, 1.0, 2.0)]
        self.assertEqual(goals.table("small", results)[2:],
                         ["| time, ahoy to rsync | 1 | 1.2 | missed |"])

    def test_what_was_not_measured_has_no_goals(self):
        self.assertEqual(goals.table("small", [self.run_of("rsync", seconds=1.0)]), [])

    def test_a_goal_without_a_rival_is_held_against_the_figure(self):
        results = [{"row": "move", "rival": "ahoy", "seconds": 0.3, "wire_kib": 9}]
        self.assertEqual([line.split(" | ")[-1] for line in goals.table("move", results)[2:]],
                         ["met |", "missed |"])


if __name__ == "__main__":
    unittest.main()
