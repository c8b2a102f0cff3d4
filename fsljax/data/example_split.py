"""Splits the examples of each class, for classification, where all splits share the classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fsljax.data.class_split import seeded_order
from fsljax.data.dataset import ImageDataset, Splits, places_in_class, take_rows
from fsljax.errors import UserError

TEST_DRAWINGS = 5


def hold_out(labels: np.ndarray, class_names: Sequence[str], fraction: float, seed: int) -> np.ndarray:
    """Chooses the same fraction of every class by a seeded rule.

    Which of a class's examples are chosen depends only on its name, their number and the seed. For a class of
    two or more, at least one is chosen and at least one is not.

    Args:
      labels: int `[n]`, indices into `class_names`.
      class_names: one name per class.
      fraction: fraction to choose, rounded to whole examples.
      seed: another seed gives another selection.

    Returns:
      bool `[n]`, True if an example is chosen.
    """
    is_held_out = np.zeros(len(labels), bool)
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=len(class_names))
    for name, rows in zip(class_names, np.split(order, np.cumsum(counts)[:-1]), strict=True):
        if len(rows) < 2:
            continue
        count = min(max(1, int(np.floor(len(rows) * fraction + 0.5))), len(rows) - 1)
        numbered = {f"{name}/{number}": row for number, row in enumerate(rows)}
        is_held_out[[numbered[key] for key in seeded_order(numbered, seed)[:count]]] = True
    return is_held_out


def divide_drawings(characters: ImageDataset, fractions: Sequence[float]) -> Splits:
    """Splits the drawings of each character in stored order: train, then validation; the last 5 are test.

    Args:
      characters: drawings with their classes.
      fractions: fractions of train, validation and test; the first two set the ratio in which the drawings
        before the last 5 are split, rounded to whole drawings: 12 and 3 of 15 for the usual 0.64 and 0.16.

    Returns:
      Splits that share the classes.

    Raises:
      UserError: if a character has too few drawings, or the fraction of train or validation is 0.
    """
    least = TEST_DRAWINGS + 2
    train, validation, _ = fractions
    if not (train > 0 and validation > 0):
        raise UserError(
            f"config.data.fractions is {tuple(fractions)}; train and validation must each be above 0."
        )
    counts = characters.class_counts()
    if counts.min() < least:
        short = characters.class_names[int(np.argmin(counts))]
        raise UserError(
            f"{short} has {counts.min()} drawings, but {least} are needed: {TEST_DRAWINGS} for "
            "testing, one for training and one for validation. Set "
            "--config.data.split_by=classes, or use other data."
        )
    in_train = np.rint((counts - TEST_DRAWINGS) * (train / (train + validation)))
    in_train = np.clip(in_train, 1, counts - TEST_DRAWINGS - 1)
    number = places_in_class(characters.labels)
    tested = number >= (counts - TEST_DRAWINGS)[characters.labels]
    trained = number < in_train[characters.labels]
    train_part, validation_part, test_part = (
        take_rows(characters, np.flatnonzero(chosen)) for chosen in (trained, ~trained & ~tested, tested)
    )
    return Splits(train_part, validation_part, test_part)
