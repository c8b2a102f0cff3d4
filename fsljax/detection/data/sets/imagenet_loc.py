"""ImageNet's localisation data (CLS-LOC), in the layout of Kaggle's archive."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from fsljax.detection.config import Config
from fsljax.detection.data.annotations.voc_xml import (
    Annotation,
    annotated,
    counts_from_zero,
    missing_split,
    read_annotation,
    read_list,
    visible,
    zero_notes,
)
from fsljax.detection.data.photographs import Photographs, divided, folder_of
from fsljax.detection.data.set_operations import collect
from fsljax.detection.data.structures import DetectionSet
from fsljax.errors import UserError
from fsljax.storage.paths import given_path


def load(config: Config) -> Photographs:
    """Loads the data set that `config.data` names.

    Raises:
      UserError: if it is missing or unsuitable; the message says what to do.
    """
    data, folder = config.data, folder_of(config)

    def read_split(split: str, names: tuple[str, ...]) -> DetectionSet:
        return read_folder(
            folder,
            split,
            class_names=names or None,
            limit=data.limit or None,
            drop_bad_boxes=data.drop_bad_boxes,
        )

    return divided(config, read_split, read_by_class=True)


def read_folder(
    folder: Path | str,
    split: str,
    *,
    class_names: Sequence[str] | None = None,
    limit: int | None = None,
    drop_bad_boxes: bool = False,
) -> DetectionSet:
    """Reads the images that have boxes.

    Args:
      folder: folder that is or contains `ILSVRC`, with `Data/CLS-LOC/SPLIT`, `Annotations/CLS-LOC/SPLIT` and,
        if `class_names` is None, `Data/CLS-LOC/train` or `LOC_synset_mapping.txt` to list the classes.
      split: "train" or "val"; the images of "train" are in one folder per class, those of "val" in a single
        folder.
      class_names: WordNet ids of the classes to read, such as n02084071; None: all, sorted. For "train",
        images in other classes' folders are skipped; for "val", images with an object of another class.
      limit: maximum number of images, taken from the classes in turn; None: all.
      drop_bad_boxes: as in `fsljax.detection.data.set_operations.collect`.

    Raises:
      UserError: if the folder, the split, a class or an image is missing, an XML file cannot be parsed, or as
        in `collect`.
    """
    given = given_path(folder, "The folder of the data")
    root = given / "ILSVRC" if (given / "ILSVRC").is_dir() else given
    marks, pictures = root / "Annotations" / "CLS-LOC", root / "Data" / "CLS-LOC"
    if not (marks / split).is_dir():
        raise missing_split(split, marks, [path.name for path in visible(marks, "*") if path.is_dir()])
    names = _all_classes(given, root) if class_names is None else tuple(class_names)
    if split == "train":
        read = [read_annotation(path) for path in _train_files(marks / split, names)[:limit]]
    else:
        of_all = map(read_annotation, visible(marks / split, "*.xml"))
        chosen = (one for one in of_all if class_names is None or {o.name for o in one.objects} <= set(names))
        read = list(itertools.islice(chosen, limit))
    from_zero = counts_from_zero(read)
    return collect(
        _annotated(read, marks, pictures, from_zero),
        names,
        drop_bad_boxes=drop_bad_boxes,
        notes=zero_notes(from_zero, marks / split),
    )


def _all_classes(given: Path, root: Path) -> tuple[str, ...]:
    mapping = next((p for p in (given, root) if (p / "LOC_synset_mapping.txt").is_file()), None)
    if mapping is not None:
        return tuple(sorted(line.split()[0] for line in read_list(mapping / "LOC_synset_mapping.txt")))
    names = tuple(path.name for path in visible(root / "Data/CLS-LOC/train", "n*") if path.is_dir())
    if not names:
        raise UserError(
            f"{given} does not define classes: it has neither LOC_synset_mapping.txt nor class folders in "
            "Data/CLS-LOC/train. Name the classes."
        )
    return names


def _train_files(marks: Path, names: Sequence[str]) -> list[Path]:
    """The XML files of these classes, the first of each before the second of any."""
    numbered = []
    for number, name in enumerate(names):
        files = visible(marks / name, "*.xml")
        if not files:
            raise UserError(f"The class {name} has no annotations in {marks}. Leave it out, or copy them.")
        numbered += [(place, number, path) for place, path in enumerate(files)]
    return [path for _, _, path in sorted(numbered)]


def _annotated(
    read: Sequence[Annotation], marks: Path, pictures: Path, from_zero: bool
) -> Iterator[DetectionSet]:
    for annotation in read:
        xml = annotation.file
        image = (pictures / xml.relative_to(marks)).with_suffix(".JPEG")
        if not image.is_file():
            raise UserError(f"The annotation {xml} is of {image}, which is missing.")
        yield annotated(image, annotation, xml.stem, from_zero=from_zero)
