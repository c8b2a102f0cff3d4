"""How far a run is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TextIO

import rich.console
import rich.progress

_SECONDS_BETWEEN_LINES = 10.0
_NARROWEST_BAR = 20  # characters
_UPDATES_OF_A_SPEED = 20  # so many back, and not to the start: other programs come and go


class Progress:
    """Shows the steps of a training; use as a context manager.

    Args:
      total: steps of the run.
      done: steps that lie behind already.
      stream: where to; standard error by default.
      shown: False: nothing is.
    """

    def __init__(self, total: int, done: int = 0, stream: TextIO | None = None, *, shown: bool = True):
        self._shown = shown
        self._total, self._done = total, done
        self._stream = stream or sys.stderr
        self._console = rich.console.Console(file=self._stream)
        self._last_line = time.monotonic()
        self._marks = deque([(self._last_line, done)], maxlen=_UPDATES_OF_A_SPEED)
        self._figures: dict[str, float] = {}
        self._bar: rich.progress.Progress | None = None

    def __enter__(self) -> Progress:
        console = self._console
        if (
            self._shown
            and console.is_terminal
            and not console.is_dumb_terminal
            and console.width >= _NARROWEST_BAR
        ):
            columns = rich.progress
            self._bar = columns.Progress(
                columns.TextColumn("{task.description}"),
                columns.BarColumn(),
                columns.MofNCompleteColumn(),
                columns.TextColumn("{task.fields[figures]}"),
                columns.TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task("training", total=self._total, completed=self._done, figures="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Prints a line."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        elif self._shown:
            print(text, file=self._stream, flush=True)

    def start_clock(self) -> None:
        """Speed is counted from here: after compiling."""
        self._marks.clear()
        self._marks.append((time.monotonic(), self._done))

    def update(self, done: int, figures: dict[str, float], *, important: bool = False) -> None:
        """Reports `done` steps and the latest figures; an important report always gets its line."""
        self._done = done
        self._figures.update(figures)
        now = time.monotonic()
        began, start = self._marks[0]
        speed = (done - start) / (now - began) if now > began else 0.0
        self._marks.append((now, done))
        shown = "  ".join(f"{name} {_short(name, value)}" for name, value in self._figures.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=done, figures=f"{speed:.1f} steps/s  {shown}")
            return
        if important or now - self._last_line >= _SECONDS_BETWEEN_LINES or done == self._total:
            self._last_line = now
            left = _duration((self._total - done) / speed) if speed else "?"
            self.say(f"step {done}/{self._total}  {shown}  {speed:.1f} steps/s  {left} left")


def _short(name: str, value: float) -> str:
    return f"{100 * value:.1f} %" if "accuracy" in name else f"{value:.4g}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
