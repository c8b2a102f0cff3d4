"""The rounds themselves: a failure tells its seed."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).with_name("conftest.py")


@pytest.mark.parametrize("options, seeds", [((), "0 1 2"), (("--rounds=2", "--first_seed=7"), "7 8")])
def test_the_command_line_chooses_the_rounds(pytester: pytest.Pytester, options, seeds):
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyfile("def test_a(rounds):\n    assert ' '.join(map(str, rounds(3))) == 'none'")
    result = pytester.runpytest(*options)
    result.stdout.fnmatch_lines([f"*'{seeds}' == 'none'*"])


def test_a_failure_tells_its_seed_and_how_to_run_it_again(pytester: pytest.Pytester):
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyfile("def test_a(rounds):\n    for seed in rounds(9):\n        assert seed != 4")
    result = pytester.runpytest()
    result.stdout.fnmatch_lines(["*Run this round again*", "*test_a' --first_seed=4 --rounds=1"])


def test_minutes_are_divided_over_the_tests(pytester: pytest.Pytester):
    pytester.makeconftest(CONFTEST.read_text())
    body = "    import time\n    begin = time.monotonic()\n    count = sum(1 for _ in rounds(3))\n"
    body += "    assert count > 100 and 0.2 < time.monotonic() - begin < 0.5\n"
    pytester.makepyfile(f"def test_a(rounds):\n{body}\ndef test_b(rounds):\n{body}")
    pytester.runpytest("--minutes=0.01").assert_outcomes(passed=2)
