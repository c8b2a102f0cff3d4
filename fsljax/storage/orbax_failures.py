"""Failures of orbax that reach its caller as one exception, without logs and without reads left behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import shutil
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from orbax.checkpoint._src import asyncio_utils

Result = TypeVar("Result")

_MOST_SECONDS = 60.0
_FULL = ("RESOURCE_EXHAUSTED", "No space left")


@contextlib.contextmanager
def only_raised() -> Iterator[None]:
    """Within it, orbax does not log with a stack trace what it raises anyway."""
    logger = logging.getLogger("absl")

    def unlogged(record: logging.LogRecord) -> bool:
        return not (record.exc_info and f"{os.sep}orbax{os.sep}" in record.pathname)

    logger.addFilter(unlogged)
    try:
        yield
    finally:
        logger.removeFilter(unlogged)


def reason_of(error: Exception) -> str:
    """Why orbax failed, in a few words."""
    text = str(error)
    if any(sign in text for sign in _FULL):
        return os.strerror(errno.ENOSPC)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (text or type(error).__name__).splitlines()[0][:200]


def remove_remains(folder: Path, step: int) -> None:
    """Removes what is there of a checkpoint that could not be written, once nothing more will be."""
    for thread in threading.enumerate():
        if type(thread).__module__.startswith("orbax."):  # after one has failed, it does not wait for others
            threading.Thread.join(thread, _MOST_SECONDS)  # its own would raise what the thread did
    for remains in (folder / str(step), *folder.glob(f"{step}.orbax-checkpoint-tmp*")):
        shutil.rmtree(remains, ignore_errors=True)


def _run_to_the_end(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine, and what it began, in a loop of its own.

    After a failure orbax closes the loop while its other reads and writes go on; as they end, each prints
    that the loop is closed, with a stack trace.
    """
    begun: list[asyncio.Task[Any]] = []

    def begin(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **options)
        begun.append(task)
        return task

    loop = asyncio.new_event_loop()
    loop.set_task_factory(begin)
    try:
        asyncio.set_event_loop(loop)
        try:
            return loop.run_until_complete(work)
        finally:
            unfinished = [task for task in begun if not task.done()]
            if unfinished:
                loop.run_until_complete(asyncio.wait(unfinished, timeout=_MOST_SECONDS))
            for task in begun:
                if task.done() and not task.cancelled():
                    task.exception()  # asked for, so that it is not told as never having been
    finally:
        asyncio.set_event_loop(None)
        loop.close()


if hasattr(asyncio_utils, "_run_sync_via_new_loop"):
    asyncio_utils._run_sync_via_new_loop = _run_to_the_end
