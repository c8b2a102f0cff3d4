"""Photographs with boxes as programs for annotating write them: LabelMe, VOC's XML, COCO's JSON."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np

from fsljax.data.io.formats import is_image
from fsljax.detection.data.annotations.labelme_json import is_labelme, read_shapes
from fsljax.detection.data.annotations.voc_xml import annotated, counts_from_zero, read_annotation, visible
from fsljax.detection.data.orientation import size_of
from fsljax.detection.data.set_operations import collect, one_image
from fsljax.detection.data.sets.coco import read_file
from fsljax.detection.data.structures import DetectionSet, other_size
from fsljax.errors import UserError, first_few
from fsljax.storage.json_files import read_json
from fsljax.storage.paths import given_path, is_there

_SUFFIXES = (".json", ".xml")
_WITHIN = ("Annotations", "annotations", "labels")  # where programs put the files
_IMAGES = ("", "JPEGImages", "images", "../JPEGImages", "../images", "..")  # and the images, from there


class Annotated(NamedTuple):
    """What `Detector.enroll` takes, of n images that have boxes.

    Attributes:
      images: their paths, or contents.
      boxes: `[m, 4]` of each, `[y_min, x_min, y_max, x_max]` in pixels, upright.
      labels: names, one for each box.
      notes: sentences the user should read.
    """

    images: list[Path | bytes]
    boxes: list[np.ndarray]
    labels: list[str]
    notes: tuple[str, ...]


def is_annotation(given: object) -> bool:
    """Whether this names an annotation file, a folder, or several annotation files."""
    if isinstance(given, str | os.PathLike):
        path = Path(given)  # type: ignore[arg-type]
        return path.suffix.casefold() in _SUFFIXES or path.is_dir()
    return isinstance(given, list | tuple) and bool(given) and all(
        isinstance(one, str | os.PathLike) and Path(one).suffix.casefold() in _SUFFIXES for one in given
    )  # fmt: skip


def read_annotated(given: Any, classes: Collection[str] | None = None) -> Annotated:
    """The photographs and boxes of annotation files.

    Args:
      given: a file of LabelMe, VOC or COCO, a folder of such, or several files of LabelMe or VOC.
      classes: names of those to take; None: all.

    Raises:
      UserError: a file is missing, damaged or of another form; an image is missing or of another size than
        its annotation says; there are no such classes, or no boxes.
    """
    several = given if isinstance(given, list | tuple) else [given]
    paths = [given_path(one, "The annotations") for one in several]
    data, notes = _read(paths)
    where = first_few([str(path) for path in paths])
    if classes is not None and (missing := [name for name in classes if name not in data.class_names]):
        raise UserError(
            f"{where} has no object of the class {missing[0]!r}, only of {first_few(data.class_names)}."
        )
    images, boxes, labels, ignored = [], [], [], 0
    for row in range(len(data)):
        names = [data.class_names[label] for label in data.labels[row]]
        ignored += int(data.difficult[row].sum())
        chosen = [
            place
            for place, name in enumerate(names)
            if not data.difficult[row][place] and (classes is None or name in classes)
        ]
        if chosen:
            images.append(_image(data, row))
            boxes.append(data.boxes[row][chosen])
            labels += [names[place] for place in chosen]
    if not images:
        raise UserError(f"{where} has no boxes: annotate some objects first.")
    if ignored:
        notes = (*notes, f"Difficult objects and crowds of {where}, skipped: {ignored}.")
    return Annotated(images, boxes, labels, notes)


def given_objects(images: Any, boxes: Any, labels: Any) -> tuple[Any, Any, Any]:
    """Images, boxes and labels as they were given, or as annotation files say, where no boxes were given.

    Raises:
      UserError: there are neither; or as `read_annotated`.
    """
    if boxes is not None and labels is not None:
        return images, boxes, labels
    if boxes is None and isinstance(images, str | os.PathLike) and not is_there(given_path(images)):
        raise UserError(f"{os.fspath(images)} does not exist: give an annotation file, or a folder of them.")
    if boxes is not None or not is_annotation(images):
        raise UserError(
            "Boxes and labels are missing: give images, boxes and labels, or a file or folder of annotations "
            "(LabelMe, VOC XML, COCO JSON)."
        )
    classes = [labels] if isinstance(labels, str) else labels
    read = read_annotated(images, None if classes is None else list(classes))
    for note in read.notes:
        warnings.warn(note, UserWarning, stacklevel=3)
    return read.images, read.boxes, read.labels


def _read(paths: Sequence[Path]) -> tuple[DetectionSet, tuple[str, ...]]:
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist: give an annotation file, or a folder of them.")
    files = [file for path in paths for file in (_files_in(path) if path.is_dir() else [path])]
    kinds: dict[str, list[Path]] = {}
    for file in files:
        kinds.setdefault(_kind(file, alone=len(files) == 1), []).append(file)
    kinds.pop("", None)
    where = first_few([str(path) for path in paths])
    if not kinds:
        raise UserError(f"{where} holds no annotations: no LabelMe or COCO JSON, and no VOC XML.")
    if len(kinds) > 1 or len(kinds.get("COCO", ())) > 1:
        found = [str(of_kind[0]) for of_kind in kinds.values()] if len(kinds) > 1 else map(str, kinds["COCO"])
        raise UserError(
            f"{where} may hold several annotations of the same images ({first_few(list(found))}): give the "
            "file, or the folder of XML files, to use."
        )
    ((kind, chosen),) = kinds.items()
    if kind == "COCO":
        (file,) = chosen
        root = file.parent.parent if file.parent.name.casefold() == "annotations" else file.parent
        data = read_file(file, root, file.stem.removeprefix("instances_"))
        return data, data.notes
    notes: list[str] = []
    sets = list(_of_voc(chosen) if kind == "VOC" else _of_labelme(chosen, notes))
    names = sorted({name for one in sets for name in one.class_names})
    data = collect(sets, names)
    return data, (*notes, *data.notes)


def _files_in(folder: Path) -> list[Path]:
    places = [folder, *(folder / name for name in _WITHIN if (folder / name).is_dir())]
    distinct = {place.resolve(): place for place in places}.values()  # where names differ by case alone
    return [file for place in distinct for suffix in _SUFFIXES for file in visible(place, f"*{suffix}")]


def _kind(file: Path, *, alone: bool) -> str:
    """ "VOC", "COCO" or "LabelMe"; "" for another JSON file in a folder.

    Raises:
      UserError: if it is damaged, or alone and none.
    """
    if file.suffix.casefold() == ".xml":
        return "VOC"
    stored = read_json(file, nan=True)
    if is_labelme(stored):
        return "LabelMe"
    if isinstance(stored, dict) and {"images", "annotations"} <= stored.keys():
        return "COCO"
    if alone:
        raise UserError(
            f"{file} is in neither LabelMe format (shapes) nor COCO format (images, annotations and "
            "categories)."
        )
    return ""


def _of_voc(files: Sequence[Path]) -> Iterable[DetectionSet]:
    read = [read_annotation(file) for file in files]
    from_zero = counts_from_zero(read)
    for one in read:
        yield annotated(_image_file(one.file, one.image), one, str(one.file), from_zero=from_zero)


def _of_labelme(files: Sequence[Path], notes: list[str]) -> Iterable[DetectionSet]:
    passed_over = []
    for file in files:
        read = read_shapes(file)
        passed_over += [file.name] * read.passed_over
        content = read.content
        image = _image_beside(file, read.image) if content else _image_file(file, read.image)
        stored = partial(bytes, content) if image is None and content is not None else image
        size = read.size or (size_of(image) if image is not None else None)
        if size is None or stored is None:
            raise UserError(
                f"{file} does not give the size of its image, which is not beside it. Correct it."
            )
        yield one_image(
            stored, str(file), str(file), size, read.boxes, read.labels, [False] * len(read.labels)
        )
    if passed_over:
        notes.append(f"LabelMe points and lines, skipped: {len(passed_over)} ({first_few(passed_over)}).")


def _image_file(file: Path, named: str) -> Path:
    """The image that an annotation is of; see `_image_beside`.

    Raises:
      UserError: it is not there.
    """
    image = _image_beside(file, named)
    if image is None:
        called = f", {named}," if named else ""
        raise UserError(
            f"The image of {file}{called} is not beside it, nor in a folder JPEGImages or images: copy it "
            "there."
        )
    return image


def _image_beside(file: Path, named: str) -> Path | None:
    """The image file that is named in an annotation, or called as it is; None: it is not there."""
    names = [*dict.fromkeys([named.replace("\\", "/"), PureWindowsPath(named).name])] if named else []
    folders = [folder for place in _IMAGES if (folder := file.parent / place).is_dir()]
    for folder in folders:
        there = [folder / name for name in names if (folder / name).is_file()]
        alike = (path for path in sorted(folder.glob(f"{_literal(file.stem)}.*")) if is_image(path.name))
        if found := [*there, *alike]:
            return found[0]
    return None


def _literal(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _image(data: DetectionSet, row: int) -> Path | bytes:
    """The image file, or its content.

    Raises:
      UserError: it is of another size than its annotation says.
    """
    stored = data.images[row]
    if not isinstance(stored, Path):
        return stored()  # type: ignore[operator]
    upright, said = size_of(stored), tuple(data.sizes[row].tolist())
    if upright != said:
        raise other_size(str(stored), upright, upright, said)  # type: ignore[arg-type]
    return stored
