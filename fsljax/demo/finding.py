"""Boxes enrolled and their like found: what stands behind the two tabs of detectors."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from fsljax.api import Detector
from fsljax.cli.drawing import draw_boxes
from fsljax.demo import keeping
from fsljax.demo.ink import character_of, ink_of
from fsljax.demo.models import DRAWINGS, kind_of
from fsljax.errors import UserError

Box = tuple[float, float, float, float]
Found = tuple[Image.Image, list[tuple[str, float]]]

MOST_BOXES_OF_A_CLASS = 50
_SCENE, _SIDES = 128, (28, 40)  # pixels of a scene, and of characters in it
_PAPER, _CONTRAST = 0.1, 0.7
_CHARACTERS_IN_A_WINDOW = 3
_MOST_ACROSS = 12
_SAME = 0.3  # share of the smaller box that lies in the other, from which both are of one character


@dataclass
class Finding:
    """The classes of one session.

    Attributes:
      detector: this session's own copy.
      examples: a few pictures of each class.
    """

    detector: Detector
    examples: keeping.Examples = field(default_factory=dict)
    _folder: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)

    @classmethod
    def of(cls, detector: Detector) -> Finding:
        """Begins with a copy; the classes that it knows come along."""
        return cls(copy.copy(detector))

    def rows(self) -> list[tuple[str, int, list[Image.Image]]]:
        """Name, number of boxes or drawings, and examples of each class."""
        boxes = len(_SIDES) if kind_of(self.detector) == DRAWINGS else 1
        return [
            (str(label), -(-self.detector.boxes_of(label) // boxes), self.examples.get(str(label), []))
            for label in self.detector.classes
        ]

    def enroll_box(self, picture: Image.Image | None, box: Sequence[float | None], name: str | None) -> str:
        """Adds the object in a box `(y_min, x_min, y_max, x_max)` to a class; a sentence about it.

        Raises:
          UserError: if there is no image, box or name, or the box is outside of the image.
        """
        if picture is None:
            raise UserError("Choose a photograph first.")
        label = self._checked_class(name)
        top, left, bottom, right = checked_box(box, picture)
        self.detector.enroll([picture], [[top, left, bottom, right]], label, augment=True)
        cut = picture.crop((int(left), int(top), int(np.ceil(right)), int(np.ceil(bottom))))
        keeping.show(self.examples, label, [cut])
        return f"Enrolled one box of {label}."

    def enroll_character(self, drawn: Image.Image | None, name: str | None) -> str:
        """Adds a drawn character to a class; a sentence about it.

        Raises:
          UserError: if nothing is drawn, or there is no name.
        """
        if drawn is None:
            raise UserError("Draw a character first.")
        label = self._checked_class(name)
        scenes, boxes = [], []
        for side in _SIDES:
            character = character_of(drawn, side)
            top, left = (_SCENE - character.height) // 2, (_SCENE - character.width) // 2
            ink = np.zeros((_SCENE, _SCENE), np.float32)
            rows, columns = slice(top, top + character.height), slice(left, left + character.width)
            ink[rows, columns] = np.asarray(character, np.float32) / 255
            scenes.append(_scene(ink))
            boxes.append([top, left, top + character.height, left + character.width])
        self.detector.enroll(np.stack(scenes), boxes, label)
        keeping.show(self.examples, label, [drawn])
        return f"Enrolled a drawing of {label}."

    def forget(self, name: str | None) -> str:
        """Removes a class; a sentence about it.

        Raises:
          UserError: if it is not enrolled.
        """
        return keeping.forget(self.detector, self.examples, name)

    def find_objects(self, pictures: Sequence[Image.Image], least: float) -> list[Found]:
        """The photographs with boxes drawn in, and what is in them.

        Raises:
          UserError: if no class is enrolled.
        """
        self._check_enrolled()
        detected = self.detector.detect(list(pictures), threshold=least)
        return [
            self._drawn(picture, boxes, scores, labels)
            for picture, boxes, scores, labels in zip(pictures, *detected, strict=True)
        ]

    def find_characters(self, page: Image.Image, least: float, across: int) -> Found:
        """The page with boxes drawn in, and what is in it.

        The page is searched in overlapping windows of about three characters.

        Args:
          page: dark ink on bright paper, or the reverse.
          least: score of a detection.
          across: about how many characters stand beside each other.

        Raises:
          UserError: if no class is enrolled, or the page is empty.
        """
        self._check_enrolled()
        ink = ink_of(page)
        side = _window(page.size, across)
        corners = [(y, x) for y in _starts(page.height, side) for x in _starts(page.width, side)]
        windows = []
        for y, x in corners:
            window = np.zeros((side, side), np.float32)
            cut = ink[y : y + side, x : x + side]
            window[: cut.shape[0], : cut.shape[1]] = cut
            small = Image.fromarray(window).resize((_SCENE, _SCENE), Image.Resampling.BOX)
            windows.append(_scene(np.asarray(small)))
        detected = self.detector.detect(np.stack(windows), threshold=least)
        scale = side / _SCENE
        boxes = [
            boxes * scale + np.tile(corner, 2) for corner, boxes in zip(corners, detected.boxes, strict=True)
        ]
        joined = np.concatenate(boxes), np.concatenate(detected.scores), np.concatenate(detected.labels)
        kept = _distinct(*joined[:2])
        return self._drawn(page, *(column[kept] for column in joined))

    def saved(self, name: str = "detector") -> Path:
        """A file with the network and the classes.

        Raises:
          UserError: if no class is enrolled, or it cannot be written.
        """
        if not self.detector.classes:
            raise UserError("There is nothing to save yet: enrol a class in step 1.")
        return keeping.saved(self.detector, Path(self._folder.name), name)

    @classmethod
    def loaded(cls, path: str, kind: str) -> Finding:
        """From a file that `saved` wrote.

        Args:
          path: of the file.
          kind: what the detector is to take, as `kind_of` says.

        Raises:
          UserError: if it is not one, or of the other kind.
        """
        with keeping.opened(path, detector=True, instead="the tab that names images") as folder:
            detector = Detector.load(folder)
        if kind_of(detector) != kind:
            raise UserError(f"This is a detector for {kind_of(detector).lower()}: load it in the other tab.")
        return cls.of(detector)

    def _checked_class(self, name: str | None) -> str:
        label = keeping.checked_name(name)
        if (
            label in map(str, self.detector.classes)
            and self.detector.boxes_of(label) >= MOST_BOXES_OF_A_CLASS
        ):
            raise UserError(f"A class takes at most {MOST_BOXES_OF_A_CLASS} boxes here.")
        return label

    def _check_enrolled(self) -> None:
        if not self.detector.classes:
            raise UserError("No class is enrolled yet: enrol one in step 1.")

    def _drawn(
        self, picture: Image.Image, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray
    ) -> Found:
        drawn, names = picture.copy(), [str(label) for label in labels.tolist()]
        order = list(map(str, self.detector.classes))
        texts: list[tuple[str, Box]] = [
            (f"{name} {score:.2f}", (box[0], box[1], box[2], box[3]))
            for name, score, box in zip(names, scores.tolist(), boxes.tolist(), strict=True)
        ]
        draw_boxes(drawn, texts, [order.index(name) for name in names])
        return drawn, list(zip(names, map(float, scores), strict=True))


def checked_box(box: Sequence[float | None], picture: Image.Image) -> Box:
    """A box in pixels, its corners in order, cut off at the edges of the image.

    Raises:
      UserError: if a number is missing, or nothing is left of it.
    """
    if len(box) != 4 or any(one is None for one in box):
        raise UserError("There is no box yet: click two opposite corners of the object in the photograph.")
    y_1, x_1, y_2, x_2 = (float(one or 0) for one in box)
    top, bottom = np.clip(sorted((y_1, y_2)), 0, picture.height).tolist()
    left, right = np.clip(sorted((x_1, x_2)), 0, picture.width).tolist()
    if bottom - top < 2 or right - left < 2:
        raise UserError("The box is empty: click two opposite corners of the object in the photograph.")
    return top, left, bottom, right


def _scene(ink: np.ndarray) -> np.ndarray:
    return np.asarray(_PAPER + _CONTRAST * ink, np.float32)


def _window(size: tuple[int, int], across: int) -> int:
    """Pixels of a window's side."""
    count = min(max(int(across), 1), _MOST_ACROSS)
    return max(8, min(max(size), round(size[0] * _CHARACTERS_IN_A_WINDOW / count)))


def _starts(length: int, side: int) -> list[int]:
    """Where windows begin, half a window apart at most, the last at the end."""
    if length <= side:
        return [0]
    steps = -(-(length - side) * 2 // side)
    return [round((length - side) * step / steps) for step in range(steps + 1)]


def _distinct(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Numbers of the boxes that overlap with no better one, the best first."""
    kept: list[int] = []
    for number in np.argsort(-scores, kind="stable").tolist():
        if all(_overlap(boxes[number], boxes[other]) < _SAME for other in kept):
            kept.append(number)
    return np.array(kept, int)


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Shared area as a share of the smaller box: a part of a character is not another one."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    smaller = min(float(np.prod(one[2:] - one[:2])), float(np.prod(other[2:] - other[:2])))
    return shared / max(smaller, 1e-6)
