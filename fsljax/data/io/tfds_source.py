"""TFDS data sets found on disk, and their records read: all without TensorFlow."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import requests
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image
from urllib3.exceptions import HTTPError

from fsljax.data.io.tfds_description import INFO, dataset_info, file_format
from fsljax.errors import UserError
from fsljax.storage.paths import given_path

Example = dict[str, Any]
"""Features of one example by name."""


def data_folder(data_dir: str | None = None) -> Path:
    """The folder of TFDS data sets: `data_dir`, else `$TFDS_DATA_DIR`, else TFDS's own default.

    Raises:
      UserError: `data_dir` is given and is no folder, or the user has no home folder.
    """
    if data_dir:
        folder = given_path(data_dir, "The data folder (--config.data.data_dir)")
        if not _is_folder(folder):
            raise UserError(
                f"The data folder {folder} does not exist (given as data_dir, --config.data.data_dir). "
                "Correct the path, or create the folder."
            )
        return folder
    if os.environ.get("TFDS_DATA_DIR"):
        return given_path(os.environ["TFDS_DATA_DIR"], "The data folder (TFDS_DATA_DIR)")
    try:
        return Path("~/tensorflow_datasets").expanduser()
    except RuntimeError as error:
        raise UserError(
            "The home folder in ~/tensorflow_datasets is unknown: give the folder of TFDS data "
            "sets with --config.data.data_dir or TFDS_DATA_DIR."
        ) from error


def find(name: str, version: str | None = None, data_dir: str | None = None) -> Path | None:
    """The folder of a prepared data set, `.../name/version`, or None where there is none.

    Without `version` the newest one in array_record format is taken.

    Raises:
      UserError: `data_dir` is given and is no folder, or the data set is there in another format only.
    """
    home = data_folder(data_dir) / name
    try:
        prepared = [
            folder
            for folder in home.glob(version or "*")
            if re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", folder.name) and (folder / INFO).is_file()
        ]
    except OSError as error:
        raise UserError(f"The data set in {home} cannot be read: {error.strerror or error}.") from error
    readable = [folder for folder in prepared if file_format(folder) == "array_record"]
    if prepared and not readable:
        raise UserError(
            f"{prepared[0]} holds {name} in {file_format(prepared[0])} format, which only TensorFlow reads; "
            "fsljax reads array_record.\n"
            f"Either prepare it again with `tfds build {name} --file_format=array_record` where TensorFlow "
            "is installed,\nor give another data folder with --config.data.data_dir or TFDS_DATA_DIR."
        )
    return max(readable, key=lambda folder: [int(part) for part in folder.name.split(".")], default=None)


def data_source(folder: Path, split: str, *, encoded: Sequence[str] = ("image",)) -> Iterator[Example]:
    """The examples of one split in stored order, features by name.

    Files are read whole: at a damaged place TFDS's random access can bring the process down, whereas
    reading from beginning to end reports it.

    Args:
      folder: as `find` returns it.
      split: name of the split.
      encoded: features left as the bytes of their image files.

    Raises:
      UserError: the split does not exist, or a file is missing, damaged or cut short.
    """
    info = dataset_info(folder)
    if split not in info.splits:
        raise UserError(f"The data set in {folder} has no split {split!r}, only {', '.join(info.splits)}.")
    parse = example_parser(info, encoded=encoded)
    classes = {
        name: feature.num_classes
        for name, feature in info.features.items()
        if isinstance(feature, tfds.features.ClassLabel)
    }
    part = info.splits[split]
    for path, length in zip(part.filepaths, part.shard_lengths, strict=True):
        for number, record in enumerate(_read_records(Path(path), length)):
            try:
                example = parse(record)
                for name, count in classes.items():
                    if not 0 <= int(example[name]) < count:
                        raise ValueError(f"{name} is {int(example[name])}, of {count} classes")
            except Exception as error:  # as many kinds as there are features
                raise _damaged(Path(path), f"record {number}: {reason(error)}") from error
            yield example


def example_parser(
    info: tfds.core.DatasetInfo, *, encoded: Sequence[str] = ("image",)
) -> Callable[[bytes], Example]:
    """A function from a record to its features by name; those in `encoded` stay the bytes of their files."""
    decoders = {feature: tfds.decode.SkipDecoding() for feature in encoded}
    return lambda record: info.features.deserialize_example_np(record, decoders=decoders)


def image_features(info: tfds.core.DatasetInfo) -> tuple[str, ...]:
    """Names of the features that are images."""
    return tuple(name for name, feature in info.features.items() if isinstance(feature, tfds.features.Image))


def content_hash(folder: Path) -> str:
    """SHA-256 of the names and contents of the files in `folder`.

    Raises:
      UserError: if one cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            with path.open("rb") as file:
                digest.update(os.fsencode(path.name) + hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise UserError(f"The data set in {folder} cannot be read: {reason(error)}.") from error
    return digest.hexdigest()


def not_found(name: str, version: str, data_dir: str | None, tried: Sequence[str] = ()) -> UserError:
    """The error for a data set that is neither on disk nor to be had from the network.

    Args:
      name, version: of the data set.
      data_dir: as given to `find`.
      tried: what else was tried and why it failed, a line each.
    """
    folder = data_folder(data_dir)
    return UserError(
        "\n".join(
            [
                f"The data set {name} {version} (TFDS, array_record format) is missing. Tried:",
                f"  - the folder {folder / name / version}: "
                + ("no such data set there" if _is_folder(folder) else f"{folder} does not exist"),
                *(f"  - {line}" for line in tried),
                "Two ways out:",
                f"  1. put the prepared data into a folder as {name}/{version}/ and name that folder with",
                "     TFDS_DATA_DIR=FOLDER or --config.data.data_dir=FOLDER;",
                "  2. start without data: python launch.py --config=configs/quickstart.py",
            ]
        )
    )


def stored_image(encoded: bytes, what: str) -> Image.Image:
    """An image as a data set stores it, PNG or JPEG.

    Args:
      encoded: the content of its file.
      what: it is, for the error.

    Raises:
      UserError: if it is damaged, of another kind, or a decompression bomb (Pillow's limit).
    """
    try:
        image = Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG"))
        image.load()
        return image
    except Exception as error:  # Pillow's readers raise as many kinds as there is damage
        raise UserError(f"{what} cannot be read: {reason(error)}. Copy the data set again.") from error


def reason(error: Exception) -> str:
    """What went wrong in one line, taken out of the errors that the network libraries wrap around it."""
    inner = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    inner = getattr(inner, "reason", None) or inner
    text = str(inner.args[0]) if isinstance(inner, requests.RequestException | HTTPError) else str(inner)
    lines = text.splitlines() or [type(error).__name__]
    return re.sub(r"^\w+\(host=.*?\): ", "", lines[0])[:200]


def _is_folder(path: Path) -> bool:
    """Whether there is such a folder, and it can be looked for."""
    try:
        return path.is_dir()
    except (OSError, ValueError):  # in a folder that may not be entered; no path at all
        return False


def _read_records(path: Path, length: int) -> list[bytes]:
    try:
        reader = ArrayRecordReader(str(path))
        records = reader.read_all()
        reader.close()
    except (RuntimeError, OSError, ValueError, IndexError, MemoryError) as error:
        raise _damaged(path, reason(error)) from error
    if len(records) != length:
        raise _damaged(path, f"{len(records)} records instead of {length}")
    return records


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        f"The data file {path} is missing, damaged or cut short ({reason}).\n"
        f"Copy it again, or remove the folder {path.parent} to have the data set prepared again."
    )
