"""Rounds of a campaign: each has a seed, and a failure says which and how to run it again.

pytest -m campaign tests/campaign                      a sample of every kind, about a minute
pytest -m campaign tests/campaign --minutes=60         an hour, divided over the tests
pytest -m campaign tests/campaign -k NAME --rounds=1000 --first_seed=0
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest


class Rounds:
    """The seeds of one test: as many as it asks for, or as the command line does."""

    def __init__(self, first: int, count: int | None, seconds: float | None) -> None:
        self.seed: int | None = None
        self._first, self._count, self._seconds = first, count, seconds

    def __call__(self, sample: int) -> Iterator[int]:
        """Seeds, `sample` of them unless the command line asks for a number or for minutes."""
        end = None if self._seconds is None else time.monotonic() + self._seconds
        count = self._count if self._count is not None else (sample if end is None else None)
        self.seed = self._first
        while (count is None or self.seed < self._first + count) and (end is None or time.monotonic() < end):
            yield self.seed
            self.seed += 1


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("campaign")
    group.addoption("--rounds", type=int, help="rounds of each campaign test")
    group.addoption("--minutes", type=float, help="minutes for all campaign tests together")
    group.addoption("--first_seed", type=int, default=0, help="seed of the first round")


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Rounds:
    minutes = request.config.getoption("--minutes", None)
    tests = sum("rounds" in getattr(item, "fixturenames", ()) for item in request.session.items)
    found = Rounds(
        request.config.getoption("--first_seed", 0),
        request.config.getoption("--rounds", None),
        None if minutes is None else 60 * minutes / tests,
    )
    request.node.rounds = found
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    rounds = getattr(item, "rounds", None)
    if report.failed and rounds is not None and rounds.seed is not None:
        again = f"pytest -n 0 -m campaign '{item.nodeid}' --first_seed={rounds.seed} --rounds=1"
        report.sections.append(("Run this round again", again))
    return report
