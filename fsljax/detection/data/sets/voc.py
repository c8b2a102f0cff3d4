"""PASCAL VOC, and other data in its layout: a VOCdevkit folder, or TFDS's `voc/2007` and `voc/2012`."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fsljax.data.io.decode import upright_size
from fsljax.detection.config import Config, Data
from fsljax.detection.data.annotations.annotated_folder import AnnotatedFolder
from fsljax.detection.data.annotations.voc_xml import annotated, missing_split, visible, zero_notes
from fsljax.detection.data.photographs import Photographs, divided
from fsljax.detection.data.set_operations import collect, join, one_image
from fsljax.detection.data.structures import DetectionSet
from fsljax.errors import UserError
from fsljax.storage.paths import given_path

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def load(config: Config) -> Photographs:
    """Loads the data set that `config.data` names.

    Raises:
      UserError: if it is missing or unsuitable; the message says what to do.
    """

    def read_split(split: str, names: tuple[str, ...]) -> DetectionSet:
        return _read_years(config.data, split)

    return divided(config, read_split)


def _read_years(data: Data, split: str) -> DetectionSet:
    """A split of all years there are, of the test part that of the first: 2012's has no boxes."""
    asked = tuple(data.years) if split != "test" else tuple(data.years[:1])
    limit = data.limit or None
    if data.path:
        there = years(data.path)
        chosen: list[int | None] = [year for year in asked if year in there]
        parts = [
            read_folder(data.path, split, year=year, limit=limit, drop_bad_boxes=data.drop_bad_boxes)
            for year in chosen or [None]
        ]
    else:
        parts = [
            read_tfds(
                year,
                part,
                data_dir=data.data_dir or None,
                limit=limit,
                drop_bad_boxes=data.drop_bad_boxes,
            )
            for year in asked
            for part in (("train", "validation") if split == "trainval" else (split,))
        ]
    return reduce(join, parts)


def read_folder(
    folder: Path | str,
    split: str,
    *,
    year: int | None = None,
    class_names: Sequence[str] | None = None,
    limit: int | None = None,
    drop_bad_boxes: bool = False,
) -> DetectionSet:
    """Reads a folder with `JPEGImages`, `Annotations` and `ImageSets/Main`.

    Args:
      folder: such a folder, or a VOCdevkit that contains `VOC2007` or `VOC2012`.
      split: split in `ImageSets/Main`: "train", "val", "trainval" or "test".
      year: which folder of a VOCdevkit; None if there is only one.
      class_names: all classes; None: VOC's 20 classes if the folder names no others, else all classes in its
        annotations, sorted.
      limit: maximum number of images, the first ones; None: all.
      drop_bad_boxes: as in `fsljax.detection.data.set_operations.collect`.

    Annotations outside the split may be damaged; a note reports this.

    Raises:
      UserError: if the folder, the split or an image is missing, an XML file cannot be parsed, or as in
        `collect`.
    """
    root = _root(given_path(folder, "The folder of the data"), year)
    lists = root / "ImageSets" / "Main"
    if not (lists / f"{split}.txt").is_file():
        # Lists of one class, such as `cat_train.txt`, are of VOC's classification task.
        there = [path.stem for path in visible(lists, "*.txt") if "_" not in path.stem]
        raise missing_split(split, root, there)
    of_folder = AnnotatedFolder(root)
    ids = of_folder.listed(lists / f"{split}.txt")[:limit]
    names = _class_names(of_folder) if class_names is None else tuple(class_names)
    pairs = [(of_folder.image(one, lists / f"{split}.txt"), of_folder.annotation(one)) for one in ids]
    from_zero = of_folder.from_zero
    return collect(
        (
            annotated(image, xml, one, from_zero=from_zero)
            for one, (image, xml) in zip(ids, pairs, strict=True)
        ),
        names,
        drop_bad_boxes=drop_bad_boxes,
        notes=(*of_folder.notes(ids), *zero_notes(from_zero, root / "Annotations")),
    )


def read_tfds(
    year: int,
    split: str,
    *,
    data_dir: str | None = None,
    limit: int | None = None,
    drop_bad_boxes: bool = False,
) -> DetectionSet:
    """Reads VOC as TFDS prepares it, in array_record format; images stay encoded in their files.

    Args:
      year: 2007 or 2012; the test split of 2012 has no boxes.
      split: "train", "validation" or "test".
      data_dir: folder of TFDS data sets; None: `$TFDS_DATA_DIR` if set, else `~/tensorflow_datasets`.
      limit, drop_bad_boxes: as in `read_folder`.

    Raises:
      UserError: if the data set or the split is missing or damaged, or as in `collect`.
    """
    from fsljax.data.io import tfds_source

    folder = tfds_source.find(f"voc/{year}", None, data_dir)
    if folder is None:
        raise tfds_source.not_found(f"voc/{year}", "5.0.0", data_dir)
    info = tfds_source.dataset_info(folder)
    names = tuple(info.features["objects"].feature["label"].names)
    examples = itertools.islice(tfds_source.data_source(folder, split), limit)
    return collect(
        _from_tfds(examples, _TfdsRecords(folder, split), names),
        names,
        drop_bad_boxes=drop_bad_boxes,
    )


@dataclass(frozen=True)
class _TfdsRecords:
    """The records of one split, read one by one; it can be sent to another process."""

    folder: Path
    split: str

    def image(self, number: int) -> bytes:
        return self._parse(self._records[number])["image"]

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "split": self.split}

    @cached_property
    def _records(self) -> Any:
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        from fsljax.data.io import tfds_source

        part = tfds_source.dataset_info(self.folder).splits[self.split]
        return ArrayRecordDataSource([str(path) for path in part.filepaths])

    @cached_property
    def _parse(self) -> Any:
        from fsljax.data.io import tfds_source

        return tfds_source.example_parser(tfds_source.dataset_info(self.folder))


def _from_tfds(
    examples: Iterator[dict[str, Any]], records: _TfdsRecords, names: Sequence[str]
) -> Iterator[DetectionSet]:
    for number, example in enumerate(examples):
        identity = Path(example["image/filename"].decode()).stem
        with Image.open(io.BytesIO(example["image"])) as image:
            size = upright_size(image)
        objects = example["objects"]
        # TFDS divides VOC's own numbers by the sides: its boxes begin at pixel 1 as they do.
        boxes = np.array(objects["bbox"], np.float64).reshape(-1, 4) * [*size, *size] - [1, 1, 0, 0]
        yield one_image(
            partial(records.image, number),
            identity,
            f"{identity} of {records.folder}",
            size,
            boxes=boxes.round(2).tolist(),
            classes=[names[label] for label in objects["label"]],
            difficult=[bool(difficult) for difficult in objects["is_difficult"]],
        )


def years(folder: Path | str) -> tuple[int, ...]:
    """The years of a VOCdevkit; () if the folder is not one."""
    return tuple(
        sorted(
            int(name[3:])
            for name in _homes(given_path(folder, "The folder of the data"))
            if name[3:].isdigit()
        )
    )


def _root(folder: Path, year: int | None) -> Path:
    if not folder.is_dir():
        raise UserError(f"The folder {folder} does not exist: give the VOC folder, --config.data.path=DIR.")
    if (folder / "ImageSets" / "Main").is_dir():
        return folder
    homes = _homes(folder)
    chosen = homes if year is None else {name: homes[name] for name in homes if name == f"VOC{year}"}
    if len(chosen) != 1:
        raise UserError(
            f"{folder} holds "
            + (f"{', '.join(sorted(homes))}: say which year." if homes else "no VOC folder ImageSets/Main.")
        )
    return next(iter(chosen.values()))


def _homes(folder: Path) -> dict[str, Path]:
    """The folders of years in a VOCdevkit, or in a folder that holds one."""
    if (folder / "ImageSets" / "Main").is_dir():
        return {}
    homes = [folder, folder / "VOCdevkit"]
    return {path.name: path for home in homes for path in home.glob("VOC*") if (path / "ImageSets").is_dir()}


def _class_names(folder: AnnotatedFolder) -> tuple[str, ...]:
    named = folder.class_names
    return CLASSES if named <= set(CLASSES) else tuple(sorted(named))
