"""Runs the rows of `on_gpu.sh`, each in a process and a time limit of its own, and puts them into one table.

    python benchmarks/gpu_table.py --output=PATH

The rows of a group start and compile side by side, which takes most of their time; then they measure in
turns, one at a time. A row whose process fails, or runs out of its time, says so in one line, and the rest
goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import queue
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duel
from gpu_rows import GROUPS, TURNS, Row

BENCHMARKS = duel.ROOT / "benchmarks"
TURN_LIMIT = 15  # seconds
AS_IT_IS = ("inertia", "images a second")  # figures that are no seconds
NOT_SHOWN = ("megabytes",)
# Several processes share the device's memory, and what XLA tuned for one it need not tune for another.
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(
        [str(duel.ROOT), str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])]
    ),
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "TORCHINDUCTOR_COMPILE_THREADS": "4",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
}


class Process:
    """A row's process.

    Attributes:
      row: what it measures.
      about: what it told of itself when it was ready.
      turns: what it measured.
      trouble: why it measures no longer; empty: it does.
    """

    def __init__(self, row: Row, environment: dict[str, str]):
        self.row = row
        self.about: dict[str, Any] = {}
        self.turns: list[dict[str, float]] = []
        self.trouble = ""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, str(BENCHMARKS / row.command[0]), *row.command[1:]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            text=True, start_new_session=True, env=environment,
        )  # fmt: skip
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                self._answers.put(json.loads(line))
        self._answers.put(None)

    def _answer(self, seconds: float, what: str) -> dict[str, Any]:
        """Its next answer; empty, with the trouble told, where none comes."""
        try:
            answer = self._answers.get(timeout=max(seconds, 0.0))
        except queue.Empty:
            self.trouble = f"ran out of its {what}"
            return {}
        if answer is None:
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            self.trouble = f"failed: {(lines or ['nothing said'])[-1][:200]}"
        return answer or {}

    def wait(self, began: float) -> None:
        """Until it is ready, or its limit is over."""
        self.about = self._answer(began + self.row.limit - time.monotonic(), f"{self.row.limit} s")

    def measure(self) -> None:
        if self.trouble:
            return
        assert self._process.stdin is not None
        print("measure", file=self._process.stdin, flush=True)
        if answer := self._answer(TURN_LIMIT, f"{TURN_LIMIT} s a turn"):
            self.turns.append(answer)

    def end(self) -> None:
        """Ends it, and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def entries(self) -> list[dict[str, Any]]:
        """Its figures, as the table has them."""
        figures = [name for name in self.turns[0] if name not in NOT_SHOWN] if self.turns else []
        values = {figure: [turn[figure] for turn in self.turns] for figure in figures}
        return [
            {
                "work": self.row.work, "who": self.row.who, "figure": figure,
                "value": statistics.median(of), "least": min(of), "most": max(of),
                "unit": "" if figure.startswith(AS_IT_IS) else "s", "version": self.about["version"],
            }
            for figure, of in values.items()
        ]  # fmt: skip


def measured(rows: list[Row], environment: dict[str, str], beside: Callable[[], object]) -> list[Process]:
    """Starts all rows of a group, and lets them measure in turns when all are ready and `beside` is over."""
    began = time.monotonic()
    processes = [Process(row, environment) for row in rows]
    for process in processes:
        process.wait(began)
        if process.trouble:
            process.end()
    beside()
    for turn in range(TURNS):
        for process in processes:
            if turn < process.row.turns:
                process.measure()
    for process in processes:
        process.end()
    return processes


def tested(environment: dict[str, str], limit: float) -> str:
    """What pytest says in the end of the tests that need an accelerator."""
    tests = (duel.ROOT / "tests").rglob("test_*.py")
    files = sorted(str(path) for path in tests if "mark.gpu" in path.read_text())
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "gpu", *files]
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, env=environment, cwd=duel.ROOT
        )
    except subprocess.TimeoutExpired:
        return f"ran out of their {limit:.0f} s"
    return (run.stdout.strip().splitlines() or ["nothing said"])[-1]


def about() -> dict[str, Any]:
    """The machine and what runs on it."""
    versions = {}
    for name in ("jax", "jaxlib", "flax", "torch", "torchvision", "numpy"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        gpu = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        gpu = "none"
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine, "gpu": gpu,
        "python": platform.python_version(), "versions": versions,
    }  # fmt: skip


def shown(entry: dict[str, Any]) -> list[str]:
    def text(value: float) -> str:
        if entry["unit"] == "s":
            return duel.milliseconds(value) if value < 10 else f"{1000 * value:.0f}"
        return f"{value:.6g}" if entry["figure"] == "inertia" else f"{value:,.0f}"

    unit = "ms" if entry["unit"] == "s" else ""
    spread = f"{text(entry['least'])} – {text(entry['most'])}"
    return [entry["work"], entry["who"], entry["figure"], text(entry["value"]), unit, spread]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, default=BENCHMARKS / "gpu_results.json")
    parser.add_argument("--seconds", type=float, default=300, help="after which no further group begins")
    parser.add_argument("--only", default="", help="regular expression that work and who must match")
    parser.add_argument("--no_tests", action="store_true")
    arguments = parser.parse_args()
    began = time.monotonic()
    result = about()
    entries: list[dict[str, Any]] = []
    troubles: list[str] = []
    with tempfile.TemporaryDirectory() as cache:
        environment = {"JAX_COMPILATION_CACHE_DIR": cache} | os.environ | ENVIRONMENT
        tests = threading.Thread(target=lambda: result.update(tests=tested(environment, 60)))
        if not arguments.no_tests:
            tests.start()
        for group in GROUPS:
            rows = [row for row in group if re.search(arguments.only, f"{row.work}, {row.who}")]
            if time.monotonic() - began > arguments.seconds:
                troubles += [f"{row.work}, {row.who}: left out, the time is over" for row in rows]
                continue
            for process in measured(rows, environment, tests.join if tests.ident else lambda: None):
                entries += process.entries()
                if process.trouble:
                    troubles.append(f"{process.row.work}, {process.row.who}: {process.trouble}")
                    print(troubles[-1], file=sys.stderr)
            print(f"{len(rows)} rows, {time.monotonic() - began:.0f} s so far", file=sys.stderr, flush=True)
            result |= {"rows": entries, "troubles": troubles, "seconds": round(time.monotonic() - began)}
            arguments.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    result |= {"rows": entries, "troubles": troubles, "seconds": round(time.monotonic() - began)}
    arguments.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    duel.print_table(
        ["work", "by", "figure", "median", "", "least – most"], [shown(entry) for entry in entries]
    )
    print("\n".join(troubles))
    print({name: value for name, value in result.items() if name not in ("rows", "troubles")})


if __name__ == "__main__":
    main()
