"""What an application gives is prepared as the training images were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Resampling

from fsljax.config import Data
from fsljax.data.user_images import prepare


@pytest.mark.parametrize(
    ("name", "resampling", "cut_first"),
    [
        ("omniglot", Resampling.BOX, False),
        ("folder", Resampling.BICUBIC, False),
        ("tiny_imagenet", Resampling.BICUBIC, True),
        ("oxford_flowers102", Resampling.BILINEAR, True),
        ("mnist", Resampling.BILINEAR, True),
    ],
)
def test_each_source_has_its_way_of_resizing(
    name: str, resampling: Resampling, cut_first: bool, tmp_path: Path
):
    data = Data(name=name, image_size=7, channels=3)
    photograph = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8))
    photograph.save(tmp_path / "image.png")
    box = (4, 0, 16, 12)
    if cut_first:
        expected = photograph.crop(box).resize((7, 7), resampling)
    else:
        expected = photograph.resize((7, 7), resampling, box)
    for given in (photograph, np.asarray(photograph)[None], tmp_path / "image.png"):
        np.testing.assert_array_equal(prepare(given, data), np.asarray(expected)[None])
