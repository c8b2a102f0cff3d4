"""`fsljax detect MODEL IMAGES…`: finds objects of the classes that a detector knows."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from fsljax.arguments import Parser, fraction
from fsljax.errors import UserError

if TYPE_CHECKING:
    from fsljax.api import Detector
    from fsljax.cli.images import GivenImage
    from fsljax.data.labels import Label

_AT_ONCE = 64
Box = tuple[float, float, float, float]


class Found(NamedTuple):
    """An object in an image.

    Attributes:
      box: `(y_min, x_min, y_max, x_max)` in pixels of the image, upright.
    """

    label: Label
    score: float
    box: Box


def main(arguments: list[str]) -> int:
    """Prints what is found in images; 1: some could not be read."""
    parser = Parser("detect", "Finds objects of the classes that a detector knows.")
    parser.add_argument(
        "model", metavar="MODEL", help="a folder that Detector.save wrote, or a run's workdir"
    )
    parser.add_argument("images", metavar="IMAGES", nargs="+", help="image files, or folders of them")
    parser.add_argument(
        "--least",
        type=fraction,
        metavar="SCORE",
        help="minimum score of a detection; by default, the calibrated threshold of the detector, or 0.3",
    )
    written = parser.add_mutually_exclusive_group()
    written.add_argument(
        "--save", metavar="FOLDER",
        help="a new folder for the images with boxes drawn in, and detections.json in COCO format",
    )  # fmt: skip
    written.add_argument("--to", metavar="FOLDER", help="a new folder for the drawn images only")
    parser.add_formats()
    given = parser.parse_intermixed_args(arguments)

    from fsljax.cli.images import images_of, say_what_failed

    detector = _load(given.model)
    notes: list[str] = []
    images = images_of(given.images, notes)
    for note in notes:
        print(note, file=sys.stderr)
    option = "--to" if given.save is None else "--save"
    target = given.to if given.save is None else given.save
    folder = _new_folder(target, option) if target is not None else None
    answers = _answers(detector, images, given.least)
    if folder is not None:
        _write(folder, detector.classes, images, answers, as_coco=given.save is not None)
    if given.json:
        _as_json(images, answers)
    else:
        _as_rows(images, answers, separated=given.csv)
    return say_what_failed(images)


def _load(model: str) -> Detector:
    """The detector.

    Raises:
      UserError: if there is none, or none that knows classes.
    """
    from fsljax.api import Detector
    from fsljax.cli.models import check_is
    from fsljax.training.devices import use_compilation_cache

    check_is(model, detector=True)
    use_compilation_cache()
    detector = Detector.load(model)
    if not detector.classes:
        raise UserError(
            f"The detector in {model} knows no classes: teach it some with fsljax enroll {model} "
            "--annotations=FILE --to=FOLDER, or, in Python, Detector.load(MODEL).enroll(images, boxes, "
            "labels).save(FOLDER)."
        )
    return detector


def _answers(
    detector: Detector, images: Sequence[GivenImage], least: float | None
) -> list[list[Found] | None]:
    from fsljax.cli.images import answers_to

    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always", UserWarning)
        answers = answers_to(images, lambda paths: _ask(detector, paths, least), _AT_ONCE)
    for note in dict.fromkeys(str(one.message) for one in noted):
        print(f"fsljax: {note}", file=sys.stderr)
    return answers


def _ask(detector: Detector, paths: list[str], least: float | None) -> list[list[Found]]:
    detected = detector.detect(paths, threshold=least)
    return [
        [
            Found(label, float(score), cast(Box, tuple(box.tolist())))
            for box, score, label in zip(boxes, scores, labels.tolist(), strict=True)
        ]
        for boxes, scores, labels in zip(*detected, strict=True)
    ]


def _new_folder(given: str, option: str) -> Path:
    """An empty folder; a UserError if that is not to be had."""
    from fsljax.storage.paths import given_path

    folder = given_path(given, option)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"{folder} is not empty: give a new folder.")
    except OSError as error:
        raise _not_writable(folder, error) from error
    return folder


def _write(
    folder: Path,
    classes: Sequence[Label],
    images: Sequence[GivenImage],
    answers: Sequence[Sequence[Found] | None],
    *,
    as_coco: bool,
) -> None:
    """Draws what was found into the images, and writes it in COCO's form."""
    from fsljax.cli.coco import write_coco
    from fsljax.cli.drawing import write_drawn

    try:
        for image, found in zip(images, answers, strict=True):
            if found is not None:
                texts = [(f"{one.label} {one.score:.2f}", one.box) for one in found]
                write_drawn(folder, image.path, texts, [classes.index(one.label) for one in found])
        if as_coco:
            paths = [image.path for image in images]
            write_coco(folder / "detections.json", classes, paths, answers)
    except OSError as error:
        raise _not_writable(folder, error) from error


def _not_writable(folder: Path, error: OSError) -> UserError:
    return UserError(f"{folder} cannot be written ({error.strerror or error}): give another folder.")


def _as_json(images: Sequence[GivenImage], answers: Sequence[Sequence[Found] | None]) -> None:
    from fsljax.cli.output import as_json, rounded

    document: list[dict[str, Any]] = []
    for image, found in zip(images, answers, strict=True):
        if found is None:
            document.append({"file": image.path, "objects": None, "error": image.failure})
            continue
        objects = [
            {"label": one.label, "score": rounded(one.score), "box": [round(side, 1) for side in one.box]}
            for one in found
        ]
        document.append({"file": image.path, "objects": objects})
    as_json(document)


def _as_rows(
    images: Sequence[GivenImage], answers: Sequence[Sequence[Found] | None], *, separated: bool
) -> None:
    from fsljax.cli.output import Cell, as_csv, as_table, rounded

    sides = ["y_min", "x_min", "y_max", "x_max"]
    header = ["file", "label", "score", *(sides if separated else ["box"]), "error"]
    rows: list[list[Cell]] = []
    for image, found in zip(images, answers, strict=True):
        if not found:  # its row says that nothing is there, or why nothing could be found
            rows.append([image.path, *[None] * (len(header) - 2), image.failure])
            continue
        for one in found:
            box: list[Cell] = [round(side, 1) for side in one.box]
            shown: list[Cell] = box if separated else [" ".join(f"{side:.0f}" for side in one.box)]
            rows.append([image.path, one.label, rounded(one.score), *shown, None])
    (as_csv if separated else as_table)(header, rows)
