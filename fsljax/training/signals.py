"""Signals that ask a run to stop: SIGTERM, and Ctrl-C."""

from __future__ import annotations

import signal
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """A run was asked to stop."""


class Interruption:
    """Notes a request to stop, for a loop to see; a second request, or one outside a loop, raises `Stopped`.

    Use as a context manager: on leaving, the handlers from before are back.
    """

    def __init__(self) -> None:
        self.requested = False
        self.polled = False  # whether a loop looks at `requested`

    def __enter__(self) -> Interruption:
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        at_once = self.requested or not self.polled
        self.requested = True
        if at_once:
            raise Stopped

    def check(self) -> None:
        """Raises `Stopped` if it was asked for: what a handler raises may be lost inside a library."""
        if self.requested:
            raise Stopped
