"""What was found, as a JSON file in COCO's form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsljax.cli.output import rounded
from fsljax.detection.data.orientation import size_of
from fsljax.storage.replacing import replacing

if TYPE_CHECKING:
    from fsljax.data.labels import Label

    Found = tuple[Label, float, tuple[float, float, float, float]]


def write_coco(
    path: Path, classes: Sequence[Label], images: Sequence[str], answers: Sequence[Sequence[Found] | None]
) -> None:
    """Writes images, annotations with their scores, and categories, numbered from 1.

    Args:
      path: of the file.
      classes: that were looked for; all are categories, found or not.
      images: paths; their names in the file are these.
      answers: what was found in each, with its label, score and box, `(y_min, x_min, y_max, x_max)`; None: it
        cannot be read, and is left out.

    Raises:
      OSError: if it cannot be written.
    """
    category_of = {label: number for number, label in enumerate(classes, start=1)}
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image, found in zip(images, answers, strict=True):
        if found is None:
            continue
        height, width = size_of(Path(image))
        number = len(listed) + 1
        listed.append({"id": number, "file_name": Path(image).as_posix(), "height": height, "width": width})
        for label, score, box in found:
            top, left, bottom, right = (round(side, 2) for side in box)
            sides = round(right - left, 2), round(bottom - top, 2)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category_of[label],
                    "bbox": [left, top, *sides],
                    "area": round(sides[0] * sides[1], 2),
                    "iscrowd": 0,
                    "score": rounded(score),
                }
            )
    categories = [{"id": number, "name": str(label)} for label, number in category_of.items()]
    document = {"images": listed, "annotations": annotations, "categories": categories}
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(document, indent=1), encoding="utf-8")
