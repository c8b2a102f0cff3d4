"""How a prepared TFDS data set describes itself, checked before TFDS is given it.

TFDS imports whatever module a description names, and raises whatever its readers do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core.features.feature import FeatureConnector

from fsljax.errors import UserError
from fsljax.storage.json_files import read_json

INFO = "dataset_info.json"
FEATURES = "features.json"

_MOST_CLASSES = 1_000_000
_LARGEST_DESCRIPTION = 2**26  # bytes
_TFDS_CLASS = re.compile(r"tensorflow_datasets\.core\.features(\.\w+)+")
_NAMES_CLASSES = ("pythonClassName", "python_class_name", "type")


def dataset_info(folder: Path) -> tfds.core.DatasetInfo:
    """Features, label names and splits of the data set in `folder`.

    Raises:
      UserError: if it is missing, damaged, contradicts itself, names a class that is not TFDS's own, or a
        data file that is not in the folder.
    """
    folder = Path(os.fspath(folder))  # TFDS has paths of its own
    _read(folder / INFO)
    for name in _class_names(_read(folder / FEATURES)):
        if not isinstance(name, str) or not _TFDS_CLASS.fullmatch(name):
            raise UserError(
                f"{folder / FEATURES} asks for the class {name!r}, which is not a TFDS feature, "
                "and nothing else is imported: copy the data set again."
            )
    try:
        info = tfds.builder_from_directory(folder).info
        _check_splits(folder, info)
        for feature in _flat(info.features):
            if isinstance(feature, tfds.features.ClassLabel):
                _check_classes(feature)
        return info
    except UserError:
        raise
    except Exception as error:  # TFDS raises whatever its JSON and protobuf readers do
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"The description of the data set in {folder} cannot be read: {reason} Copy it again."
        ) from error


def check_features(
    folder: Path, info: tfds.core.DatasetInfo, needed: Mapping[str, type[FeatureConnector]]
) -> None:
    """Raises a UserError if a data set has no feature of a name, or one of another kind."""
    for name, kind in needed.items():
        if not isinstance(dict(info.features).get(name), kind):
            raise UserError(
                f"{folder / FEATURES} describes no {kind.__name__} {name!r}, but "
                f"{', '.join(sorted(info.features))}: copy the data set again, or give the "
                "intended one."
            )


def file_format(folder: Path) -> str:
    """In which format the files of the data set are, such as "array_record".

    Raises:
      UserError: if the description cannot be read.
    """
    return str(_read(folder / INFO).get("fileFormat", "tfrecord"))


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_DESCRIPTION:
            raise UserError(f"{path} is far larger than any description of a data set: copy it again.")
        content = read_json(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except UserError as error:
        raise UserError(f"{str(error).rstrip('.')}: copy the data set again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} cannot be read: it holds no fields. Copy the data set again.")
    return content


def _class_names(value: Any) -> Iterator[Any]:
    """All classes that a description of features asks for."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in _NAMES_CLASSES and not isinstance(inner, dict):
                yield inner
            yield from _class_names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _class_names(inner)


def _flat(feature: FeatureConnector) -> Iterator[FeatureConnector]:
    """A feature and all that are in it."""
    yield feature
    if isinstance(feature, tfds.features.FeaturesDict):
        for inner in feature.values():
            yield from _flat(inner)
    elif isinstance(feature, tfds.features.Sequence):
        yield from _flat(feature.feature)


def _check_splits(folder: Path, info: tfds.core.DatasetInfo) -> None:
    if not isinstance(info.features, tfds.features.FeaturesDict):
        raise ValueError(f"{FEATURES} names no features.")
    for name, split in info.splits.items():
        paths, lengths = split.filepaths, split.shard_lengths
        if not lengths or len(paths) != len(lengths) or min(lengths) < 0:
            raise ValueError(f"the split {name} has {len(paths)} files and the lengths {lengths}.")
        for path in paths:
            if os.path.realpath(Path(path).parent) != os.path.realpath(folder):
                raise ValueError(f"the split {name} names {path}, which is not in it.")


def _check_classes(label: tfds.features.ClassLabel) -> None:
    if label.num_classes is None or not 1 <= label.num_classes <= _MOST_CLASSES:
        raise ValueError(f"a label has {label.num_classes} classes.")
    if len(label.names) != label.num_classes:
        raise ValueError(f"a label has {label.num_classes} classes and {len(label.names)} names.")
    if len(set(label.names)) != len(label.names):
        raise ValueError("two classes have the same name.")
    if odd := [name for name in label.names if not name.strip() or not name.isprintable()]:
        raise ValueError(f"a class has the name {odd[0]!r}.")
