"""COCO files at random, with what is to be read of them: a reader of its own, or a refusal."""

from __future__ import annotations

import copy
import json
import math
import random
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

Json = dict[str, Any]

SIZES = {"a.jpg": (48, 64), "b.png": (20, 20), "cam1/0001.jpg": (30, 40), "cam2/0001.jpg": (40, 30),
         "c d.jpg": (33, 21), "é.jpg": (24, 24)}  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, False, "7", "", " ", "x", "\u0000", "\ud800", [], {}, [1, 2], -1, 0, 1, 2, 2.0, 2.5, 1e300,
    10**30, 10**400, math.nan, math.inf, "../a.jpg", "/etc/passwd", "C:\\a.jpg", "a.jpg", "./a.jpg", ".",
    "a" * 300, [1, 2, 3, "4"], [0.1, 0.2, 0.5, 0.5], [1, 2, math.nan, 4], [1, 2, 1e300, 4],
    [True, 1, 5, 5], [1, 1, -4, 5], [1, 1, 0, 5], [-3, 1, 9, 5], [-0.5, 1, 9, 5], [500, 1, 9, 5],
    [1, 1, 10**400, 3], [3, 3, 9, 9],
)  # fmt: skip
FIELDS = (
    *(("images", field) for field in ("id", "file_name", "width", "height")),
    *(("categories", field) for field in ("id", "name")),
    *(("annotations", field) for field in ("id", "image_id", "category_id", "bbox", "iscrowd", "ignore")),
)


class Refused(Exception):
    """What the reader must not read."""


class Read(NamedTuple):
    """An image as it must be read: id, (height, width), and (class, box, difficult, crowd) of each object."""

    identity: str
    size: tuple[int, int]
    objects: list[tuple[str, list[float], bool, bool]]


def content(rng: random.Random) -> Json:
    """A good file, in the ways in which good files differ."""
    names = rng.sample(sorted(SIZES), rng.randint(1, 4))
    as_text = rng.random() < 0.2
    images = [{"id": 10 + n, "file_name": name, "height": SIZES[name][0], "width": SIZES[name][1]}
              for n, name in enumerate(names)]  # fmt: skip
    for image in images:
        if rng.random() < 0.2:
            del image[rng.choice(["height", "width"])]
    categories = [{"id": n, "name": name} for n, name in rng.sample([(1, "cat"), (2, "dog"), (18, "bus")], 3)]
    if rng.random() < 0.1:
        categories.append({"id": 30, "name": "cat"})
    annotations = []
    for image in images:
        height, width = SIZES[image["file_name"]]
        for _ in range(rng.randint(0, 3)):
            x, y = rng.randint(0, width - 3), rng.randint(0, height - 3)
            sides = [rng.uniform(2, width - x), rng.uniform(2, height - y)]
            one = {"id": len(annotations), "image_id": image["id"], "bbox": [x, y, *sides],
                   "category_id": rng.choice(categories)["id"], "area": math.nan}  # fmt: skip
            if rng.random() < 0.3:
                one["iscrowd"] = rng.choice([0, 1, True, False, None])
            annotations.append(one)
    made: Json = {
        "images": images,
        "categories": categories,
        "annotations": annotations,
        "info": {"year": None},
    }
    if as_text:
        for part in ("images", "categories"):
            for one in made[part]:
                one["id"] = str(one["id"])
    return made


def changed(rng: random.Random, good: Json) -> Json:
    """The file with a field of an entry changed or left out, an entry twice, or a part that is none."""
    made = copy.deepcopy(good)
    kind = rng.random()
    part, field = rng.choice(FIELDS)
    if kind < 0.06:
        made[rng.choice(["images", "categories", "annotations"])] = rng.choice(ODD)
    elif kind < 0.1:
        del made[rng.choice(["images", "categories", "annotations"])]
    elif made[part]:
        one = rng.choice(made[part])
        if kind < 0.25:
            again = copy.deepcopy(one)
            if rng.random() < 0.5:
                again[field] = rng.choice(ODD)
            made[part].append(again)
        elif kind < 0.35:
            one.pop(field, None)
        elif kind < 0.4:
            made[part][rng.randrange(len(made[part]))] = rng.choice(ODD)
        else:
            one[field] = rng.choice(ODD)
    return made


def write(rng: random.Random, made: Json, file: Path) -> None:
    text = json.dumps(
        made, ensure_ascii=rng.random() < 0.5 or "\ud800" in repr(made) or "\\ud800" in repr(made)
    )
    file.write_bytes(b"\xef\xbb\xbf" * (rng.random() < 0.3) + text.encode())


def expected(made: Json, *, drop: bool) -> list[Read]:
    """What must be read, in plain steps.

    Raises:
      Refused: the file must be.
    """
    parts = {part: entries(made.get(part)) for part in ("images", "categories", "annotations")}
    images = once(parts["images"], image)
    categories = once(parts["categories"], lambda one: name(one.get("name")))
    objects = once(parts["annotations"], lambda one: annotation(one, images, categories), needs_id=False)
    files = [PurePosixPath(file) for file, _ in images.values()]
    for file in files:
        need(str(file) in SIZES and files.count(file) == 1)
    need(bool(files) or not images)
    read = []
    some = pixels = False
    for identity, (file, given) in images.items():
        path = PurePosixPath(file)
        height, width = SIZES[file] if None in given else given
        need(
            None not in given
            or all(side in (None, own) for side, own in zip(given, SIZES[file], strict=True))
        )
        found = []
        for of_image, category, (x, y, w, h), crowd, ignored in objects.values():
            if of_image != identity:
                continue
            some, pixels = True, pixels or max(x, y, x + w, y + h) > 1
            box = fitting([y, x, y + h, x + w], height, width, drop)
            one = (categories[category], box, crowd or ignored, crowd)
            if box is not None and one not in found:
                found.append(one)
        stem = (
            path.stem if [other.stem for other in files].count(path.stem) == 1 else str(path.with_suffix(""))
        )
        read.append(Read(stem, (height, width), found))
    need(pixels or not some)
    return read


def fitting(box: list[float], height: int, width: int, drop: bool) -> list[float] | None:
    y0, x0, y1, x1 = box
    good = all(math.isfinite(value) and abs(value) < 1e9 for value in box) and y1 > y0 and x1 > x0
    beyond = max(-y0, -x0, y1 - height, x1 - width) if good else 0
    good = good and y1 > 0 and x1 > 0 and y0 < height and x0 < width
    good = good and not (max(y1, x1) <= 1 and (y1 % 1 or x1 % 1))
    good = good and (drop or beyond < 1)
    need(good or drop)
    return [max(y0, 0), max(x0, 0), min(y1, height), min(x1, width)] if good else None


def need(condition: bool) -> None:
    if not condition:
        raise Refused


def entries(listed: Any) -> list[Json]:
    need(isinstance(listed, list) and all(isinstance(one, dict) for one in listed))
    return listed


def once(listed: list[Json], said_by: Any, *, needs_id: bool = True) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for place, one in enumerate(listed):
        said = said_by(one)
        number = ("place", place) if not needs_id and one.get("id") is None else identity_of(one.get("id"))
        need(number not in found or repr(found[number]) == repr(said) or found[number] == said)
        found.setdefault(number, said)
    return found


def image(one: Json) -> tuple[str, tuple[int | None, int | None]]:
    file = one.get("file_name")
    name(file)
    file = file.removeprefix("./")
    need(not file.startswith(("/", "..", "C:")) and file != ".")
    return file, (side(one.get("height")), side(one.get("width")))


def annotation(one: Json, images: Json, categories: Json) -> tuple[Any, ...]:
    of_image, category = identity_of(one.get("image_id")), identity_of(one.get("category_id"))
    need(of_image in images and category in categories)
    box = one.get("bbox")
    need(isinstance(box, list) and len(box) == 4 and all(map(number, box)))
    need(all(isinstance(value, float) or abs(value) < 10**308 for value in box))
    return of_image, category, tuple(map(float, box)), flag(one.get("iscrowd")), flag(one.get("ignore"))


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def identity_of(value: Any) -> Any:
    if isinstance(value, str) and value.isdecimal() and str(int(value)) == value:
        return int(value)
    need(
        (isinstance(value, str) and value != "")
        or (number(value) and (isinstance(value, int) or math.isfinite(value)))
    )
    need(isinstance(value, str) or value == int(value))
    return value if isinstance(value, str) else int(value)


def name(value: Any) -> str:
    need(isinstance(value, str) and bool(value.strip()) and value not in ("\u0000", "\ud800"))
    return value.strip()


def side(value: Any) -> int | None:
    if value is None:
        return None
    need(number(value) and 1 <= value <= 1_000_000 and value == int(value))
    return int(value)


def flag(value: Any) -> bool:
    need(value is None or isinstance(value, bool) or (number(value) and value in (0, 1)))
    return bool(value)


def same(boxes: np.ndarray, expected_boxes: list[list[float]]) -> bool:
    wanted = np.array(expected_boxes, np.float64).reshape(-1, 4)
    return boxes.shape == wanted.shape and np.array_equal(boxes, wanted.astype(np.float32))
