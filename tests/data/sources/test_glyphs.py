"""Glyphs: which characters are classes, what their drawings look like, and how they are divided."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from fsljax.data.dataset import ImageDataset, Splits
from fsljax.data.glyph_faces import script
from fsljax.data.hierarchy import choose_classes
from fsljax.data.sources import glyphs


@pytest.fixture(scope="module")
def splits() -> Splits:
    return glyphs.load_splits()


@pytest.fixture(scope="module")
def every_class(splits: Splits) -> dict[str, np.ndarray]:
    """The drawings of each character, uint8 `[20, 28, 28]`, by Unicode name."""
    return {
        name: part.images[part.labels == label, ..., 0]
        for part in parts(splits)
        for label, name in enumerate(part.class_names)
    }


def parts(splits: Splits) -> tuple[ImageDataset, ImageDataset, ImageDataset]:
    return splits.train, splits.validation, splits.test


def test_a_thousand_classes_of_twenty_drawings(splits: Splits):
    assert sum(part.num_classes for part in parts(splits)) >= 1_000
    for part in parts(splits):
        assert part.images.dtype == np.uint8
        assert part.images.shape == (len(part), 28, 28, 1)
        assert set(part.class_counts()) == {20}
        assert (np.diff(part.labels) >= 0).all()
        assert part.num_classes >= 100


def test_no_script_is_in_two_parts(splits: Splits):
    scripts = [{script(unicodedata.lookup(name)) for name in part.class_names} for part in parts(splits)]
    train, validation, test = scripts
    assert not train & validation and not train & test and not validation & test
    assert {"Latin", "Greek", "Cyrillic"} <= train
    assert validation == set(glyphs.VALIDATION_SCRIPTS)
    assert test == set(glyphs.TEST_SCRIPTS)


def test_classes_are_named_by_character(every_class: dict[str, np.ndarray]):
    for name in every_class:
        assert unicodedata.category(unicodedata.lookup(name)) in ("Lu", "Ll", "Lo", "Nd")


def test_no_drawing_is_empty_and_no_two_are_equal(splits: Splits):
    for part in parts(splits):
        ink = part.images.reshape(len(part), -1).astype(np.float64).mean(axis=1) / 255
        assert ink.min() > 0.01
        assert ink.max() < 0.7
        assert part.images.max() == 255
        assert len({image.tobytes() for image in part.images}) == len(part)


def test_of_characters_that_look_alike_one_is_left(every_class: dict[str, np.ndarray]):
    groups = [
        "AАΑᎪ", "oOоОοΟօ0", "xXхХχ", "sSѕЅ", "cCсСϲ", "pр", "uUսՍ", "KΚК",
        "nu",  # a half turn
        "bq", "dp", "69",  # a half turn
        "ᐁᐃᐅᐊ",  # quarter turns of one triangle
    ]  # fmt: skip
    for group in groups:
        kept = [c for c in group if unicodedata.name(c) in every_class]
        assert len(kept) <= 1, kept


def test_no_two_classes_have_nearly_the_same_mean_upright_or_turned(every_class: dict[str, np.ndarray]):
    means = np.stack([drawings.mean(axis=0) for drawings in every_class.values()])
    names = list(every_class)

    def unit(pictures: np.ndarray) -> np.ndarray:
        rows = pictures.reshape(len(pictures), -1) - pictures.mean(axis=(1, 2))[:, None]
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    for turns in range(4):
        alike = unit(means) @ unit(np.rot90(means, turns, axes=(1, 2))).T
        np.fill_diagonal(alike, 0)
        worst = np.unravel_index(np.argmax(alike), alike.shape)
        assert alike[worst] < 0.97, [names[index] for index in worst]


def test_drawings_of_a_class_are_nearer_to_each_other_than_to_other_classes(splits: Splits):
    test = splits.test
    rows = test.images.reshape(test.num_classes, 20, -1).astype(np.float64) / 255
    means = rows[:, :10].mean(axis=1)
    queries = rows[:, 10:].reshape(-1, means.shape[1])
    distances = (queries**2).sum(1)[:, None] - 2 * queries @ means.T + (means**2).sum(1)
    right = distances.argmin(axis=1) == np.repeat(np.arange(test.num_classes), 10)
    assert right.mean() > 0.3  # chance is below 0.01


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    few = glyphs.distinct_characters()[::50]
    monkeypatch.setattr(glyphs, "distinct_characters", lambda: few)
    again, other = glyphs.load_splits(), glyphs.load_splits(seed=1)
    for small, whole in zip(parts(again), parts(splits), strict=True):
        for label, name in enumerate(small.class_names):
            drawn = whole.images[whole.labels == whole.class_names.index(name)]
            np.testing.assert_array_equal(small.images[small.labels == label], drawn)
    assert again.test.class_names == other.test.class_names
    assert (again.test.images != other.test.images).any(axis=(1, 2, 3)).all()


def test_drawn_once_and_then_read_from_the_cache(
    splits: Splits, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(glyphs, "_draw", fail)
    assert glyphs.load_splits().test.fingerprint() == splits.test.fingerprint()
    assert "preparing" not in capsys.readouterr().err


def test_other_image_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(glyphs, "distinct_characters", lambda: ["A", "Ա", "א"])
    splits = glyphs.load_splits(image_size=40)
    assert [part.images.shape for part in parts(splits)] == [(20, 40, 40, 1)] * 3


def test_shared_classes_are_those_of_all_scripts_with_their_drawings_divided(splits: Splits):
    shared = glyphs.load_splits(shared_classes=True)
    names = tuple(name for part in parts(splits) for name in part.class_names)
    for part, first, last in zip(parts(shared), (0, 12, 15), (12, 15, 20), strict=True):
        assert sorted(part.class_names) == sorted(names)
        assert part.class_names == shared.train.class_names
        assert set(part.class_counts()) == {last - first}
        for label in (0, 500, len(names) - 1):
            name = part.class_names[label]
            whole = next(each for each in parts(splits) if name in each.class_names)
            drawings = whole.images[whole.labels == whole.class_names.index(name)]
            np.testing.assert_array_equal(part.images[part.labels == label], drawings[first:last])


def test_two_hundred_classes_are_chosen_by_the_seed():
    chosen = [choose_classes(glyphs.load_splits(shared_classes=True), 200, seed).train for seed in (0, 0, 1)]
    assert [part.num_classes for part in chosen] == [200] * 3
    assert chosen[0].fingerprint() == chosen[1].fingerprint()
    assert chosen[0].class_names != chosen[2].class_names
    assert len(chosen[0]) == 2_400
