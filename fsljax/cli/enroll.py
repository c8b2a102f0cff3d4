"""`fsljax enroll MODEL DIR`: teaches a model classes, a folder of images each, or a detector, by boxes."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from fsljax.arguments import Parser
from fsljax.cli.enroll_objects import add_options, enroll_objects, used_option
from fsljax.errors import UserError

if TYPE_CHECKING:
    from fsljax.api import Classifier

_HEAD = "logistic"  # of pretrained weights


def main(arguments: list[str]) -> int:
    """Enrolls a folder of class folders, or annotated boxes, saves the model, and prints its classes."""
    parser = Parser(
        "enroll",
        "Teaches a model new classes, from one folder of images per class, or a detector, from boxes.",
    )
    parser.add_argument(
        "model", metavar="MODEL",
        help="a run's workdir, a shipped model or a saved one; or, with --to, pretrained weights: a name "
        "such as efficientnet_lite0, a repository of the Hugging Face hub, or a file",
    )  # fmt: skip
    parser.add_argument(
        "folder", metavar="DIR", nargs="?", help="a folder that holds one folder of images per class"
    )
    parser.add_argument(
        "--to", metavar="FOLDER", help="where to save the model; by default, where it was loaded from"
    )
    parser.add_argument(
        "--head", metavar="HEAD",
        help="how classes are compared: prototype, centered, logistic or representatives",
    )  # fmt: skip
    add_options(parser)
    given = parser.parse_intermixed_args(arguments)

    from fsljax.cli.models import check_is, is_saved, is_weights

    if given.annotations is not None:
        if given.folder is not None or given.head is not None:
            parser.error("--annotations cannot be combined with DIR or --head, which are for classifiers")
        check_is(given.model, detector=True, instead=f"fsljax enroll {given.model} DIR")
        return enroll_objects(given, _target(given.model, given.to))
    if given.folder is None:
        parser.error("give DIR, with one folder of images per class, or for a detector --annotations=FILE")
    if (option := used_option(given)) is not None:
        parser.error(f"{option} is for detectors: it needs --annotations=FILE")
    saved = is_saved(given.model)
    if given.to is None and is_weights(given.model):
        raise UserError(
            f"{given.model} are pretrained weights: say where to save the model, fsljax enroll "
            f"{given.model} {given.folder} --to=FOLDER."
        )
    if saved or given.to is None:
        check_is(given.model, detector=False, instead=f"fsljax enroll {given.model} --annotations=FILE")
    target = _target(given.model, given.to)
    classifier = _enrolled(given.model, given.folder, given.head, saved)
    classifier.save(target)
    _print_classes(classifier, target)
    return 0


def _target(model: str, to: str | None) -> Path:
    """Where the model is saved.

    Raises:
      UserError: if that folder holds something: classes of another enrolment would be lost.
    """
    from fsljax.storage.paths import given_path

    if to is None:
        return given_path(model, "MODEL")
    folder = given_path(to, "--to")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--to {folder} is a file: give a folder.")
    try:
        if (
            folder.is_dir()
            and any(folder.iterdir())
            and folder.resolve() != Path(model).expanduser().resolve()
        ):
            raise UserError(
                f"--to {folder} is not empty: give a new folder, or teach the model in it more classes with "
                f"fsljax enroll {folder} DIR."
            )
    except OSError as error:
        raise UserError(f"--to {folder} cannot be read ({error.strerror or error}): give another.") from error
    return folder


def _enrolled(model: str, folder: str, head: str | None, saved: bool) -> Classifier:
    """The model with the classes of a folder."""
    from fsljax.api import Classifier
    from fsljax.classification.heads import HEADS
    from fsljax.training.devices import use_compilation_cache

    if head is not None and head not in HEADS:
        raise UserError(f"--head is {head!r}; it can be {', '.join(HEADS)}.")
    use_compilation_cache()
    if saved:
        classifier = Classifier.load(model)
        if head is not None:
            classifier.change_head(head)
    else:
        classifier = Classifier.pretrained(model, head=head or _HEAD)
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always", UserWarning)
        classifier.enroll(folder)
    for note in noted:
        print(note.message, file=sys.stderr)
    return classifier


def _print_classes(classifier: Classifier, folder: Path) -> None:
    from fsljax.cli.output import as_table

    supports = classifier._enrolled.head.supports
    rows = [[label, len(supports[label]) if label in supports else None] for label in classifier.classes]
    as_table(["class", "images"], rows)
    print(f"saved  {folder}")
