"""Whether freed memory stays with the process."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from fsljax.training.host_memory import keep_freed_memory

ROOT = Path(__file__).parents[2]
MEASURE = """
import psutil
def resident():
    return psutil.Process().memory_info().rss
before = resident()
buffer = b"x" * (100 << 20)
full = resident()
del buffer
print(full - before, resident() - before)
"""


def megabytes(preparation: str) -> tuple[float, float]:
    """What a buffer of 100 MiB adds to the process's memory, and what of it stays once it is freed."""
    done = subprocess.run(
        [sys.executable, "-c", preparation + MEASURE],
        capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip
    full, kept = (int(number) / (1 << 20) for number in done.stdout.split())
    return full, kept


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_a_large_buffer_stays_with_the_process_once_freed():
    full, kept = megabytes("")
    assert full > 90
    assert kept < 10
    full, kept = megabytes("from fsljax.training.host_memory import keep_freed_memory; keep_freed_memory()")
    assert full > 90
    assert kept > 90


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_another_system_is_left_alone(monkeypatch: pytest.MonkeyPatch, system: str):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.delattr(ctypes, "CDLL")
    keep_freed_memory()


def test_a_c_library_without_this_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    keep_freed_memory()
