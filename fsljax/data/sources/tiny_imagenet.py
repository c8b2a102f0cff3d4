"""Tiny ImageNet at 32×32: its 200 classes split for few-shot learning, or its official splits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL.Image import Resampling

from fsljax.config import Data
from fsljax.data import tfds_images
from fsljax.data.class_split import split_classes
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.data.image_sets import ImageSet
from fsljax.data.io import tfds_source
from fsljax.data.io.cache import cached_arrays
from fsljax.data.io.decode import Fitting, fit_image
from fsljax.data.io.tfds_description import check_features
from fsljax.errors import UserError

IMAGE_SET = ImageSet("tiny_imagenet_32", "1.0.0", test="validation", resampling=Resampling.BICUBIC)
FITTING = IMAGE_SET.fitting
NUM_CLASSES = 200
FRACTIONS = (0.64, 0.16, 0.2)  # 128 / 32 / 40 classes

_ARRAYS_VERSION = 1  # to be raised whenever `_decode` gives other arrays


def load(data: Data) -> Splits:
    """Loads Tiny ImageNet, by classes (`load_splits`) or by its official splits, as configured."""
    if data.split_by == "examples":
        return tfds_images.load(IMAGE_SET, data)
    return load_splits(
        data_dir=data.data_dir or None,
        image_size=data.image_size,
        seed=data.split_seed,
        crop=data.crop,
        interpolation=data.interpolation,
    )


def load_splits(
    *,
    data_dir: str | None = None,
    image_size: int = 32,
    seed: int = 0,
    crop: float = 0.0,
    interpolation: str = "",
) -> Splits:
    """Loads Tiny ImageNet at 32×32 from a folder of TFDS data sets, split by classes.

    The data set's own training and validation images of a class are pooled and adjacent. Classes are named by
    their WordNet ids and sorted by them within each split.

    Args:
      data_dir: folder of TFDS data sets; None: `$TFDS_DATA_DIR` if set, else `~/tensorflow_datasets`.
      image_size: side of the images; sizes other than 32 are resized with an antialiased bicubic filter.
      seed: another seed gives another split of the classes.
      crop, interpolation: as in `config.data`.

    Returns:
      Images uint8 `[n, image_size, image_size, 3]` of 128 / 32 / 40 classes.

    Raises:
      UserError: if the data set is missing, damaged, or does not have 200 classes with images.
    """
    folder = tfds_source.find(IMAGE_SET.tfds_name, IMAGE_SET.version, data_dir)
    if folder is None:
        raise tfds_source.not_found(IMAGE_SET.tfds_name, IMAGE_SET.version, data_dir)
    fingerprint = f"{_ARRAYS_VERSION:02}{image_size:04}{tfds_source.content_hash(folder)}"
    fitting = FITTING.as_asked(crop, interpolation)
    if fitting != FITTING:
        fingerprint = hashlib.sha256(f"{fingerprint} {fitting}".encode()).hexdigest()
    arrays = cached_arrays(IMAGE_SET.tfds_name, fingerprint, lambda: _decode(folder, image_size, fitting))
    names = arrays["names"].tolist()
    train, validation, test = (
        _part(arrays, names, chosen) for chosen in split_classes(names, FRACTIONS, seed)
    )
    return Splits(train, validation, test)


def _decode(folder: Path, image_size: int, fitting: Fitting) -> dict[str, np.ndarray]:
    """The images of all splits, grouped by class; classes sorted by name."""
    info = tfds_source.dataset_info(folder)
    check_features(folder, info, {"image": tfds.features.Image, "label": tfds.features.ClassLabel})
    examples = [
        (info.features["label"].int2str(example["label"]), example["image"])
        for split in info.splits
        for example in tfds_source.data_source(folder, split)
    ]
    examples.sort(key=lambda example: example[0])
    names, labels = np.unique([name for name, _ in examples], return_inverse=True)
    if len(names) != NUM_CLASSES:
        raise UserError(
            f"{folder} holds images of {len(names)} classes instead of Tiny ImageNet's "
            f"{NUM_CLASSES}: put the complete data set there."
        )
    images = np.empty((len(examples), image_size, image_size, 3), np.uint8)
    for row, (name, encoded) in enumerate(examples):
        image = tfds_source.stored_image(encoded, f"An image of {name} in {folder}").convert("RGB")
        if fitting == FITTING:
            images[row] = np.asarray(image.resize((image_size, image_size), Resampling.BICUBIC))
        else:
            images[row] = fit_image(image, image_size=image_size, **fitting._asdict())
    return {"images": images, "labels": labels.astype(np.int32), "names": names}


def _part(arrays: dict[str, np.ndarray], names: list[str], chosen: tuple[str, ...]) -> ImageDataset:
    classes = np.searchsorted(names, chosen)
    rows = np.isin(arrays["labels"], classes)
    labels = np.searchsorted(classes, arrays["labels"][rows]).astype(np.int32)
    return ImageDataset(arrays["images"][rows], labels, chosen)
