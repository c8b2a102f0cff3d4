"""Base classes held out in folds: which they are, and that nothing of them is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fsljax.detection.config import Data
from fsljax.detection.data.folds import hold_out
from fsljax.detection.data.structures import DetectionSet
from fsljax.errors import UserError

NAMES = ("a", "b", "c", "d", "e")


def a_set(prefix: str, images: list[str], difficult: str = "") -> DetectionSet:
    """Images whose objects are the letters of a word, one pixel each; a difficult one is of that class."""
    count = len(images)
    return DetectionSet(
        images=[Path(f"{prefix}{number}.jpg") for number in range(count)],
        sizes=np.full((count, 2), 10, np.int32),
        boxes=tuple(np.tile(np.array([0, 0, 1, 1], np.float32), (len(word), 1)) for word in images),
        labels=tuple(np.array([NAMES.index(letter) for letter in word], np.int32) for word in images),
        difficult=tuple(np.array([letter == difficult for letter in word], bool) for word in images),
        class_names=NAMES,
        ids=tuple(f"{prefix}{number}" for number in range(count)),
        sources=tuple(f"{prefix}{number}.xml" for number in range(count)),
    )


# In how many images of both: a 6, b 5, c 4, d 3, e 1.
TRAIN = a_set("t", ["a", "ab", "ab", "bc", "cd", "a", "e"])
TEST = a_set("v", ["ab", "ab", "cd", "cd", ""])


def test_classes_are_dealt_in_the_order_of_their_images():
    for fold, held in enumerate((("a", "c"), ("b", "d"))):
        train, rest, novel, known = hold_out(Data(folds=2, fold=fold, fold_images=3), TRAIN, TEST, NAMES)
        assert novel.class_names == held and not set(rest) & set(held)
        numbers = [NAMES.index(name) for name in held]
        assert not any(np.isin(labels, numbers).any() for labels in train.labels)
        holding = {
            name
            for part in (TRAIN, TEST)
            for name, labels in zip(part.ids, part.labels, strict=True)
            if np.isin(labels, numbers).any()
        }
        assert set(novel.ids) == set(known.ids) == holding
        assert novel.ids == known.ids and known.class_names == rest
        assert any(f"fold {fold} of 2: {', '.join(held)}" in note for note in train.notes)


def test_a_class_that_only_appears_beside_those_held_out_is_left_out_with_a_note():
    train, rest, _, _ = hold_out(Data(folds=2, fold=0, fold_images=3), TRAIN, TEST, NAMES)
    assert rest == ("e",) and train.ids == ("t6",)
    assert any(
        "2 classes have no training images without these" in note and "b, d" in note for note in train.notes
    )


def test_a_difficult_object_is_no_reason_to_hold_out_but_its_image_is_not_trained_on():
    difficult = a_set("t", ["a", "a", "ab", "b", "b", "c"], difficult="b")
    train, rest, novel, _ = hold_out(
        Data(folds=2, fold=0, fold_images=2), difficult, a_set("v", ["c"]), ("a", "b", "c")
    )
    assert novel.class_names == ("a",) and rest == ("c",) and set(train.ids) == {"t3", "t4", "t5"}


def test_an_image_that_is_in_both_splits_counts_once():
    _, _, novel, _ = hold_out(Data(folds=2, fold=1, fold_images=2), TRAIN, TRAIN, NAMES)
    assert len(novel.ids) == len(set(novel.ids)) and novel.class_names == ("b",)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"folds": 2, "fold": 2}, r"config\.data\.fold is 2 of 2 folds \(config\.data\.folds\): give 0 to 1"),
        ({"folds": 4, "fold": 3, "fold_images": 4}, r"Only 3 base classes are in 4 images or more"),
        ({"folds": 1, "fold": 0, "fold_images": 1}, r"nothing is left to train on"),
    ],
)
def test_folds_that_there_are_not(fields: dict[str, int], told: str):
    with pytest.raises(UserError, match=told):
        hold_out(Data(**fields), TRAIN, TEST, NAMES)
