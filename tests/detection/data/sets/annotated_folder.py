"""Tiny detection folders for tests: coloured squares, in VOC's, COCO's and ImageNet's layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image


class Marked(NamedTuple):
    """An image's (height, width) and its objects: class, `[y_min, x_min, y_max, x_max]`, difficult."""

    size: tuple[int, int]
    objects: list[tuple[str, tuple[int, int, int, int], bool]]


MARKED = {
    "a1": Marked((40, 60), [("cat", (0, 0, 10, 20), False), ("dog", (5, 30, 40, 60), True)]),
    "a2": Marked((50, 30), []),
    "b1": Marked((30, 30), [("dog", (1, 2, 3, 4), False), ("bus", (10, 10, 30, 29), False)]),
}
SPLITS = {"train": ["a1", "a2"], "val": ["b1"]}


def pixels(marked: Marked) -> np.ndarray:
    """White squares on grey, uint8 `[height, width, 3]`."""
    image = np.full((*marked.size, 3), 100, np.uint8)
    for _, (y_min, x_min, y_max, x_max), _ in marked.objects:
        image[y_min:y_max, x_min:x_max] = 255
    return image


def xml_of(name: str, marked: Marked) -> str:
    objects = "".join(
        f"<object><name>{kind}</name><difficult>{int(difficult)}</difficult><bndbox><xmin>{x_min + 1}</xmin>"
        f"<ymin>{y_min + 1}</ymin><xmax>{x_max}</xmax><ymax>{y_max}</ymax></bndbox></object>"
        for kind, (y_min, x_min, y_max, x_max), difficult in marked.objects
    )
    height, width = marked.size
    return (
        f"<annotation><filename>{name}</filename><size><width>{width}</width><height>{height}</height>"
        f"<depth>3</depth></size>{objects}</annotation>"
    )


def write_voc(root: Path) -> Path:
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for name, marked in MARKED.items():
        Image.fromarray(pixels(marked)).save(root / "JPEGImages" / f"{name}.png")
        (root / "Annotations" / f"{name}.xml").write_text(xml_of(name, marked))
    for split, names in SPLITS.items():
        (root / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    (root / "ImageSets/Main/cat_train.txt").write_text("a1  1\na2 -1\n")
    return root


def coco_of(split: str) -> dict:
    categories = {"dog": 3, "bus": 7, "cat": 90}
    images, annotations = [], []
    for number, name in enumerate(SPLITS[split]):
        height, width = MARKED[name].size
        images.append({"id": 10 + number, "file_name": f"{name}.png", "height": height, "width": width})
        for kind, (y_min, x_min, y_max, x_max), difficult in MARKED[name].objects:
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": 10 + number,
                    "category_id": categories[kind],
                    "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
                    "iscrowd": int(difficult),
                }
            )
    listed = [{"id": number, "name": name} for name, number in reversed(categories.items())]
    return {"images": images, "annotations": annotations, "categories": listed}


def write_coco(root: Path) -> Path:
    (root / "annotations").mkdir(parents=True)
    for split, names in SPLITS.items():
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(coco_of(split)))
        (root / "images" / split).mkdir(parents=True)
        for name in names:
            Image.fromarray(pixels(MARKED[name])).save(root / "images" / split / f"{name}.png")
    return root
