"""Runs over several processes: they start together, agree, and end together."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import jax

from fsljax.errors import UserError
from fsljax.parallel import quiet_start
from fsljax.parallel.agreement import (
    agreed,
    any_of,
    arrays_from_first,
    as_others_say,
    check_alike,
    count,
    from_first,
    gathered,
    index,
    is_first,
    together,
)
from fsljax.parallel.devices import UNASKED, prepare
from fsljax.parallel.meeting import call, place_of, receive, versions
from fsljax.parallel.watch import Watch

__all__ = ["agreed", "any_of", "arrays_from_first", "begin", "check_alike", "count", "end", "fail",
           "failures_told", "from_first", "gathered", "index", "is_first", "tell_stopped",
           "together"]  # fmt: skip

_WAIT = 120.0
_OF_OTHERS = ("gloo", "nccl", "coordination service", "heartbeat")
_SECONDS_OF_DOUBT = 2.0
_SECONDS_OF_SILENCE = 110.0

_watches: list[Watch] = []  # one at most: connections live as long as the process


def begin(
    coordinator: str,
    processes: int | None = None,
    process: int | None = None,
    *,
    devices: int = UNASKED,
    wait: float = _WAIT,
    say: Callable[[str], None] | None = None,
) -> None:
    """Starts a run over several processes; call it before anything else uses a device.

    Args:
      coordinator: HOST:PORT of process 0, or "auto": detected from the cluster (SLURM, Open MPI, Kubernetes,
        Cloud TPU) by `jax.distributed`.
      processes: number of processes; None with "auto".
      process: index of this process, from 0; None with "auto".
      devices: number of devices of all processes, as in `config.mesh.devices`.
      wait: seconds to wait for the others.
      say: function that prints a message immediately, from any thread; None: print to standard error.

    Raises:
      UserError: if the arguments are inconsistent, or the processes do not find each other or differ.
    """
    visible: Sequence[int] | None = None
    if coordinator == "auto":
        if processes is not None or process is not None:
            raise UserError(
                "--coordinator=auto takes the number of processes and the index of this one from the "
                "cluster: leave out --processes and --process, or give --coordinator=HOST:PORT."
            )
        coordinator, processes, process, visible = quiet_start.of_the_cluster(wait)
    if processes is None or process is None:
        missing = "--processes" if processes is None else "--process"
        raise UserError(
            f"{missing} is missing: several processes need --coordinator=HOST:PORT --processes=N "
            "--process=I, I from 0 to N - 1, or --coordinator=auto on a cluster."
        )
    if processes < 1:
        raise UserError(f"--processes={processes} is not a number of processes: give 1 or more.")
    if not 0 <= process < processes:
        raise UserError(
            f"--process={process} is not one of the {processes} processes: they are numbered 0 to "
            f"{processes - 1}."
        )
    place = place_of(coordinator)
    if processes == 1:
        return
    prepare(devices, processes)
    say = say or _say
    facts = versions()
    if process == 0:
        meeting = receive(place, processes, facts, wait, say)
    else:
        meeting = call(place, processes, process, facts, wait, say)
    watch = Watch(process, meeting.connections, lambda sentence: say(f"fsljax: {sentence}"))
    _watches.append(watch)
    with _failures_told(watch):
        quiet_start.initialize(place, processes, process, visible, meeting.address, max(wait, 60.0))
        with quiet_start.nothing_on_standard_output():
            gathered(process)  # gloo wants it within 30 seconds of the first; loading data may take longer


def end() -> None:
    """Waits until all processes have finished, and disconnects them."""
    for watch in _watches:
        if not watch.finish():  # jax's own goodbye would wait for those that are gone
            _flush()
            os._exit(0)
        jax.distributed.shutdown()
        watch.close()
    _watches.clear()


def fail(sentence: str, status: int) -> None:
    """Ends this process and all others; does nothing if there are no others.

    Args:
      sentence: the reason, shown to the user.
      status: the exit status.
    """
    for watch in _watches:
        _leave(watch, f"fsljax: {sentence}\n", as_others_say(watch.index, sentence), status)


def tell_stopped() -> None:
    """Tells the other processes that this one is being stopped immediately, so that they end too."""
    for watch in _watches:
        watch.tell(
            f"Process {watch.index} of this run was stopped, and all others with it. To continue, run the "
            "same command again on all hosts.",
            0,
            at_once=True,
        )


@contextlib.contextmanager
def failures_told() -> Iterator[None]:
    """Context in which an unexpected error ends all processes, with a message if another one caused it.

    Output of processes other than process 0 is not shown.
    """
    if not _watches:
        yield
        return
    with _failures_told(_watches[0]), contextlib.ExitStack() as stack:
        if not is_first():
            nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


@contextlib.contextmanager
def _failures_told(watch: Watch) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        text = str(error).lower()
        watch.explains(_SECONDS_OF_SILENCE if any(word in text for word in _OF_OTHERS) else _SECONDS_OF_DOUBT)
        reason = quiet_start.first_line_of(error)
        sentence = f"it failed with {type(error).__name__} ({reason}): see its output for details."
        _leave(watch, traceback.format_exc(), as_others_say(watch.index, sentence), 1)


def _leave(watch: Watch, own: str, others: str, status: int) -> NoReturn:
    """Ends without jax's own goodbye, which would wait for the others for minutes."""
    if not watch.claims_the_end():
        while True:  # the other thread is about to end the process
            time.sleep(1)
    watch.tell(others, status)
    sys.stderr.write(own)
    _flush()
    time.sleep(0.1)  # a connection that is closed with words unread may lose those sent
    os._exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _say(sentence: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{sentence}\n".encode())
