"""How the C library hands memory back to the system."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Makes glibc keep the large buffers that a training step frees, for the next step to use.

    By default every buffer above 32 MiB is fetched from the system and handed back at each step, and the
    page faults take as long as the arithmetic. On a CPU JAX then computes in the thread that asks for it: its
    buffers come from a heap of their own, in which no buffer of another thread splits a gap that the next
    step needs whole. With one heap for all threads a detector grew by a step's buffers, over a gigabyte,
    every few steps.

    For a whole process, so for programs, not for libraries to call; before threads start and before JAX's
    first computation. Does nothing where the C library is another.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)  # never
    mallopt(_M_TOP_PAD, 64 << 20)
    _compute_in_the_asking_thread()


def release_freed_memory() -> None:
    """Hands back to the system what is free now, wherever it lies: for after what is done seldom.

    Compilation and validation leave gigabytes free, in other pieces than the training step needs.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return
    trim(0)


def _compute_in_the_asking_thread() -> None:
    try:
        import jax
    except ImportError:  # a program that is compared with
        return
    jax.config.update("jax_cpu_enable_async_dispatch", False)
