"""Neighbours that devices look for are those that one finds."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from fsljax.evaluation import neighbours
from fsljax.evaluation.retrieval import nearest_neighbours
from fsljax.parallel.devices import Devices


@pytest.mark.parametrize("alone", [False, True])
def test_neighbours(alone: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(neighbours, "_FLOATS_A_BLOCK", 20_000)  # several blocks
    generator = np.random.default_rng(0)
    centres = 1000 * generator.integers(0, 3, (300, 1)) * np.ones(12)
    rows = (centres + 1e-3 * generator.normal(size=(300, 12))).astype(np.float32)  # float64 must decide
    queries, gallery = (rows, None) if alone else (rows[:101], rows[101:])
    devices = Devices(tuple(jax.devices()))
    ours = nearest_neighbours(queries, gallery, count=5, devices=devices)
    np.testing.assert_array_equal(ours, nearest_neighbours(queries, gallery, count=5))
    others = rows if alone else rows[101:]
    distances = np.square(queries[:, None].astype(np.float64) - others).sum(-1)
    if alone:
        np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(ours, np.argsort(distances, axis=1, kind="stable")[:, :5])
