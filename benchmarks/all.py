"""Runs every benchmark, one after the other: prints one table, and writes benchmarks/results.json.

    python benchmarks/all.py --peer_python=PATH [--only train_step kmeans]

PATH is an interpreter with PyTorch and torchvision; this one needs the extra [bench], and TFDS_DATA_DIR has
the data. Every side works in a process of its own, in turns. Let nothing else run meanwhile. With --only, the
other rows stay as they are in results.json. `python benchmarks/tables.py` then puts the tables into the
documentation.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import duel
import tables

AGAINST_PYTORCH = (
    "train_step", "evaluate", "magnet_step", "repmet_step", "detection_ops", "detector_inference",
    "detector_step",
)  # fmt: skip
SCRIPTS = (*AGAINST_PYTORCH[:4], "kmeans", "magnet_refresh", "start", *AGAINST_PYTORCH[4:])
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "faiss-cpu", "ott-jax")


def run(script: str, peer_python: str) -> list[dict[str, Any]]:
    """The rows of a benchmark, whose own tables are shown as it prints them."""
    path = Path(__file__).with_name(f"{script}.py")
    options = [f"--peer_python={peer_python}"] if script in AGAINST_PYTORCH else []
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "rows"
        environment = duel.with_modules() | {duel.RESULTS: str(results)}
        ended = subprocess.run([sys.executable, str(path), *options], env=environment)
        if ended.returncode or not results.exists():
            print(f"{script} failed: its rows stay as they are.", file=sys.stderr)
            return []
        here = {"date": datetime.date.today().isoformat(), "machine": machine(), "commit": commit()}
        return [{"script": script, **json.loads(line), **here} for line in results.read_text().splitlines()]


def machine() -> str:
    """The processor and how many cores of it there are."""
    model, about = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if about.exists():
        named = [line for line in about.read_text().splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    return f"{model}, {os.cpu_count()} cores"


def commit() -> str:
    """What was timed."""
    asked = ["git", "-C", str(duel.ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip()


def versions() -> dict[str, str]:
    """Of this interpreter and the packages that take part in it; peers tell of theirs themselves."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--peer_python", default=sys.executable, help="an interpreter with PyTorch")
    parser.add_argument("--only", nargs="*", choices=SCRIPTS, default=SCRIPTS, help="scripts to run")
    arguments = parser.parse_args()
    before = json.loads(tables.RESULTS.read_text())["rows"] if tables.RESULTS.exists() else []
    rows, ordered = {row["row"]: row for row in before}, before
    for script in arguments.only:
        print(f"\n== {script}", flush=True)
        rows |= {row["row"]: row for row in run(script, arguments.peer_python)}
        ordered = sorted(rows.values(), key=lambda row: SCRIPTS.index(row["script"]))
        # After each of them: whatever stops the next, what was measured is kept.
        tables.RESULTS.write_text(json.dumps({"versions": versions(), "rows": ordered}, indent=1) + "\n")
    print()
    duel.print_table(tables.HEADER, [tables.cells(row) for row in ordered])


if __name__ == "__main__":
    main()
