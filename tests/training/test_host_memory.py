"""Whether freed memory stays with the process."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from fsljax.training.host_memory import keep_freed_memory, release_freed_memory

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
    full, kept = output_of(preparation + MEASURE)
    return full, kept


def output_of(program: str) -> list[float]:
    """The numbers of bytes that a program prints, in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip
    return [float(number) / (1 << 20) for number in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_a_large_buffer_stays_with_the_process_once_freed():
    full, kept = megabytes("")
    assert full > 90
    assert kept < 10
    full, kept = megabytes("from fsljax.training.host_memory import keep_freed_memory; keep_freed_memory()")
    assert full > 90
    assert kept > 90


FRAGMENTS = """
import psutil
from fsljax.training.host_memory import keep_freed_memory, release_freed_memory
keep_freed_memory()
resident = lambda: psutil.Process().memory_info().rss
buffers = [b"x" * (10 << 20) for _ in range(20)]
full = resident()
del buffers[1::2]  # gaps between what is still used
kept = resident()
release_freed_memory()
print(full - kept, kept - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_gaps_between_what_is_used_are_handed_back_when_asked():
    freed, released = output_of(FRAGMENTS)
    assert freed < 10
    assert released > 90


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_jax_computes_in_the_thread_that_asks():
    """A computation of a second is over when it was asked for; otherwise it has only begun then."""
    program = """
import time
from fsljax.training.host_memory import keep_freed_memory
KEEP
import jax, jax.numpy as jnp
product = jax.jit(lambda x: jax.lax.fori_loop(0, 40, lambda _, y: x @ y / 1000, x))
x = jnp.ones((1000, 1000))
product(x).block_until_ready()
began = time.perf_counter()
y = product(x)
asked = time.perf_counter()
y.block_until_ready()
print((1 << 20) * (asked - began), (1 << 20) * (time.perf_counter() - asked))
"""
    asking, waiting = output_of(program.replace("KEEP", "keep_freed_memory()"))
    assert asking > 10 * waiting
    asking, waiting = output_of(program.replace("KEEP", ""))
    assert waiting > asking


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_another_system_is_left_alone(monkeypatch: pytest.MonkeyPatch, system: str):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.delattr(ctypes, "CDLL")
    keep_freed_memory()


def test_a_c_library_without_this_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    keep_freed_memory()
    release_freed_memory()
