"""How far a run is, a bar on a terminal and plain lines elsewhere, and whether it still gets better."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from typing import TextIO

import rich.console
import rich.progress

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_MOVES = 0.1  # of the bar
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
        self._last_line = self._last_move = time.monotonic()
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
            self._task = self._bar.add_task("preparing", total=self._total, completed=self._done, figures="")
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

    def compiling(self) -> None:
        """Says that the training step is compiled now."""
        self._marks[-1] = (time.monotonic(), self._done)
        self.say("compiling the training step …")
        self._describe("compiling")

    def start_clock(self) -> None:
        """Speed is counted from here: after compiling."""
        self._marks.clear()
        self._marks.append((time.monotonic(), self._done))

    def compiled(self, done: int, figures: dict[str, float]) -> None:
        """Reports that the first steps of this process are done, after which speed is counted."""
        seconds = time.monotonic() - self._marks[-1][0]
        self._done = done
        self._figures.update(figures)
        self._describe("training")
        self._last_line = time.monotonic()
        self._move(self._last_line)
        if self._bar is None and done < self._total:
            self.say(f"step {done}/{self._total}  {self._shown_figures()}  compiled in {_duration(seconds)}")
        self.start_clock()

    def moved(self, done: int) -> None:
        """Notes that steps are done, and shows it from time to time: it may be called at every step."""
        self._done = done
        now = time.monotonic()
        if self._bar is not None and now - self._last_move >= _SECONDS_BETWEEN_MOVES:
            self._move(now)
        elif self._bar is None and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._line(now)

    def update(self, done: int, figures: dict[str, float], *, important: bool = False) -> None:
        """Reports `done` steps and the latest figures; an important report always gets its line."""
        self._done = done
        self._figures.update(figures)
        now = time.monotonic()
        if self._bar is not None:
            self._move(now)
        elif important or now - self._last_line >= _SECONDS_BETWEEN_LINES or done == self._total:
            self._line(now)
        self._marks.append((now, done))

    def _describe(self, doing: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=doing)

    def _move(self, now: float) -> None:
        self._last_move = now
        if self._bar is not None:
            shown = f"{self._speed(now):.1f} steps/s  {self._shown_figures()}"
            self._bar.update(self._task, completed=self._done, figures=shown)

    def _line(self, now: float) -> None:
        self._last_line = now
        speed = self._speed(now)
        left = _duration((self._total - self._done) / speed) if speed else "?"
        self.say(
            f"step {self._done}/{self._total}  {self._shown_figures()}  {speed:.1f} steps/s  {left} left"
        )

    def _speed(self, now: float) -> float:
        began, start = self._marks[0]
        return (self._done - start) / (now - began) if now > began else 0.0

    def _shown_figures(self) -> str:
        return "  ".join(f"{name} {_short(name, value)}" for name, value in self._figures.items())


class Patience:
    """Ends a training that gets no better; a validation as good as the best is no better.

    Attributes:
      limit: validations in a row without a new best; 0: it never ends one.
      since: how many there were.
    """

    def __init__(self, limit: int):
        self.limit, self.since = limit, 0
        self._best = -math.inf

    def note(self, figure: float) -> None:
        """Takes the figure of a validation; the higher, the better."""
        self.since = 0 if figure > self._best else self.since + 1
        self._best = max(self._best, figure) if figure == figure else self._best

    @property
    def is_over(self) -> bool:
        return 0 < self.limit <= self.since

    def __str__(self) -> str:
        return f"no validation was better than {self._best:.4g} in the last {self.since}"


def _short(name: str, value: float) -> str:
    return f"{100 * value:.1f} %" if "accuracy" in name else f"{value:.4g}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
