"""Oxford Flowers-102 (Nilsback and Zisserman, 2008), from TFDS."""

from __future__ import annotations

from fsljax.config import Data
from fsljax.data import tfds_images
from fsljax.data.dataset import Splits
from fsljax.data.image_sets import ImageSet

IMAGE_SET = ImageSet("oxford_flowers102", "2.1.1", validation="validation")
FITTING = IMAGE_SET.fitting


def load(data: Data) -> Splits:
    """Loads the data set, split as configured; see `fsljax.data.tfds_images.load_splits`."""
    return tfds_images.load(IMAGE_SET, data)
