"""ImageNet's localisation data (CLS-LOC), as Kaggle's archive unpacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fsljax.detection.config import Config
from fsljax.detection.data.annotation_xml import annotated, class_names_in, missing_split, read_list
from fsljax.detection.data.photographs import Photographs, divided, folder_of
from fsljax.detection.data.set_operations import collect
from fsljax.detection.data.structures import DetectionSet
from fsljax.errors import UserError
from fsljax.storage.paths import given_path


def load(config: Config) -> Photographs:
    """The set that `config.data` names.

    Raises:
      UserError: if it is missing or unfit, saying what to do.
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
      folder: that holds `ILSVRC` or is it, with `Data/CLS-LOC/SPLIT`, `Annotations/CLS-LOC/SPLIT` and, if
        `class_names` is None, `Data/CLS-LOC/train` or `LOC_synset_mapping.txt` to tell the classes.
      split: "train" or "val"; of "train" the images lie in a folder for each class, of "val" in one.
      class_names: wnids of the classes that are read, such as n02084071; None: all, sorted. Of "train" the
        images in other classes' folders are passed over, of "val" those with an object of another class.
      limit: so many of the first images, taken from the classes in turn; None: all.
      drop_bad_boxes: as for `fsljax.detection.data.set_operations.collect`.

    Raises:
      UserError: the folder, the split, a class or an image is missing, an XML does not parse, or as
        `collect`.
    """
    given = given_path(folder, "The folder of the data")
    root = given / "ILSVRC" if (given / "ILSVRC").is_dir() else given
    marks, pictures = root / "Annotations" / "CLS-LOC", root / "Data" / "CLS-LOC"
    if not (marks / split).is_dir():
        raise missing_split(split, marks, [path.name for path in marks.glob("*") if path.is_dir()])
    names = _all_classes(given, root) if class_names is None else tuple(class_names)
    if split == "train":
        files = _train_files(marks / split, names)
    else:
        files = sorted((marks / split).glob("*.xml"))
        if class_names is not None:
            files = [path for path in files if set(class_names_in(path)) <= set(names)]
    return collect(_annotated(files[:limit], marks, pictures), names, drop_bad_boxes=drop_bad_boxes)


def _all_classes(given: Path, root: Path) -> tuple[str, ...]:
    mapping = next((p for p in (given, root) if (p / "LOC_synset_mapping.txt").is_file()), None)
    if mapping is not None:
        return tuple(sorted(read_list(mapping / "LOC_synset_mapping.txt")))
    names = tuple(sorted(path.name for path in (root / "Data/CLS-LOC/train").glob("n*") if path.is_dir()))
    if not names:
        raise UserError(
            f"{given} tells no classes: it has neither LOC_synset_mapping.txt nor folders of classes in "
            "Data/CLS-LOC/train. Name the classes."
        )
    return names


def _train_files(marks: Path, names: Sequence[str]) -> list[Path]:
    """The XML files of these classes, the first of each before the second of any."""
    numbered = []
    for number, name in enumerate(names):
        files = sorted((marks / name).glob("*.xml"))
        if not files:
            raise UserError(f"The class {name} has no annotations in {marks}. Leave it out, or copy them.")
        numbered += [(place, number, path) for place, path in enumerate(files)]
    return [path for _, _, path in sorted(numbered)]


def _annotated(files: Sequence[Path], marks: Path, pictures: Path) -> Iterator[DetectionSet]:
    for xml in files:
        image = (pictures / xml.relative_to(marks)).with_suffix(".JPEG")
        if not image.is_file():
            raise UserError(f"The annotation {xml} is of {image}, which is missing.")
        yield annotated(image, xml, xml.stem)
