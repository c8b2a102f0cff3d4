"""`fsljax enroll DETECTOR --annotations=…`: teaches a detector classes by boxes."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from fsljax.arguments import Parser, positive
from fsljax.errors import UserError

if TYPE_CHECKING:
    from fsljax.api import Detector

_OPTIONS = ("classes", "background", "augment", "clusters", "fine_tune_epochs", "calibrate")


def add_options(parser: Parser) -> None:
    """Adds those of a detector."""
    group = parser.add_argument_group("for detectors")
    group.add_argument(
        "--annotations", metavar="FILE",
        help="boxes in LabelMe, VOC (XML) or COCO (JSON) format: a file, or a folder with its images",
    )  # fmt: skip
    group.add_argument(
        "--classes", metavar="NAMES", help="classes to enroll, separated by commas; all by default"
    )
    group.add_argument(
        "--background", metavar="DIR", help="a folder of images that contain none of the classes"
    )
    group.add_argument(
        "--augment",
        type=positive,
        metavar="N",
        help="augmented views of each image to enroll as well, up to 8",
    )
    group.add_argument(
        "--clusters", type=positive, metavar="N", help="maximum number of representatives per class"
    )
    group.add_argument(
        "--fine-tune-epochs",
        type=positive,
        metavar="N",
        help="epochs of fine-tuning the classes on all boxes",
    )
    group.add_argument(
        "--calibrate", action="store_true", default=None,
        help="choose the score threshold by leave-one-out over the annotated images",
    )  # fmt: skip


def used_option(given: argparse.Namespace) -> str | None:
    """The first of these options that was given, as it is written."""
    used = [name for name in _OPTIONS if getattr(given, name) is not None]
    return "--" + used[0].replace("_", "-") if used else None


def enroll_objects(given: argparse.Namespace, target: Path) -> int:
    """Enrolls annotated boxes, saves the detector to a folder, and prints its classes."""
    from fsljax.api import Detector
    from fsljax.training.devices import use_compilation_cache

    use_compilation_cache()
    detector = Detector.load(given.model)
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always", UserWarning)
        detector.enroll(
            given.annotations,
            labels=None if given.classes is None else [name.strip() for name in given.classes.split(",")],
            augment=given.augment,
            clusters=given.clusters,
            background=None if given.background is None else _images_in(given.background),
            fine_tune_epochs=given.fine_tune_epochs or 0,
        )
        if given.calibrate:
            detector.calibrate()
    for note in dict.fromkeys(str(one.message) for one in noted):
        print(f"fsljax: {note}", file=sys.stderr)
    detector.save(target)
    _print_classes(detector, target)
    return 0


def _images_in(folder: str) -> list[str]:
    from fsljax.cli.images import images_of

    notes: list[str] = []
    images = images_of([folder], notes)
    for note in notes:
        print(note, file=sys.stderr)
    failed = [image for image in images if image.failure is not None]
    if failed:
        raise UserError(f"--background {failed[0].path} cannot be read: {failed[0].failure}.")
    return [image.path for image in images]


def _print_classes(detector: Detector, folder: Path) -> None:
    from fsljax.cli.output import as_table

    rows = [[label, detector.boxes_of(label)] for label in detector.classes]
    as_table(["class", "boxes"], rows)
    print(f"threshold  {detector.threshold:.3f}")
    print(f"saved  {folder}")
