"""A user's own images: class folders, or one of the published layouts of few-shot data sets."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from absl import logging

from fsljax.config import Data
from fsljax.data.class_split import check_fractions
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.data.folders.division import check_classes, complete, drop_small
from fsljax.data.folders.layouts import as_text, list_images, shown_names
from fsljax.data.folders.repeats import PARTS, Classes, first_equals, note_copies
from fsljax.data.io.cache import cached_arrays
from fsljax.data.io.decode import Fitting, decode_images
from fsljax.data.io.formats import is_lasting
from fsljax.errors import UserError, first_few
from fsljax.storage.file_states import NOT_FOUND, FileState, digest_of_files, file_state
from fsljax.storage.paths import given_path, is_there

VERSION = 2  # to be raised whenever the same files give other arrays

_MOST_UNREADABLE = 0.01
_SYSTEM_REASONS = frozenset(os.strerror(number) for number in errno.errorcode)


def load(data: Data) -> Splits:
    """Loads the folder `data.path`, split as configured; see `load_splits`.

    Raises:
      UserError: if no path is given; or as in `load_splits`.
    """
    if not data.path:
        raise UserError("config.data.path is empty: give the folder of images, --config.data.path=DIR.")
    return load_splits(
        data.path,
        image_size=data.image_size,
        channels=1 if data.channels == 1 else 3,
        fractions=data.fractions,
        seed=data.split_seed,
        shared_classes=data.split_by == "examples",
        crop=data.crop,
        interpolation=data.interpolation,
    )


def load_splits(
    path: str | os.PathLike[str],
    *,
    image_size: int = 84,
    channels: Literal[1, 3] = 3,
    fractions: Sequence[float] = (0.64, 0.16, 0.2),
    seed: int = 0,
    shared_classes: bool = False,
    min_images_per_class: int = 1,
    crop: float = 0.0,
    interpolation: str = "",
) -> Splits:
    """Loads the images of a folder, whose layout is recognised:

    - `train.csv`, `val.csv`, `test.csv` with the columns filename and label, beside `images/`
      (mini-ImageNet);
    - `train/`, `val/` and `test/` (or `training/`, `validation/`, `dev/`, `Testing/`, `test_set/` …) with
      class folders in each; a part that is not there is taken from train by `split_classes`;
    - `images.txt`, `classes.txt` and `images/` (CUB_200_2011): of the classes in numeric order, counted
      from 0, the even ones are train, every fourth from 1 validation and every fourth from 3 test, as
      in Chen et al. (2019), https://arxiv.org/abs/1904.04232: 100, 50 and 50 classes;
    - `data/CLASS/` and `splits/NAME/train.txt`, `val.txt`, `test.txt` with class names (CIFAR-FS; with
      several names the one called bertinetto);
    - otherwise class folders, divided by `split_classes`.

    Class folders may hold images at any depth. Files that are no images by their extension and hidden
    files and folders are skipped, and so is what a NAS, an archive or a system puts beside photographs
    (`@eaDir`, `__MACOSX`, `Thumbs.db` …). Files that occur twice through links, symbolic or hard, count
    once; copies count, and a note names them. Classes whose names differ in Unicode's form alone are one.
    HEIC is read where `pillow-heif` is installed. The decoded images are kept in the cache folder until a
    file changes, and read from there without being loaded into memory.

    Args:
      path: the folder.
      image_size: side of the images; see `decode_image`.
      channels: 3 for RGB, 1 for luminance as it is: dark ink on white paper stays dark on white.
      fractions: fractions of train, validation and test if the folder does not define splits; each split gets
        at least 2 classes. With shared classes the validation fraction may be 0: there is no validation split
        then, and a folder with one image per class has no test split either.
      seed: seed of this split.
      shared_classes: for classification: all splits have the classes of train, and images are split within
        each class (for CUB by its `train_test_split.txt`) if the folder does not define splits. A class may
        then have no images in validation or test.
      min_images_per_class: classes with fewer images are skipped.
      crop, interpolation: as in `config.data`.

    Returns:
      Images uint8 `[n, image_size, image_size, channels]`, grouped by class in sorted order, with
      labels 0 … classes − 1 in each part. Classes without images and, below 1 % of all, unreadable
      images are left out; `notes` names them. Names of classes are those of the folders, where need be
      made valid Unicode.

    Raises:
      UserError: if there is no such folder, it has too few images, it contradicts its layout, 1 % of the
        images or more are unreadable, or they do not fit into memory.
    """
    root = _existing_folder(path)
    _check_options(image_size, channels, fractions, min_images_per_class, shared_classes)
    notes: list[str] = []
    parts = list_images(root, shared_classes, notes)
    parts = drop_small(root, parts, min_images_per_class, shared_classes, notes)
    parts = complete(root, parts, fractions, seed, shared_classes, notes)
    may_lack = () if fractions[1] else PARTS[1:]
    check_classes(root, parts, shared_classes, may_lack)

    fitting = Fitting().as_asked(crop, interpolation)
    files = [file for part in PARTS for of_class in parts[part].values() for file in of_class]
    states = [file_state(root / file) for file in files]
    arrays = cached_arrays(
        "folder",
        _fingerprint(root, files, states, image_size, channels, fitting),
        lambda: _decode(root, files, image_size, channels, fitting),
        keep=lambda made: _is_lasting(made, states),
    )
    unreadable = {
        files[row]: str(why) for row, why in zip(arrays["unreadable"], arrays["reasons"], strict=True)
    }
    readable = [file for file in files if file not in unreadable]
    if unreadable:
        notes.append(f"{_describe(root, unreadable, len(files))} They were skipped.")
        parts = {
            part: {
                name: [file for file in of_class if file not in unreadable]
                for name, of_class in classes.items()
            }
            for part, classes in parts.items()
        }
        parts = drop_small(root, parts, min_images_per_class, shared_classes, notes)
        check_classes(root, parts, shared_classes, may_lack)
    equal = arrays["equal"] if "equal" in arrays else first_equals(root, files)
    note_copies(root, parts, {file: files[first] for file, first in zip(files, equal, strict=True)}, notes)
    names = {part: tuple(parts["train" if shared_classes else part]) for part in PARTS}
    row_of = {file: row for row, file in enumerate(readable)}
    shown = shown_names(itertools.chain.from_iterable(names.values()))
    datasets = {part: _dataset(arrays["images"], row_of, parts[part], names[part], shown) for part in PARTS}
    return Splits(datasets["train"], datasets["validation"], datasets["test"], tuple(map(as_text, notes)))


def _existing_folder(path: str | os.PathLike[str]) -> Path:
    if path == "":
        raise UserError("No image folder is given: give one with --config.data.path=DIR.")
    root = given_path(path, "--config.data.path=DIR")
    if root.is_dir():
        return root
    if is_there(root):
        raise UserError(
            f"{root} is a file: --config.data.path=DIR must name the folder that holds the images."
        )
    raise UserError(f"The image folder {root} does not exist: correct --config.data.path=DIR.")


def _check_options(
    image_size: int, channels: int, fractions: Sequence[float], min_images: int, shared_classes: bool
) -> None:
    if image_size < 1:
        raise UserError(f"image_size must be at least 1, not {image_size}.")
    if channels not in (1, 3):
        raise UserError(f"channels must be 1 (grey) or 3 (colour), not {channels}.")
    check_fractions(fractions)
    needed = (fractions[0], fractions[2]) if shared_classes else fractions
    if not all(fraction > 0 for fraction in needed):
        raise UserError(
            f"Each of the fractions of train, validation and test must be above 0: {tuple(fractions)}."
        )
    if min_images < 1:
        raise UserError(f"min_images_per_class must be at least 1, not {min_images}.")


def _fingerprint(
    root: Path,
    files: Sequence[str],
    states: Sequence[FileState],
    image_size: int,
    channels: int,
    fitting: Fitting,
) -> str:
    about: tuple[object, ...] = (VERSION, image_size, channels, digest_of_files(root, files, states))
    if fitting != Fitting():
        about = (*about, int(fitting.resampling), fitting.crop)
    return hashlib.sha256(repr(about).encode()).hexdigest()


def _is_lasting(arrays: Mapping[str, np.ndarray], states: Sequence[FileState]) -> bool:
    """Whether only a change of a file's state can make the unreadable images readable."""
    return all(
        is_lasting(str(why)) and (str(why) not in _SYSTEM_REASONS or states[row] == NOT_FOUND)
        for row, why in zip(arrays["unreadable"], arrays["reasons"], strict=True)
    )


def _decode(
    root: Path, files: Sequence[str], image_size: int, channels: Literal[1, 3], fitting: Fitting
) -> dict[str, np.ndarray]:
    logging.info("Decoding %d images of %s; the next run finds them in the cache.", len(files), root)
    images, unreadable = decode_images(
        [root / file for file in files], image_size=image_size, channels=channels, fitting=fitting
    )
    if unreadable and len(unreadable) >= _MOST_UNREADABLE * len(files):
        reasons = {files[row]: why for row, why in unreadable.items()}
        raise UserError(f"{_describe(root, reasons, len(files))} Repair or remove them.")
    return {
        "images": images,
        "equal": first_equals(root, files),
        "unreadable": np.array(list(unreadable), np.int64),
        "reasons": np.array(list(unreadable.values()), np.str_),
    }


def _describe(root: Path, unreadable: Mapping[str, str], total: int) -> str:
    named = first_few([f"{file} ({why})" for file, why in unreadable.items()])
    return f"{len(unreadable):,} of the {total:,} images in {root} cannot be read: {named}."


def _dataset(
    images: np.ndarray,
    row_of: Mapping[str, int],
    classes: Classes,
    names: tuple[str, ...],
    shown: Mapping[str, str],
) -> ImageDataset:
    rows = [row_of[file] for name in names for file in classes.get(name, ())]
    counts = [len(classes.get(name, ())) for name in names]
    # A slice stays on disk where an index would load the images.
    in_a_row = bool(rows) and rows == list(range(rows[0], rows[0] + len(rows)))
    return ImageDataset(
        images=images[rows[0] : rows[0] + len(rows)] if in_a_row else images[rows],
        labels=np.repeat(np.arange(len(names), dtype=np.int32), counts),
        class_names=tuple(shown[name] for name in names),
        files=np.array([as_text(file) for name in names for file in classes.get(name, ())], np.str_),
    )
