"""MNIST (LeCun et al., 1998), as TFDS has it."""

from __future__ import annotations

from fsljax.config import Data
from fsljax.data import tfds_images
from fsljax.data.dataset import Splits
from fsljax.data.image_sets import ImageSet

IMAGE_SET = ImageSet("mnist", "3.0.1")
FITTING = IMAGE_SET.fitting


def load(data: Data) -> Splits:
    """Loads the data set, divided as the config says; see `fsljax.data.tfds_images.load_splits`."""
    return tfds_images.load(IMAGE_SET, data)
