"""`fsljax predict MODEL IMAGES…`: names images by the classes that a model knows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fsljax.arguments import Parser, fraction, positive
from fsljax.errors import UserError

if TYPE_CHECKING:
    from fsljax.api import Classifier
    from fsljax.cli.images import GivenImage
    from fsljax.data.labels import Label
    from fsljax.data.user_images import Images


class Answer(NamedTuple):
    """What a model says of an image.

    Attributes:
      label: None where the confidence is below the threshold.
      likeliest: labels and probabilities, the likeliest first.
      confidence: None where fewer than two classes are known.
    """

    label: Label | None
    likeliest: list[tuple[Label, float]]
    confidence: float | None


def main(arguments: list[str]) -> int:
    """Prints what a model says of images; 1: some could not be read."""
    parser = Parser("predict", "Classifies images into the classes that a model knows.")
    parser.add_argument("model", metavar="MODEL", help="a run's workdir, a shipped model, or a saved one")
    parser.add_argument("images", metavar="IMAGES", nargs="+", help="image files, or folders of them")
    parser.add_argument(
        "--unknown", type=fraction, metavar="CONFIDENCE",
        help="confidence below which an image gets no label; by default, the value saved with the model",
    )  # fmt: skip
    parser.add_argument("--top", type=positive, metavar="N", help="show the N likeliest labels")
    parser.add_formats()
    given = parser.parse_intermixed_args(arguments)

    from fsljax.cli.images import answers_to, images_of, say_what_failed

    classifier = _load(given.model, given.unknown)
    notes: list[str] = []
    images = images_of(given.images, notes)
    for note in notes:
        print(note, file=sys.stderr)
    top = min(given.top or 1, len(classifier.classes))
    answers = answers_to(images, lambda paths: ask(classifier, paths, top, classifier.unknown))
    if given.json:
        _as_json(images, answers, of_several=given.top is not None)
    else:
        _as_rows(images, answers, top, separated=given.csv)
    return say_what_failed(images)


def _load(model: str, unknown: float | None) -> Classifier:
    """The model.

    Raises:
      UserError: if there is none, or none that knows classes.
    """
    from fsljax.api import Classifier
    from fsljax.cli.models import check_is
    from fsljax.training.devices import use_compilation_cache

    check_is(model, detector=False)
    use_compilation_cache()
    classifier = Classifier.load(model, unknown=unknown)
    if not classifier.classes:
        raise UserError(
            f"The model in {model} knows no classes: teach it some with fsljax enroll {model} DIR, where DIR "
            "holds one folder of images per class."
        )
    return classifier


def ask(classifier: Classifier, images: Images, top: int, unknown: float | None) -> list[Answer]:
    """What `predict`, `predict_proba` and `confidence` say, in one pass of the network instead of three.

    Args:
      classifier: that knows classes.
      images: n of them.
      top: how many of the likeliest classes are named.
      unknown: confidence below which an image has no label; None: it always has one.
    """
    embeddings, known = classifier._embedded(images)
    compared = known.head.compare(embeddings)
    confidences = None
    if len(known.labels) > 1 or unknown is not None:
        confidences = known.confidence(embeddings)
    answers = []
    for row, predicted in enumerate(compared.predictions.tolist()):
        probabilities = compared.probabilities[row]
        others = [
            column for column in (-probabilities).argsort(kind="stable").tolist() if column != predicted
        ]
        likeliest = [(known.labels[column], float(probabilities[column])) for column in [predicted, *others]]
        confidence = None if confidences is None else float(confidences[row])
        is_unknown = unknown is not None and confidence is not None and confidence < unknown
        answers.append(Answer(None if is_unknown else known.labels[predicted], likeliest[:top], confidence))
    return answers


def _as_json(images: Sequence[GivenImage], answers: Sequence[Answer | None], *, of_several: bool) -> None:
    from fsljax.cli.output import as_json, rounded

    document: list[dict[str, Any]] = []
    for image, answer in zip(images, answers, strict=True):
        if answer is None:
            nothing = dict.fromkeys(("label", "probability", "confidence"))
            document.append({"file": image.path, **nothing, "error": image.failure})
            continue
        confidence = None if answer.confidence is None else rounded(answer.confidence)
        entry: dict[str, Any] = {
            "file": image.path,
            "label": answer.label,
            "probability": rounded(answer.likeliest[0][1]),
            "confidence": confidence,
        }
        if of_several:
            entry["top"] = [
                {"label": label, "probability": rounded(probability)}
                for label, probability in answer.likeliest
            ]
        document.append(entry)
    as_json(document)


def _as_rows(
    images: Sequence[GivenImage], answers: Sequence[Answer | None], top: int, *, separated: bool
) -> None:
    from fsljax.cli.output import Cell, as_csv, as_table, rounded

    header = ["file", "label", "probability", "confidence"]
    header += [title for place in range(2, top + 1) for title in (f"label {place}", f"probability {place}")]
    rows: list[list[Cell]] = []
    for image, answer in zip(images, answers, strict=True):
        if answer is None:
            rows.append([image.path, *[None] * (len(header) - 1), image.failure])
            continue
        confidence = None if answer.confidence is None else rounded(answer.confidence)
        row: list[Cell] = [image.path, answer.label, rounded(answer.likeliest[0][1]), confidence]
        for label, probability in answer.likeliest[1:]:
            row += [label, rounded(probability)]
        rows.append([*row, None])
    (as_csv if separated else as_table)([*header, "error"], rows)
