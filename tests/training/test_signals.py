"""Requests to stop, sent by real signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from fsljax.training.signals import Interruption, Stopped

SIGNALS = [signal.SIGTERM, signal.SIGINT]


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
