"""Lines in a log, and a bar on a terminal."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from fsljax.training import progress
from fsljax.training.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that a test sets."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    return Terminal()


def test_a_log_gets_a_line_every_ten_seconds(clock: SimpleNamespace):
    log = io.StringIO()
    with Progress(1000, stream=log) as shown:
        for step in range(1, 26):
            clock.now += 1
            shown.update(step, {"loss": 1 / step})
    assert [line.split()[1] for line in log.getvalue().splitlines()] == ["10/1000", "20/1000"]


def test_it_moves_with_time_and_not_with_figures_alone(clock: SimpleNamespace):
    log = io.StringIO()
    with Progress(1000, stream=log) as shown:
        shown.compiling()
        clock.now += 7
        shown.compiled(1, {"loss": 0.5})
        for step in range(2, 27):
            clock.now += 1
            shown.moved(step)
    assert log.getvalue().splitlines() == [
        "compiling the training step …",
        "step 1/1000  loss 0.5  compiled in 7 s",
        "step 11/1000  loss 0.5  1.0 steps/s  16 min 29 s left",
        "step 21/1000  loss 0.5  1.0 steps/s  16 min 19 s left",
    ]


def test_a_bar_says_that_it_compiles_and_then_counts_every_step(clock: SimpleNamespace, terminal: Terminal):
    with Progress(40, stream=terminal) as shown:
        shown.compiling()
        assert shown._bar is not None and shown._bar.tasks[0].description == "compiling"
        shown.compiled(1, {"loss": 0.5})
        task = shown._bar.tasks[0]
        assert (task.description, task.completed) == ("training", 1)
        shown.moved(2)
        assert task.completed == 1  # ten times a second are enough
        clock.now += 0.2
        shown.moved(3)
        assert task.completed == 3


def test_important_reports_and_the_last_step_always_get_a_line(clock: SimpleNamespace):
    log = io.StringIO()
    with Progress(4, stream=log) as shown:
        for step in range(1, 5):
            clock.now += 0.1
            shown.update(step, {"loss": 0.5}, important=step == 2)
    assert [line.split()[1] for line in log.getvalue().splitlines()] == ["2/4", "4/4"]


def test_a_line_tells_figures_speed_and_the_time_that_is_left(clock: SimpleNamespace):
    log = io.StringIO()
    shown = Progress(1000, stream=log)
    clock.now += 5
    shown.update(10, {"loss": 0.123456, "accuracy": 0.98765}, important=True)
    line = "step 10/1000  loss 0.1235  accuracy 98.8 %  2.0 steps/s  8 min 15 s left\n"
    assert log.getvalue() == line


@pytest.mark.parametrize(
    ("total", "left"),
    [
        (11, "1 s"),
        (69, "59 s"),
        (70, "1 min 00 s"),
        (75, "1 min 05 s"),
        (3610, "1 h 00 min"),
        (7000, "1 h 56 min"),
    ],
)
def test_time_is_told_in_two_units_at_most(clock: SimpleNamespace, total: int, left: str):
    log = io.StringIO()
    shown = Progress(total, stream=log)
    clock.now += 10
    shown.update(10, {}, important=True)
    assert log.getvalue().endswith(f" {left} left\n")


def test_speed_is_that_of_this_run_after_compiling(clock: SimpleNamespace):
    log = io.StringIO()
    shown = Progress(1000, done=500, stream=log)
    clock.now += 60  # compiling
    shown.update(501, {})
    log.truncate(0)
    shown.start_clock()
    clock.now += 2
    shown.update(511, {}, important=True)
    assert "5.0 steps/s" in log.getvalue()


def test_the_speed_is_that_of_the_last_twenty_updates(clock: SimpleNamespace):
    log = io.StringIO()
    shown = Progress(10_000, stream=log)
    for step in range(1, 51):
        clock.now += 10 if step <= 30 else 1
        shown.update(step, {})
    log.truncate(0)
    shown.update(50, {}, important=True)
    assert "1.0 steps/s" in log.getvalue()


def test_before_the_clock_has_moved_the_time_left_is_unknown(clock: SimpleNamespace):
    log = io.StringIO()
    Progress(1000, stream=log).update(5, {}, important=True)
    assert log.getvalue().endswith("0.0 steps/s  ? left\n")


def test_figures_stay_until_newer_ones_come(clock: SimpleNamespace):
    log = io.StringIO()
    shown = Progress(100, stream=log)
    shown.update(10, {"loss": 0.5, "validation accuracy": 0.25}, important=True)
    shown.update(20, {"loss": 0.25}, important=True)
    assert "loss 0.25  validation accuracy 25.0 %" in log.getvalue().splitlines()[-1]


def test_a_log_holds_no_control_characters():
    log = io.StringIO()
    with Progress(3, stream=log) as shown:
        shown.say("compiling [bold]…")
        shown.update(3, {"loss": 0.5})
    assert log.getvalue().splitlines()[0] == "compiling [bold]…"
    assert "\x1b" not in log.getvalue()


def test_a_terminal_gets_a_bar_and_what_is_said_above_it(terminal: Terminal):
    with Progress(40, done=10, stream=terminal) as shown:
        shown.say("going on from [bold] step 10")
        shown.update(40, {"loss": 0.5, "accuracy": 0.75})
    written = terminal.getvalue()
    assert "going on from [bold] step 10" in written
    assert "40/40" in written
    assert "accuracy 75.0 %" in written
    assert "step 40/40" not in written  # no plain lines beside the bar


def test_a_bar_is_taken_down_when_a_run_fails(terminal: Terminal):
    with pytest.raises(RuntimeError), Progress(40, stream=terminal):
        raise RuntimeError
    hidden, shown = terminal.getvalue().rfind("\x1b[?25l"), terminal.getvalue().rfind("\x1b[?25h")
    assert shown > hidden >= 0  # the cursor is back


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("COLUMNS", "0"), ("COLUMNS", "1")])
def test_a_terminal_that_cannot_show_a_bar_gets_lines(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, name: str, value: str
):
    monkeypatch.setenv(name, value)
    with Progress(40, stream=terminal) as shown:
        shown.say("going on from step 10")
        shown.update(40, {"loss": 0.5})
    lines = terminal.getvalue().splitlines()
    assert lines[0] == "going on from step 10"
    assert lines[1].startswith("step 40/40  loss 0.5  ")
    assert "\x1b" not in terminal.getvalue()
