"""Steps that several devices share: in a process that has eight."""

from __future__ import annotations

from .test_eight_devices import run_with_eight_devices


def test_steps():
    run_with_eight_devices("not slow", "steps_by_devices")
