"""Published classification data sets from TFDS, with their official splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, cast

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from fsljax.config import Data
from fsljax.data.class_split import split_classes
from fsljax.data.dataset import ImageDataset, Splits, take_classes, take_rows
from fsljax.data.example_split import hold_out
from fsljax.data.image_sets import ImageSet
from fsljax.data.io import tfds_source
from fsljax.data.io.cache import cached_arrays
from fsljax.data.io.decode import decode_bytes
from fsljax.data.io.encoded_images import EncodedImages
from fsljax.data.io.tfds_description import check_features
from fsljax.errors import UserError, first_few
from fsljax.storage.file_states import digest_of_files, file_state

_ARRAYS_VERSION = 1  # to be raised whenever `_decode` or `_index` gives other arrays
_HASHED_BYTES = 4e9
_RECORDS_A_CHUNK = 1_000


class _Source(NamedTuple):
    """A prepared data set, and which of its splits are read; `content` and `place` as of `EncodedImages`."""

    name: str
    image_set: ImageSet
    folder: Path
    content: str
    place: str

    @property
    def splits(self) -> tuple[str, ...]:
        validation = (self.image_set.validation,) if self.image_set.validation else ()
        return (self.image_set.train, *validation, self.image_set.test)


def load(image_set: ImageSet, data: Data) -> Splits:
    """Loads the data set of a config's `data` section; see `load_splits`."""
    return load_splits(
        image_set,
        name=data.name,
        data_dir=data.data_dir or None,
        image_size=data.image_size,
        channels=1 if data.channels == 1 else 3,
        shared_classes=data.split_by == "examples",
        validation_fraction=data.validation_fraction,
        fractions=data.fractions,
        seed=data.split_seed,
        host_budget_gb=data.host_budget_gb,
        crop=data.crop,
        interpolation=data.interpolation,
    )


def load_splits(
    image_set: ImageSet,
    *,
    name: str = "",
    data_dir: str | None = None,
    image_size: int = 224,
    channels: Literal[1, 3] = 3,
    shared_classes: bool = True,
    validation_fraction: float = 0.1,
    fractions: Sequence[float] = (0.64, 0.16, 0.2),
    seed: int = 0,
    host_budget_gb: float = 8.0,
    crop: float = 0.0,
    interpolation: str = "",
) -> Splits:
    """Loads a published data set from a folder of TFDS data sets.

    The centre square of each image is resized with the antialiased filter of the data set. Images are in the
    order of TFDS, classes in the order of its labels.

    Args:
      image_set: the data set, and its splits.
      name: name under which decoded images are cached; "": its name in TFDS.
      data_dir: folder of TFDS data sets; None: `$TFDS_DATA_DIR` if set, else `~/tensorflow_datasets`.
      image_size: side of the images.
      channels: 3 for RGB, 1 for luminance.
      shared_classes: for classification, the official splits, which share the classes; a class without a
        training image is skipped in all of them. Otherwise for few-shot learning: the images of all splits
        are pooled and the classes are split.
      validation_fraction: fraction of each class's training images held out for validation if the data set
        has no validation split.
      fractions: fractions of the classes for train, validation and test, if not `shared_classes`.
      seed: seed of random splits.
      host_budget_gb: data sets that would take more memory when decoded (in units of 10⁹ bytes) stay encoded:
        their `images` are `EncodedImages`.
      crop, interpolation: as in `config.data`.

    Returns:
      Images uint8 `[n, image_size, image_size, channels]`.

    Raises:
      UserError: if the data set is missing or damaged, lacks a split, or does not have images of two classes.
    """
    tfds_name, version = image_set.tfds_name, image_set.version
    folder = tfds_source.find(tfds_name, version, data_dir) or tfds_source.find(tfds_name, None, data_dir)
    if folder is None:
        raise tfds_source.not_found(tfds_name, version, data_dir)
    name = name or tfds_name
    source = _Source(name, image_set, folder, _content(folder), _place(folder))
    about = f"{_ARRAYS_VERSION} {source.splits} {source.content}{source.place}"
    index = cached_arrays(f"{name}-index", _digest(about), lambda: _index(source))
    split_of, labels = np.asarray(index["splits"]), np.asarray(index["labels"])
    names = np.asarray(index["names"])

    notes: list[str] = []
    counts = np.bincount(labels, minlength=len(names))
    trained = np.bincount(labels[split_of == 0], minlength=len(names)) > 0
    present = trained if shared_classes else counts > 0
    if present.sum() < 2:
        raise UserError(
            f"{folder} holds training images of {present.sum()} classes; at least two are needed."
        )
    if missing := names[counts == 0].tolist():
        notes.append(f"Classes without images in {folder} ({len(missing):,}): {first_few(missing)}.")
    if untrained := [f"{names[c]} ({counts[c]:,})" for c in np.flatnonzero(~present & (counts > 0))]:
        notes.append(
            f"Classes of {folder} without training images, which were removed from all splits, "
            f"with their numbers of images ({len(untrained):,}): {first_few(untrained)}."
        )
    records = np.flatnonzero(present[labels])
    content = f"{_ARRAYS_VERSION} {source.content}"
    resampling = int(image_set.fitting.as_asked(crop, interpolation).resampling)
    encoded = EncodedImages(
        folder, source.splits, records, image_size, channels, resampling, content, source.place, crop
    )
    images = _images(source, encoded, present, host_budget_gb)
    renumbered = (np.cumsum(present) - 1).astype(np.int32)
    everything = ImageDataset(
        images, renumbered[labels[records]], tuple(names[present].tolist()), source=encoded
    )
    if not shared_classes:
        return _divided(everything, fractions, seed)

    split_of = split_of[records]
    in_validation = split_of == 1
    if not image_set.validation:
        training = np.flatnonzero(split_of == 0)
        chosen = hold_out(everything.labels[training], everything.class_names, validation_fraction, seed)
        in_validation = np.zeros(len(records), bool)
        in_validation[training[chosen]] = True
        notes.append(
            f"{tfds_name} has no validation split: {chosen.sum():,} of its {len(training):,} "
            f"training images were held out for it, chosen with seed {seed}."
        )
    in_test = split_of == len(source.splits) - 1
    train, validation, test = (
        take_rows(everything, np.flatnonzero(chosen))
        for chosen in (~in_validation & ~in_test, in_validation, in_test)
    )
    return Splits(train, validation, test, tuple(notes))


def _divided(everything: ImageDataset, fractions: Sequence[float], seed: int) -> Splits:
    train, validation, test = (
        take_classes(everything, np.isin(everything.class_names, chosen))
        for chosen in split_classes(everything.class_names, fractions, seed)
    )
    return Splits(train, validation, test)


def _index(source: _Source) -> dict[str, np.ndarray]:
    """Split and label of every record, in stored order, and the names of the labels."""
    info = tfds_source.dataset_info(source.folder)
    check_features(source.folder, info, {"image": tfds.features.Image, "label": tfds.features.ClassLabel})
    encoded = tfds_source.image_features(info)
    label = info.features["label"]
    labels: list[int] = []
    splits: list[int] = []
    for number, split in enumerate(source.splits):
        for example in tfds_source.data_source(source.folder, split, encoded=encoded):
            labels.append(int(example["label"]))
            splits.append(number)
    return {
        "labels": np.array(labels, np.int32),
        "splits": np.array(splits, np.int8),
        "names": np.array([label.int2str(number) for number in range(label.num_classes)]),
    }


def _images(
    source: _Source, encoded: EncodedImages, present: np.ndarray, host_budget_gb: float
) -> np.ndarray:
    if encoded.nbytes > host_budget_gb * 1e9:
        return cast(np.ndarray, encoded)  # it reads like one
    decoding = f"{encoded.image_size} {encoded.channels} {encoded.resampling}"
    decoding += f" {encoded.crop}" if encoded.crop else ""
    about = f"{_ARRAYS_VERSION} {decoding} {present.tolist()} {source.content}{source.place}"
    return cached_arrays(source.name, _digest(about), lambda: {"images": _decode(source, encoded)})["images"]


def _decode(source: _Source, encoded: EncodedImages) -> np.ndarray:
    """All images that `encoded` names, from files read from beginning to end."""
    logging.info("Decoding %d images of %s.", len(encoded), source.folder)
    info = tfds_source.dataset_info(source.folder)
    features = tfds_source.image_features(info)
    is_needed = np.zeros(sum(info.splits[split].num_examples for split in source.splits), bool)
    is_needed[encoded.records] = True
    examples = (
        example["image"]
        for split in source.splits
        for example in tfds_source.data_source(source.folder, split, encoded=features)
    )
    decode = partial(
        decode_bytes,
        image_size=encoded.image_size,
        channels=encoded.channels,
        resampling=encoded.resampling,
        cut_first=True,
        crop=encoded.crop,
    )
    images = np.empty(encoded.shape, np.uint8)
    row, waiting = 0, []
    with ThreadPoolExecutor() as threads:
        for record, content in enumerate(examples):
            if is_needed[record]:
                waiting.append(content)
            if len(waiting) == _RECORDS_A_CHUNK or record == len(is_needed) - 1:
                row = _fill(images, row, threads.map(decode, waiting), source.folder)
                waiting = []
    return images


def _fill(images: np.ndarray, row: int, decoded: Iterator[np.ndarray], folder: Path) -> int:
    """Puts images from `row` on; returns the row after the last."""
    while True:
        try:
            images[row] = next(decoded)
        except StopIteration:
            return row
        except UserError as error:
            raise UserError(f"{error} It is image {row} of {folder}: copy the data set again.") from error
        row += 1


def _content(folder: Path) -> str:
    """What changes when the files do; reading hundreds of gigabytes at each start would take too long.

    It stays when they are copied with their times.
    """
    if _is_hashed(folder):
        return tfds_source.content_hash(folder)
    names = _file_names(folder)
    return _digest(repr([(name, *file_state(folder / name)[:2]) for name in names]))


def _place(folder: Path) -> str:
    """What tells files of equal names, sizes and times apart; "" where their content was read."""
    if _is_hashed(folder):
        return ""
    names = _file_names(folder)
    return digest_of_files(folder, names, [file_state(folder / name) for name in names])


def _is_hashed(folder: Path) -> bool:
    return sum(file_state(folder / name).size for name in _file_names(folder)) <= _HASHED_BYTES


def _file_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
