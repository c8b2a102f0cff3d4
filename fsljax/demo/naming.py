"""Images enrolled into classes, and new ones named: what stands behind the first tab."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from fsljax.api import Classifier
from fsljax.cli.models import check_is
from fsljax.demo import keeping
from fsljax.demo.ink import drawing_of
from fsljax.demo.markup import Named
from fsljax.demo.models import DRAWINGS, kind_of
from fsljax.errors import UserError

MOST_CLASSES = 100
MOST_IMAGES_OF_A_CLASS = 200
_EXAMPLES = 4
_SHOWN = 3
_LONGEST_NAME = 60


def checked_name(name: str | None) -> str:
    """The name of a class, without spaces around it.

    Raises:
      UserError: if it is empty or too long.
    """
    given = " ".join((name or "").split())
    if not given:
        raise UserError("Give the class a name.")
    if len(given) > _LONGEST_NAME:
        raise UserError(f"The name has {len(given)} characters: give at most {_LONGEST_NAME}.")
    return given


@dataclass
class Naming:
    """The classes of one session.

    Attributes:
      classifier: this session's own copy.
      examples: a few pictures of each class.
    """

    classifier: Classifier
    examples: dict[str, list[Image.Image]] = field(default_factory=dict)
    _folder: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)

    @classmethod
    def of(cls, classifier: Classifier) -> Naming:
        """Begins with a copy; the classes that it knows come along."""
        return cls(copy.copy(classifier))

    @property
    def takes_drawings(self) -> bool:
        return kind_of(self.classifier) == DRAWINGS

    def rows(self) -> list[tuple[str, int, list[Image.Image]]]:
        """Name, number of images and examples of each class."""
        supports = self.classifier._enrolled.head.supports
        return [
            (str(label), len(supports.get(label, ())), self.examples.get(str(label), []))
            for label in self.classifier.classes
        ]

    def enroll(self, pictures: Sequence[Image.Image], name: str | None) -> str:
        """Adds images to a class; a sentence about it.

        Raises:
          UserError: if there is no name, there are too many classes or images, or a drawing has no ink.
        """
        label = checked_name(name)
        counts = {row[0]: row[1] for row in self.rows()}
        if label not in counts and len(counts) >= MOST_CLASSES:
            raise UserError(f"There are {MOST_CLASSES} classes already: start over, or add to one of them.")
        if counts.get(label, 0) + len(pictures) > MOST_IMAGES_OF_A_CLASS:
            raise UserError(f"A class takes at most {MOST_IMAGES_OF_A_CLASS} images here.")
        self.classifier.enroll(self._prepared(pictures), label)
        shown = [one.copy() for one in pictures[:_EXAMPLES]]
        for one in shown:
            one.thumbnail((48, 48))
        self.examples[label] = (self.examples.get(label, []) + shown)[:_EXAMPLES]
        images = "1 image" if len(pictures) == 1 else f"{len(pictures)} images"
        return f"Enrolled {images} of {label}."

    def forget(self, name: str | None) -> str:
        """Removes a class; a sentence about it.

        Raises:
          UserError: if it is not enrolled.
        """
        label = checked_name(name)
        own = next((one for one in self.classifier.classes if str(one) == label), label)
        self.classifier.forget(own)
        self.examples.pop(label, None)
        return f"Forgot {label}."

    def name(self, pictures: Sequence[Image.Image], threshold: float) -> list[Named]:
        """What each image is.

        Args:
          pictures: n of them.
          threshold: confidence below which an image is unknown.

        Raises:
          UserError: if no class is enrolled, or a drawing has no ink.
        """
        if not self.classifier.classes:
            raise UserError("No class is enrolled yet: enrol images of one in step 1.")
        embeddings, known = self.classifier._embedded(self._prepared(pictures))
        compared = known.head.compare(embeddings)
        confidences = known.confidence(embeddings) if len(known.labels) > 1 else None
        answers = []
        for row, (picture, predicted) in enumerate(zip(pictures, compared.predictions.tolist(), strict=True)):
            order = np.argsort(-compared.probabilities[row], kind="stable")[:_SHOWN]
            likeliest = [(str(known.labels[one]), float(compared.probabilities[row, one])) for one in order]
            confidence = None if confidences is None else float(confidences[row])
            is_unknown = confidence is not None and confidence < threshold
            label = None if is_unknown else str(known.labels[predicted])
            answers.append(Named(picture, label, likeliest, confidence))
        return answers

    def saved(self) -> Path:
        """A file with the network and the classes.

        Raises:
          UserError: if no class is enrolled, or it cannot be written.
        """
        if not self.classifier.classes:
            raise UserError("There is nothing to save yet: enrol images in step 1.")
        return keeping.saved(self.classifier, Path(self._folder.name), "classifier")

    @classmethod
    def loaded(cls, path: str) -> Naming:
        """From a file that `saved` wrote.

        Raises:
          UserError: if it is not one.
        """
        with tempfile.TemporaryDirectory() as place:
            folder = keeping.unpacked(Path(path), Path(place))
            check_is(str(folder), detector=False, instead="the tab for detectors")
            return cls.of(Classifier.load(folder))

    def _prepared(self, pictures: Sequence[Image.Image]) -> list[Image.Image] | np.ndarray:
        if self.takes_drawings:
            return np.stack([drawing_of(picture) for picture in pictures])
        return list(pictures)
