"""What needs several devices is tested in a process that has eight: a processor can have so many."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FLAG = "--xla_force_host_platform_device_count=8"


def run_with_eight_devices(selected: str) -> None:
    folder = Path(__file__).parent / "eight_devices"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", selected, str(folder)],
        capture_output=True, text=True, env=os.environ | {"XLA_FLAGS": FLAG}, timeout=570,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


def test_quick_ones():
    run_with_eight_devices("not slow")


@pytest.mark.slow
def test_slow_ones():
    run_with_eight_devices("slow")
