"""A folder in VOC's layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Object = tuple[str, tuple[int, int, int, int], int]
"""Class, columns and rows of the box from 1 as VOC counts (x, y, x, y), and whether it is difficult."""


def write_voc(root: Path, images: Mapping[str, tuple[np.ndarray, Sequence[Object]]]) -> Path:
    """Writes images, uint8 `[height, width, 3]`, with objects; "train" and "val" both list all of them."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for name, (pixels, objects) in images.items():
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        listed = "".join(
            f"<object><name>{kind}</name><difficult>{hard}</difficult><bndbox><xmin>{x0}</xmin>"
            f"<ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
            for kind, (x0, y0, x1, y1), hard in objects
        )
        height, width = pixels.shape[:2]
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        (root / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename>{size}{listed}</annotation>"
        )
    for split in ("train", "val"):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(images) + "\n")
    return root
