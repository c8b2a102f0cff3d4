"""CIFAR-100 (Krizhevsky, 2009), from TFDS."""

from __future__ import annotations

from fsljax.config import Data
from fsljax.data import tfds_images
from fsljax.data.dataset import Splits
from fsljax.data.image_sets import ImageSet

IMAGE_SET = ImageSet("cifar100", "3.0.2")
FITTING = IMAGE_SET.fitting


def load(data: Data) -> Splits:
    """Loads the data set, split as configured; see `fsljax.data.tfds_images.load_splits`."""
    return tfds_images.load(IMAGE_SET, data)
