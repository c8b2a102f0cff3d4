"""Times programs in turns: each in a process of its own, one running while the others wait."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TUNED = "freed memory kept"  # a peer whose C library is told what fsljax tells its own
ROOT = Path(__file__).parents[1]
RESULTS = "FSLJAX_BENCHMARK_RESULTS"
"""Variable that names a file to which results are added, a line of JSON each; `benchmarks/all.py` sets it."""


@dataclass
class Contestant:
    """A program that is timed.

    Attributes:
      name: as shown.
      command: starts a process that calls `serve`.
      beside: commands of others that start and measure when it does; the longest time of all counts.
      rounds: what each turn measured, `{figure: value}`.
      about: what the process told of itself when it was ready.
    """

    name: str
    command: list[str]
    beside: list[list[str]] = field(default_factory=list)
    rounds: list[dict[str, float]] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    def median(self, figure: str) -> float:
        return statistics.median(turn[figure] for turn in self.rounds)

    def spread(self, figure: str) -> tuple[float, float]:
        values = [turn[figure] for turn in self.rounds]
        return min(values), max(values)


def with_modules() -> dict[str, str]:
    """The environment of a process that finds fsljax and the benchmarks, whatever is installed in it."""
    paths = [str(ROOT), str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def run(contestants: list[Contestant], rounds: int) -> list[Contestant]:
    """Starts all, then lets them measure in turns.

    Returns:
      those that could start; why another could not is told on standard error.
    """
    environment = with_modules()
    started: list[tuple[Contestant, list[subprocess.Popen[str]]]] = []
    for contestant in contestants:
        print(f"starting {contestant.name} …", file=sys.stderr, flush=True)
        processes = [
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
            for command in (contestant.command, *contestant.beside)
        ]
        about = [_answer(process) for process in processes]
        if about[0] is None or None in about:
            print(f"{contestant.name} cannot run here and is left out.", file=sys.stderr)
            for process in processes:
                process.kill()
            continue
        contestant.about = about[0]
        started.append((contestant, processes))
    for turn in range(rounds):
        for contestant, processes in started:
            for process in processes:
                assert process.stdin is not None
                print("measure", file=process.stdin, flush=True)
            measured = [_answer(process) for process in processes]
            if None in measured:
                sys.exit(f"{contestant.name} ended in turn {turn + 1}.")
            values = [answer for answer in measured if answer is not None]
            contestant.rounds.append({name: max(of[name] for of in values) for name in values[0]})
        print(f"turn {turn + 1} of {rounds}", file=sys.stderr, flush=True)
    for _, processes in started:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in processes:
            process.wait()
    return [contestant for contestant, _ in started]


def _answer(process: subprocess.Popen[str]) -> dict[str, Any] | None:
    """The next line that is an answer; None if the process ended. Other lines are its libraries' talk."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    return None


def serve(measure: Callable[[], dict[str, float]], about: dict[str, Any]) -> None:
    """Tells that all is compiled and warm, then measures whenever it is asked to."""
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure()), flush=True)


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def ratio(ours: Contestant, peer: Contestant, figure: str) -> float:
    """The peer's time over ours, the median over turns: turns are near in time, and so is the noise."""
    return statistics.median(
        theirs[figure] / mine[figure] for mine, theirs in zip(ours.rounds, peer.rounds, strict=True)
    )


def best_peer(contestants: list[Contestant], figure: str) -> Contestant:
    """The fastest program that is neither ours nor tuned with our own means."""
    peers = [c for c in contestants if "fsljax" not in c.name and TUNED not in c.name]
    if not peers:
        sys.exit("No peer could run: name an interpreter with PyTorch, --peer_python=PATH.")
    return min(peers, key=lambda peer: peer.median(figure))


def record(
    row: str, contestants: list[Contestant], figure: str, *, amount: float = 0, unit: str = ""
) -> None:
    """Adds a row to the results of `benchmarks/all.py`, if that runs this program.

    Args:
      row: what was timed.
      contestants: of whom one is fsljax.
      figure: seconds that they measured; who did not is left out.
      amount: what is done in these seconds, where the row tells of so much a second.
      unit: of the amount.
    """
    able = [one for one in contestants if figure in one.rounds[0]]
    ours = next(one for one in able if one.name == "fsljax")
    sides = []
    for one in able:
        least, most = one.spread(figure)
        seconds = {"median": one.median(figure), "least": least, "most": most}
        behind = {} if one is ours else {"ratio": ratio(ours, one, figure)}
        sides.append({"name": one.name, **seconds, **behind, "version": one.about.get("version", "")})
    write_result({"row": row, "amount": amount, "unit": unit, "sides": sides})


def record_alone(row: str, seconds: list[float]) -> None:
    """Adds a row that no peer has to the results of `benchmarks/all.py`."""
    side = {"median": statistics.median(seconds), "least": min(seconds), "most": max(seconds)}
    write_result({"row": row, "amount": 0, "unit": "", "sides": [{"name": "fsljax", **side, "version": ""}]})


def write_result(result: dict[str, Any]) -> None:
    """Adds a line to the results that `benchmarks/all.py` collects, if that runs this program."""
    if path := os.environ.get(RESULTS):
        with Path(path).open("a") as file:
            print(json.dumps(result), file=file)


def milliseconds(seconds: float) -> str:
    """Three digits of them, without an exponent."""
    return f"{1000 * seconds:.{max(0, 2 - math.floor(math.log10(1000 * seconds)))}f}"


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Prints aligned columns, the first to the left and numbers to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, ["─" * width for width in widths], *rows]:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells[1:]]))
