"""TFDS data sets found on disk, their archives fetched, their records read: all without TensorFlow."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import requests
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from urllib3.exceptions import HTTPError

from fsljax.errors import UserError

Example = dict[str, Any]
"""Features of one example by name."""


def data_folder(data_dir: str | None = None) -> Path:
    """The folder of TFDS data sets: `data_dir`, else `$TFDS_DATA_DIR`, else TFDS's own default.

    Raises:
      UserError: `data_dir` is given and is no folder.
    """
    if data_dir:
        folder = Path(data_dir).expanduser()
        if not folder.is_dir():
            raise UserError(
                f"The data folder {folder} does not exist (given as data_dir, --config.data.data_dir). "
                "Correct the path, or create the folder."
            )
        return folder
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find(name: str, version: str | None = None, data_dir: str | None = None) -> Path | None:
    """The folder of a prepared data set, `.../name/version`, or None where there is none.

    Without `version` the newest one in array_record format is taken.

    Raises:
      UserError: `data_dir` is given and is no folder, or the data set is there in another format only.
    """
    home = data_folder(data_dir) / name
    prepared = [
        folder
        for folder in home.glob(version or "*")
        if re.fullmatch(r"\d+\.\d+\.\d+", folder.name) and (folder / "dataset_info.json").is_file()
    ]
    readable = [folder for folder in prepared if _file_format(folder) == "array_record"]
    if prepared and not readable:
        raise UserError(
            f"{prepared[0]} holds {name} in {_file_format(prepared[0])} format, which only TensorFlow reads; "
            "fsljax reads array_record.\n"
            f"Either prepare it again with `tfds build {name} --file_format=array_record` where TensorFlow "
            "is installed,\nor name another data folder with --config.data.data_dir or TFDS_DATA_DIR."
        )
    return max(readable, key=lambda folder: [int(part) for part in folder.name.split(".")], default=None)


def dataset_info(folder: Path) -> tfds.core.DatasetInfo:
    """Features, label names and splits of the data set in `folder`."""
    try:
        return tfds.builder_from_directory(folder).info
    except Exception as error:  # TFDS raises whatever its JSON and protobuf readers do
        raise UserError(
            f"The description of the data set in {folder} cannot be read: {reason(error)}"
        ) from error


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
    part = info.splits[split]
    for path, length in zip(part.filepaths, part.shard_lengths, strict=True):
        for record in _read_records(Path(path), length):
            yield parse(record)


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
    """SHA-256 of the names and contents of the files in `folder`."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
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
                + ("no such data set there" if folder.is_dir() else f"{folder} does not exist"),
                *(f"  - {line}" for line in tried),
                "Two ways out:",
                f"  1. put the prepared data into a folder as {name}/{version}/ and name that folder with",
                "     TFDS_DATA_DIR=FOLDER or --config.data.data_dir=FOLDER;",
                "  2. start without data: python launch.py --config=configs/quickstart.py",
            ]
        )
    )


def download_zip(url: str, path: Path, sha256: str | None = None) -> None:
    """Downloads a zip archive to `path`, which exists only once the archive is whole and harmless.

    Raises:
      OSError: no answer, an interrupted transfer, another checksum, a damaged archive, or a member
        whose name leads out of the folder it would be unpacked to.
    """
    unfinished = path.with_name(path.name + ".part")
    digest = hashlib.sha256()
    try:
        with requests.get(url, stream=True, timeout=(10, 60)) as answer, unfinished.open("wb") as file:
            answer.raise_for_status()
            for block in answer.iter_content(1 << 16):
                file.write(block)
                digest.update(block)
        if sha256 and digest.hexdigest() != sha256:
            raise OSError(f"the file has SHA-256 {digest.hexdigest()}, not {sha256}")
        _check_zip(unfinished)
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            names = archive.namelist()
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise OSError(f"the file is no whole zip archive ({error})") from error
    if damaged:
        raise OSError(f"the archive is damaged at {damaged}")
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise OSError(f"the archive has a member that leads out of its folder: {name}")


def reason(error: Exception) -> str:
    """What went wrong in one line, taken out of the errors that the network libraries wrap around it."""
    inner = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    inner = getattr(inner, "reason", None) or inner
    text = str(inner.args[0]) if isinstance(inner, requests.RequestException | HTTPError) else str(inner)
    lines = text.splitlines() or [type(error).__name__]
    return re.sub(r"^\w+\(host=.*?\): ", "", lines[0])[:200]


def _file_format(folder: Path) -> str:
    try:
        description = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'dataset_info.json'} cannot be read: {reason(error)}") from error
    return description.get("fileFormat", "tfrecord")


def _read_records(path: Path, length: int) -> list[bytes]:
    try:
        reader = ArrayRecordReader(str(path))
        records = reader.read_all()
        reader.close()
    except (RuntimeError, OSError) as error:
        raise _damaged(path, reason(error)) from error
    if len(records) != length:
        raise _damaged(path, f"{len(records)} records instead of {length}")
    return records


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        f"The data file {path} is missing, damaged or cut short ({reason}).\n"
        f"Copy it again, or remove the folder {path.parent} to have the data set prepared again."
    )
