"""Requests to stop, sent by real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from fsljax.training.signals import Interruption, Stopped

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.fixture(autouse=True)
def safe_handlers() -> Iterator[None]:
    """Were a handler missing, a signal must not end the test session."""

    def fail(number: int, _: object) -> None:
        raise AssertionError(f"signal {number} reached the handler from before")

    before = {number: signal.signal(number, fail) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_polled_request_is_noted_for_the_loop_to_see(number: signal.Signals):
    with Interruption() as interruption:
        interruption.polled = True
        assert not interruption.requested
        os.kill(os.getpid(), number)
        assert interruption.requested


@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_request_stops_at_once(second: signal.Signals):
    with Interruption() as interruption:
        interruption.polled = True
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped):
            os.kill(os.getpid(), second)


@pytest.mark.parametrize("number", SIGNALS)
def test_where_no_loop_looks_a_request_stops_at_once(number: signal.Signals):
    with pytest.raises(Stopped), Interruption():
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_handlers_from_before_come_back(number: signal.Signals):
    before = signal.getsignal(number)
    with pytest.raises(KeyError), Interruption():
        assert signal.getsignal(number) is not before
        raise KeyError
    assert signal.getsignal(number) is before


def test_code_that_handles_every_exception_does_not_swallow_a_stop():
    assert not issubclass(Stopped, Exception)


PROGRAM = """
import gc, hashlib, os, signal, sys, time
from fsljax.training.signals import Interruption

def end():
    os.write(1, b"ended\\n")
    os._exit(7)

interruption = Interruption(end).start()
"""


def run(body: str, **options: object) -> subprocess.CompletedProcess[str]:
    """A program whose end is a function's."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM + body],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **options,
    )


@pytest.mark.parametrize(
    "body",
    [
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(20)",
        "os.kill(os.getpid(), signal.SIGHUP); time.sleep(20)",
        # Where an exception would be swallowed.
        "def callback(*_): os.kill(os.getpid(), signal.SIGINT); time.sleep(20)\\n"
        "gc.callbacks.append(callback); gc.collect()",
        "class Held:\\n    def __del__(self): os.kill(os.getpid(), signal.SIGINT); time.sleep(20)\\nHeld()",
        "try:\\n    os.kill(os.getpid(), signal.SIGTERM); time.sleep(20)\\nexcept BaseException: pass",
        "import atexit; atexit.register(lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(20)))",
        # Where Python's own handlers would have to wait: in a library's long call.
        "import threading\\n"
        "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start(); "
        "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",
        # The second of two.
        "interruption.polled = True\\n"
        "for _ in range(2): os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.5)",
    ],
)
def test_a_program_ends_at_once(body: str):
    began = time.monotonic()
    done = run(body.replace("\\n", "\n"))
    assert (done.returncode, done.stdout, done.stderr) == (7, "ended\n", "")
    assert time.monotonic() - began < 15


def test_a_program_goes_on_to_where_its_loop_looks():
    body = "interruption.polled = True; os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.5)\n"
    done = run(f"{body}print(interruption.requested)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_a_process_that_was_forked_off_a_program_can_be_ended():
    body = "child = os.fork()\nif not child: time.sleep(20); os._exit(0)\n"
    done = run(f"{body}time.sleep(0.5); os.kill(child, signal.SIGTERM); print(os.waitpid(child, 0)[1])")
    assert (done.returncode, done.stdout, done.stderr) == (0, "15\n", "")


def test_under_nohup_the_end_of_the_terminal_is_no_request():
    body = "os.kill(os.getpid(), signal.SIGHUP); time.sleep(0.5); print('done')"
    done = subprocess.run(
        ["nohup", sys.executable, "-c", PROGRAM + body],
        capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_in_another_thread_nothing_is_heard():
    failures = []

    def enter() -> None:
        try:
            with Interruption():
                pass
        except ValueError as error:  # Python's, for a handler that is set there
            failures.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert not failures
