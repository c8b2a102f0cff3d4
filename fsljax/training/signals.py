"""Signals that ask a run to stop: Ctrl-C, SIGTERM, and the end of its terminal."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import psutil

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(BaseException):
    """A run was asked to stop."""


class Interruption:
    """Notes a request to stop, for a loop to see; a second request, or one where no loop looks, ends at once.

    Use as a context manager, or between `start` and `stop`: after it the handlers from before are back. Only
    the main thread can have it otherwise than idle. A program that was started by nohup goes on without its
    terminal.

    Args:
      end: ends the program at once, and does not return. A thread of its own calls it: the main one may be in
        a long compilation, or in a callback that swallows whatever is raised. None: `Stopped` is raised
        instead, in the main thread; where it may have been swallowed, `check` raises it again.
    """

    def __init__(self, end: Callable[[], None] | None = None) -> None:
        self.requested = False
        self.polled = False  # whether a loop looks at `requested`
        self._end = end
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
        self._wakeup: socket.socket | None = None

    def __enter__(self) -> Interruption:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Interruption:
        """Puts the handlers in place."""
        if threading.current_thread() is not threading.main_thread():
            return self
        handler: Callable[[int, FrameType | None], object] = self._raise
        if self._end is not None:
            self._listen()
            handler = _leave_to_the_listener
        for number in SIGNALS:
            if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, handler)
        return self

    def stop(self) -> None:
        """Puts the handlers from before in place."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}
        if self._wakeup is not None:
            signal.set_wakeup_fd(-1)
            self._wakeup.close()
            self._wakeup = None

    def check(self) -> None:
        """Raises `Stopped` if it was asked for: what a handler raises may be lost inside a library."""
        if self.requested:
            raise Stopped

    def _note(self) -> bool:
        """Whether to end at once."""
        second, self.requested = self.requested, True
        # Read after `requested` is set: a loop that ends just now sees the one, or is seen by the other.
        return second or not self.polled

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self._note():
            raise Stopped

    def _listen(self) -> None:
        receiver, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._end_when_asked, args=(receiver,), daemon=True).start()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.stop)  # the thread is not there

    def _end_when_asked(self, receiver: socket.socket) -> None:
        assert self._end is not None
        with receiver:
            while received := receiver.recv(1):
                if received[0] in SIGNALS and self._note():
                    self._end()


def say_at_once(text: str) -> None:
    """Writes to standard error past all buffers, whose locks another thread may hold, and without waiting."""
    bar = os.isatty(2) and os.environ.get("TERM", "dumb") != "dumb"
    shown = f"\x1b[?25h\n{text}\n" if bar else f"{text}\n"  # a bar has hidden the cursor
    with contextlib.suppress(OSError):
        if os.name == "nt" or select.select([], [2], [], 0)[1]:
            os.write(2, shown.encode(sys.stderr.encoding or "ascii", "backslashreplace"))


def _leave_to_the_listener(number: int, frame: FrameType | None) -> None:
    pass


@contextlib.contextmanager
def handled_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Handles requests to stop for a while; in a thread other than the main one they are left alone."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in SIGNALS if is_main}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)


def run_program(command: Sequence[str]) -> int:
    """Exit status of a program that requests to stop are handed on to.

    Raises:
      Stopped: if there was one; the program has ended.
    """
    requests = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        requests.append(number)
        for child in psutil.Process().children():
            child.terminate()

    # A group of its own: Ctrl-C must reach it once, from here, for after a second request it saves nothing.
    group = {"process_group": 0} if os.name == "posix" else {}
    with handled_by(hand_on):
        done = subprocess.run(  # type: ignore[call-overload]
            command, stdout=subprocess.DEVNULL, check=False, **group
        )
    if requests:
        raise Stopped
    status: int = done.returncode
    return status
