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
from fsljax.cli.predict import ask
from fsljax.demo import keeping
from fsljax.demo.ink import drawing_of
from fsljax.demo.markup import Named
from fsljax.demo.models import DRAWINGS, kind_of
from fsljax.errors import UserError

MOST_CLASSES = 100
MOST_IMAGES_OF_A_CLASS = 200
_SHOWN = 3


@dataclass
class Naming:
    """The classes of one session.

    Attributes:
      classifier: this session's own copy.
      examples: a few pictures of each class.
    """

    classifier: Classifier
    examples: keeping.Examples = field(default_factory=dict)
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
        label = keeping.checked_name(name)
        counts = {row[0]: row[1] for row in self.rows()}
        if label not in counts and len(counts) >= MOST_CLASSES:
            raise UserError(f"There are {MOST_CLASSES} classes already: start over, or add to one of them.")
        if counts.get(label, 0) + len(pictures) > MOST_IMAGES_OF_A_CLASS:
            raise UserError(f"A class takes at most {MOST_IMAGES_OF_A_CLASS} images here.")
        self.classifier.enroll(self._prepared(pictures), label)
        keeping.show(self.examples, label, pictures)
        images = "1 image" if len(pictures) == 1 else f"{len(pictures)} images"
        return f"Enrolled {images} of {label}."

    def forget(self, name: str | None) -> str:
        """Removes a class; a sentence about it.

        Raises:
          UserError: if it is not enrolled.
        """
        return keeping.forget(self.classifier, self.examples, name)

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
        unknown = threshold if len(self.classifier.classes) > 1 else None
        answers = ask(self.classifier, self._prepared(pictures), _SHOWN, unknown)
        return [
            Named(
                picture,
                None if answer.label is None else str(answer.label),
                [(str(label), probability) for label, probability in answer.likeliest],
                answer.confidence,
            )
            for picture, answer in zip(pictures, answers, strict=True)
        ]

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
        with keeping.opened(path, detector=False, instead="the tab for detectors") as folder:
            return cls.of(Classifier.load(folder))

    def _prepared(self, pictures: Sequence[Image.Image]) -> list[Image.Image] | np.ndarray:
        if self.takes_drawings:
            return np.stack([drawing_of(picture) for picture in pictures])
        return list(pictures)
