"""Checks of given arrays, and blocks of one shape."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from fsljax.errors import UserError
from fsljax.evaluation.arrays import checked_labels, checked_rows, in_blocks


@pytest.mark.parametrize("size", [1, 3, 7, 10, 25])
def test_blocks_give_what_the_whole_gives_and_are_compiled_once(size: int):
    rows, weights = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32), np.arange(10.0)
    shapes = []

    @jax.jit
    def function(block: jax.Array, of_block: jax.Array) -> dict[str, jax.Array]:
        shapes.append(block.shape)
        return {"sum": block.sum(axis=1) * of_block, "square": block**2}

    found = np.full(10, np.nan)
    squares = np.full((10, 4), np.nan)
    for where, results in in_blocks(function, rows, weights, size=size):
        found[where], squares[where] = results["sum"], results["square"]
    np.testing.assert_allclose(found, rows.sum(axis=1) * weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(squares, rows**2, rtol=1e-6)
    assert shapes == [(size, 4)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros(3), r"The features are \[3\]; they must be \[n, dim\]"),
        (np.zeros((0, 3)), r"The features are \[0, 3\]"),
        (np.array([[0.0], [np.nan], [np.inf]]), "2 of the 3 features have values .* the first in row 1"),
        (np.array([[0.0], [-1e18]]), "1 of the 2 features .* beyond 1e17"),
    ],
)
def test_rows_that_cannot_be_compared_are_refused(rows: np.ndarray, message: str):
    with pytest.raises(UserError, match=message):
        checked_rows(rows, "features")


def test_rows_become_float32():
    assert checked_rows(jax.numpy.ones((2, 3), jax.numpy.bfloat16), "features").dtype == np.float32
    assert checked_rows(np.full((2, 3), -1e17), "features").dtype == np.float32


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (np.zeros(2, int), None, r"The labels are int64 \[2\]; .* each of 3 rows"),
        (np.zeros(3), None, "The labels are float64"),
        (np.array([0, -1, 2]), None, "range from -1 to 2; they must be 0 or more"),
        (np.array([0, 1, 2]), 2, "range from 0 to 2; they must be 0 to 1"),
    ],
)
def test_labels_that_name_no_class_are_refused(labels: np.ndarray, classes: int | None, message: str):
    with pytest.raises(UserError, match=message):
        checked_labels(labels, 3, "labels", num_classes=classes)
    assert checked_labels([0, 2, 1], 3, "labels", num_classes=3).dtype == np.int32
