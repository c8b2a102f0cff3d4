"""Processes made by fork after JAX computed: the threads it waits for are not in them.

A computation there would wait for ever. Nothing can mend a runtime that was copied without its threads, so
that whoever computes for an application asks first.
"""

from __future__ import annotations

import os
import threading

from jax._src import xla_bridge

from fsljax.errors import UserError

_runtime_was_copied = threading.Event()  # a fact about this process, which forks inherit


def check_not_forked() -> None:
    """Does nothing in a process in which JAX can compute.

    Raises:
      UserError: in a process made by fork from one in which JAX had computed.
    """
    if _runtime_was_copied.is_set():
        raise UserError(
            f"Process {os.getpid()} was forked after JAX had computed in its parent, and would hang: start "
            "worker processes with multiprocessing.get_context('spawn') (or 'forkserver'), or load the "
            "model in each worker and compute nothing before they are forked."
        )


def _note_copy() -> None:
    # Read without its lock, which a thread that is not in this process may hold.
    if getattr(xla_bridge, "_backends", True):
        _runtime_was_copied.set()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_copy)
