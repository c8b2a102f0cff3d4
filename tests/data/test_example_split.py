"""Which examples of a class go to which part."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from fsljax.data.dataset import ImageDataset
from fsljax.data.example_split import divide_drawings, hold_out
from fsljax.errors import UserError

USUAL = (0.64, 0.16, 0.2)


def characters(labels: list[int], names: str) -> ImageDataset:
    """Drawings whose only pixel is their number."""
    numbers = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    return ImageDataset(numbers, np.array(labels, np.int32), tuple(names))


@pytest.mark.parametrize(
    ("count", "fraction", "expected"),
    [
        (10, 0.1, 1),
        (14, 0.1, 1),
        (15, 0.1, 2),
        (5, 0.5, 3),
        (2, 0.9, 1),
        (2, 0.01, 1),
        (1, 0.5, 0),
        (500, 0.1, 50),
    ],
)
def test_each_class_gives_its_share(count: int, fraction: float, expected: int):
    labels = np.tile(np.arange(3), count)
    is_held_out = hold_out(labels, "abc", fraction, 0)
    np.testing.assert_array_equal(np.bincount(labels[is_held_out], minlength=3), [expected] * 3)


def test_who_is_held_out_follows_from_the_stated_rule():
    labels = np.array([1, 0, 1, 1, 0, 1, 0, 1])
    is_held_out = hold_out(labels, ["cat", "dog"], 0.4, 7)
    for label, name in enumerate(["cat", "dog"]):
        rows = np.flatnonzero(labels == label)
        digests = [hashlib.sha256(f"7/{name}/{number}".encode()).digest() for number in range(len(rows))]
        chosen = rows[np.argsort(digests)[: round(0.4 * len(rows))]]
        assert set(np.flatnonzero(is_held_out & (labels == label))) == set(chosen)


def test_the_seed_decides_and_other_classes_do_not():
    labels = np.repeat(np.arange(2), 30)
    first, again, other = (hold_out(labels, "ab", 0.3, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(hold_out(labels[:30], "a", 0.3, 0), first[:30])


def test_a_class_without_examples_gives_none():
    assert not hold_out(np.array([0, 2]), "abc", 0.5, 0).any()


def test_of_twenty_drawings_the_last_five_are_for_testing_and_three_before_them_for_validation():
    splits = divide_drawings(characters([0] * 20 + [1] * 20, "ab"), USUAL)
    of_class = [*range(12)], [12, 13, 14], [*range(15, 20)]
    for part, numbers in zip((splits.train, splits.validation, splits.test), of_class, strict=True):
        assert part.class_names == ("a", "b")
        np.testing.assert_array_equal(part.images[:, 0, 0, 0], numbers + [20 + n for n in numbers])
        np.testing.assert_array_equal(part.labels, np.repeat([0, 1], len(numbers)))


def test_the_order_is_that_of_the_class_wherever_its_drawings_lie():
    splits = divide_drawings(characters([0, 1] * 10, "ab"), USUAL)
    np.testing.assert_array_equal(splits.test.images[:, 0, 0, 0], np.arange(10, 20))
    np.testing.assert_array_equal(splits.validation.images[:, 0, 0, 0], [8, 9])


@pytest.mark.parametrize(
    ("drawings", "fractions", "sizes"),
    [
        (20, (0.5, 0.5, 0.0), (8, 7, 5)),
        (20, (0.4, 0.2, 0.4), (10, 5, 5)),
        (20, (0.001, 0.9, 0.099), (1, 14, 5)),
        (20, (0.9, 0.001, 0.099), (14, 1, 5)),
        (7, USUAL, (1, 1, 5)),
    ],
)
def test_fractions_divide_what_is_not_for_testing(drawings: int, fractions, sizes):
    splits = divide_drawings(characters([0] * drawings + [1] * drawings, "ab"), fractions)
    counts = [part.class_counts().tolist() for part in (splits.train, splits.validation, splits.test)]
    assert counts == [[size, size] for size in sizes]


def test_too_few_drawings_are_refused_by_name():
    with pytest.raises(UserError, match=r"^b has 6 drawings, but 7 are needed"):
        divide_drawings(characters([0] * 7 + [1] * 6, "ab"), USUAL)


@pytest.mark.parametrize("fractions", [(0.8, 0.0, 0.2), (0.0, 0.8, 0.2)])
def test_a_part_without_a_share_is_refused(fractions):
    with pytest.raises(UserError, match="train and validation must each be above 0"):
        divide_drawings(characters([0] * 20, "a"), fractions)
