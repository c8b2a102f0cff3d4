"""The same trajectory on any number of devices, in float64: a float32 would show its own rounding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COUNTS = (1, 2, 4, 8)
WITH_ALL = ("augment.elastic=1.0", "network.kernels=auto")

RUNS = [
    ("protonet", 50, ("train.support_turns=2", *WITH_ALL)),
    ("protonet", 50, ("train.episodes_per_step=1",)),
    ("softmax", 50, WITH_ALL),
    ("triplet", 50, ()),
    ("magnet", 50, ()),
    ("magnet", 50, ("mesh.divide_classes=True",)),
    ("repmet", 50, ()),
    ("repmet", 50, ("mesh.divide_classes=True", "loss.version=v1")),
    ("scenes", 50, ()),
    ("photographs", 50, ()),
]
SOME = [
    ("protonet", 50, ()),
    ("softmax", 50, ()),
    ("triplet", 50, ()),
    ("magnet", 50, ("mesh.divide_classes=True",)),
    ("repmet", 50, ()),
    ("scenes", 6, ()),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps", "fields"), SOME)
def test_parameters_are_equal_on_1_and_8_devices(name, steps, fields):
    check_equal(name, steps, (1, 8), fields)


@pytest.mark.campaign
@pytest.mark.parametrize(("name", "steps", "fields"), RUNS)
def test_parameters_are_equal_on_1_2_4_and_8_devices(name, steps, fields):
    check_equal(name, steps, COUNTS, fields)


def check_equal(name: str, steps: int, counts: tuple[int, ...], fields: tuple[str, ...]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.parallel.trajectories", name, str(steps), *map(str, counts), *fields],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_ENABLE_X64": "1"},
        timeout=1800,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert set(found) == set(map(str, counts[1:]))
    for count, of_count in found.items():
        assert of_count["kinds"] == ["float64"]
        assert of_count["moved"] > 1e-2
        assert of_count["distance"] < 1e-8, count
