"""Which drawings are base and which novel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fsljax.data.dataset import ImageDataset, Splits
from fsljax.data.sources import omniglot
from fsljax.detection.data.scenes import drawings as scene_drawings
from fsljax.errors import UserError


def part(first: int, classes: int) -> ImageDataset:
    """Each pixel of a drawing is its character's number, or in the corner the drawing's."""
    labels = np.repeat(np.arange(classes, dtype=np.int32), 20)
    images = np.zeros((len(labels), 64, 64, 1), np.uint8) + (first + labels)[:, None, None, None].astype(
        np.uint8
    )
    images[:, 0, 0, 0] = np.tile(np.arange(20), classes)
    return ImageDataset(images, labels, tuple(f"c{first + number}" for number in range(classes)))


@pytest.mark.parametrize(("kept_for", "base", "novel"), [("test", 5, [5, 6]), ("validation", 3, [3, 4])])
def test_characters_and_drawings_are_divided(monkeypatch, kept_for, base, novel):
    asked = {}

    def load(**options):
        asked.update(options)
        return Splits(part(0, 3), part(3, 2), part(5, 2))

    monkeypatch.setattr(omniglot, "load_splits", load)
    drawings = scene_drawings.load("omniglot", part=kept_for)
    assert asked == {"data_dir": None, "image_size": 64, "rotations": False}
    assert drawings.base_names == tuple(f"c{number}" for number in range(base))
    assert drawings.novel_names == tuple(f"c{number}" for number in novel)
    assert drawings.base.images[:, :, 0, 0].tolist() == [list(range(15))] * base
    assert drawings.base_test.images[:, :, 0, 0].tolist() == [list(range(15, 20))] * base
    assert drawings.novel.images[:, :, 0, 0].tolist() == [list(range(20))] * 2
    assert drawings.novel.images[:, 0, 5, 5].tolist() == novel


def test_another_name_is_refused():
    with pytest.raises(UserError, match="omniglot or glyphs"):
        scene_drawings.load("mnist")


@pytest.mark.slow
def test_omniglot_has_the_published_characters(tfds_data_dir: Path):
    drawings = scene_drawings.load("omniglot", data_dir=str(tfds_data_dir))
    assert drawings.base.images.shape == (1200, 15, 64, 64)
    assert drawings.base_test.images.shape == (1200, 5, 64, 64)
    assert drawings.novel.images.shape == (423, 20, 64, 64)
    assert drawings.novel_names[0] == omniglot.FIRST_TEST_CHARACTER
    assert not set(drawings.base_names) & set(drawings.novel_names)
