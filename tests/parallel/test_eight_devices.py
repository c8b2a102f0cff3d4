"""What needs several devices is tested in a process that has eight: a processor can have so many."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FLAG = "--xla_force_host_platform_device_count=8"
FILES = ("embedding", "episodes_by_devices", "kmeans_by_devices", "neighbours_by_devices")


def run_with_eight_devices(selected: str, *names: str) -> None:
    files = [str(Path(__file__).parent / "eight_devices" / f"test_{name}.py") for name in names]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", selected, *files],
        capture_output=True, text=True, env=os.environ | {"XLA_FLAGS": FLAG}, timeout=570,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


def test_all_but_steps():
    run_with_eight_devices("not slow", *FILES)


@pytest.mark.slow
def test_detection():
    run_with_eight_devices("slow", "detection")


def test_each_file_is_run_by_one_of_these():
    there = {path.stem for path in (Path(__file__).parent / "eight_devices").glob("test_*.py")}
    assert there == {f"test_{name}" for name in (*FILES, "detection", "steps_by_devices")}
