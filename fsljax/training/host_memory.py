"""How the C library hands memory back to the system."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> None:
    """Makes glibc keep the large buffers that a training step frees, for the next step to use.

    By default every buffer above 32 MiB is fetched from the system and handed back at each step, and the
    page faults take as long as the arithmetic. For a whole process, so for programs, not for libraries to
    call; before threads start. Does nothing where the C library is another.
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
    mallopt(_M_ARENA_MAX, 1)
