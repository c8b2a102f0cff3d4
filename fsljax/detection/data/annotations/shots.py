"""A few boxes of each new class from a training split: drawn from a seed, or read from published lists."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from fsljax.detection.data.annotations.coco_json import read_annotations
from fsljax.detection.data.set_operations import images_of_classes
from fsljax.detection.data.structures import DetectionSet
from fsljax.errors import UserError, first_few
from fsljax.storage.paths import given_path

_FIELD = "config.eval.shots_file"


class Shots(NamedTuple):
    """A box of each instance: images int `[classes, shots]`, boxes `[classes, shots, 4]` in pixels."""

    rows: np.ndarray
    boxes: np.ndarray


def draw_shots(data: DetectionSet, shots: int, seed: int) -> Shots:
    """Draws instances of each class, each from another image; the first of more are those of fewer.

    Other objects of these images are not used, as in Kang et al. (2019, https://arxiv.org/abs/1812.01866).

    Args:
      data: the images, and the boxes of the classes alone.
      shots: instances of a class.
      seed: another gives others.

    Raises:
      UserError: a class is in too few images.
    """
    check_enough(data, shots)
    rows = np.zeros((data.num_classes, shots), np.int64)
    boxes = np.zeros((data.num_classes, shots, 4), np.float32)
    for label, images in enumerate(images_of_classes(data)):
        random = np.random.default_rng([seed, label])
        rows[label] = random.permutation(images)[:shots]
        for place, row in enumerate(rows[label].tolist()):
            mine = np.flatnonzero((data.labels[row] == label) & ~data.difficult[row])
            boxes[label, place] = data.boxes[row][random.choice(mine)]
    return Shots(rows, boxes)


def check_enough(data: DetectionSet, shots: int) -> None:
    """Raises a UserError if a class is in fewer images than there are shots."""
    few = [
        f"{name} in {len(images)}"
        for name, images in zip(data.class_names, images_of_classes(data), strict=True)
        if len(images) < shots
    ]
    if few:
        raise UserError(
            f"config.eval.novel_shots asks for {shots} box{'es' * (shots > 1)} per new class, each from a "
            f"different image of the training split, but some classes are in fewer: {first_few(few)}. Ask "
            'for fewer, or turn it off with --config.eval.novel_shots="()".'
        )


def read_shots(pattern: str, data: DetectionSet, shots: int, seed: int) -> Shots:
    """Reads published lists, a file for each class.

    In a text file each line is the path of an image, and its boxes of the class are the instances, as in
    `box_{shots}shot_{class}_train.txt` of Wang et al. (2020, https://arxiv.org/abs/2003.06957); a JSON is in
    COCO's form and holds the instances themselves, as their `full_box_{shots}shot_{class}_trainval.json`.
    Images are known by the names of their files, or by the number at its end: COCO's of 2014 and of 2017
    differ in what comes before. Of more instances than shots the first are taken.

    Args:
      pattern: path of the files, with `{shots}`, `{class}` and perhaps `{seed}` in it.
      data: the training split, and the boxes of the classes alone.
      shots, seed: of the lists.

    Raises:
      UserError: a file is missing or damaged, names an image that the split lacks, or holds too few.
    """
    known = {name: row for row, name in enumerate(data.ids)}
    numbers = _by_number(data.ids)
    read: list[list[tuple[int, np.ndarray]]] = []
    for label, name in enumerate(data.class_names):
        values = {"{shots}": str(shots), "{class}": name, "{seed}": str(seed)}
        path = given_path(_filled(pattern, values), _FIELD)
        instances = []
        listed = _in_json(path, name) if path.suffix == ".json" else _in_text(path)
        for image, box in listed:
            stem = PurePosixPath(image).stem
            row = known.get(stem, numbers.get(_number(stem)))
            if row is None:
                raise UserError(
                    f"{path} names the image {image!r}, which the training split lacks: give the split that "
                    "it belongs to, --config.data.train_split=NAME."
                )
            if box is None:
                instances += [(row, one) for one in data.boxes[row][data.labels[row] == label]]
            else:
                sides = np.tile(data.sizes[row], 2)
                instances.append((row, np.clip(np.array(box, np.float32), 0, sides)))
        if len(instances) < shots:
            raise UserError(
                f"{path} holds {len(instances)} boxes of {name!r}, but {shots} were requested "
                "(config.eval.novel_shots): ask for fewer, or give a longer list."
            )
        read.append(instances[:shots])
    return Shots(
        np.array([[row for row, _ in of_class] for of_class in read], np.int64),
        np.array([[box for _, box in of_class] for of_class in read], np.float32),
    )


def check_pattern(pattern: str, shots: tuple[int, ...], seeds: tuple[int, ...]) -> None:
    """Raises a UserError if the path of published lists does not tell them apart, or is of another kind."""
    if "{class}" not in pattern or not pattern.endswith((".txt", ".json")):
        raise UserError(
            f"{_FIELD} is {pattern!r}; it must be a path of TXT or JSON files with {{class}} in it, such as "
            "vocsplit/box_{shots}shot_{class}_train.txt."
        )
    for name, values in (("shots", shots), ("seed", seeds)):
        if len(values) > 1 and f"{{{name}}}" not in pattern:
            raise UserError(
                f"{_FIELD} is {pattern!r}, the same file for {name} {values[0]} and {values[1]}: write "
                f"{{{name}}} where it differs."
            )


def _filled(pattern: str, values: Mapping[str, str]) -> str:
    for place, value in values.items():
        pattern = pattern.replace(place, value)
    return pattern


def _in_text(path: Path) -> Iterator[tuple[str, None]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"The list {path} cannot be read ({reason}): correct {_FIELD}.") from error
    for line in dict.fromkeys(filter(None, map(str.strip, lines))):
        yield line, None


def _in_json(path: Path, name: str) -> Iterator[tuple[str, tuple[float, ...]]]:
    read = read_annotations(path)
    for image in read.images:
        for one in read.objects.get(image.id, []):
            if read.class_names[one.category] == name and not one.ignored:
                yield image.file_name, one.box


def _number(stem: str) -> int | None:
    """The number at the end of COCO's names, which have twelve digits."""
    found = re.search(r"(\d{12})$", stem)
    return int(found[1]) if found else None


def _by_number(ids: tuple[str, ...]) -> dict[int | None, int]:
    rows: dict[int | None, int] = {_number(name): row for row, name in enumerate(ids)}
    rows.pop(None, None)
    return rows
