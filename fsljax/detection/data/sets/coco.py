"""Detection data in COCO's JSON."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fsljax.detection.config import Config
from fsljax.detection.data.annotation_xml import missing_split
from fsljax.detection.data.photographs import Photographs, divided, folder_of
from fsljax.detection.data.set_operations import collect, one_image
from fsljax.detection.data.structures import DetectionSet
from fsljax.errors import UserError

Json = dict[str, Any]


def load(config: Config) -> Photographs:
    """The set that `config.data` names.

    Raises:
      UserError: if it is missing or unfit, saying what to do.
    """
    data, folder = config.data, folder_of(config)

    def read_split(split: str, names: tuple[str, ...]) -> DetectionSet:
        return read_folder(folder, split, limit=data.limit or None, drop_bad_boxes=data.drop_bad_boxes)

    return divided(config, read_split)


def read_folder(
    folder: Path | str,
    split: str,
    *,
    images: Path | str | None = None,
    limit: int | None = None,
    drop_bad_boxes: bool = False,
) -> DetectionSet:
    """Reads `instances_SPLIT.json`, in the folder or in its `annotations`, and finds the images.

    Classes are in the order of the categories' ids. Crowds are difficult.

    Args:
      folder: of the data set.
      split: such as "train2017".
      images: folder of the images; None looks for `SPLIT`, `images/SPLIT`, `images` and `JPEGImages`, and
        beside the JSON.
      limit: so many of the first images in the order of the JSON; None: all.
      drop_bad_boxes: as for `fsljax.detection.data.set_operations.collect`.

    Raises:
      UserError: a file is missing, is no JSON or lacks a part, names an unknown image or category, or as
        `collect`.
    """
    root = Path(folder).expanduser()
    file = _find_json(root, split)
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        listed = stored["images"][:limit]
        categories = {one["id"]: one["name"] for one in sorted(stored["categories"], key=lambda c: c["id"])}
        by_image = _by_image(stored, file)
        pictures = _find_images(root, split, images, [one["file_name"] for one in listed])
        read = list(_annotated(listed, by_image, categories, pictures, file))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}. Correct it, or copy it anew.") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file} is not in COCO's form: {type(error).__name__} {error}. It needs images, annotations and "
            "categories as COCO's instances have them."
        ) from error
    return collect(read, tuple(categories.values()), drop_bad_boxes=drop_bad_boxes)


def _find_json(root: Path, split: str) -> Path:
    if not root.is_dir():
        raise UserError(f"The folder {root} does not exist: give that of the data, --config.data.path=DIR.")
    places = [root, root / "annotations"]
    for place in places:
        if (place / f"instances_{split}.json").is_file():
            return place / f"instances_{split}.json"
    there = [path.stem.removeprefix("instances_") for p in places for path in p.glob("instances_*.json")]
    raise missing_split(split, root, there)


def _find_images(root: Path, split: str, given: Path | str | None, names: list[str]) -> Path:
    if given is not None:
        places = [Path(given).expanduser()]
    else:
        places = [root / split, root / "images" / split, root / "images", root / "JPEGImages", root]
    folder = next((place for place in places if names and (place / names[0]).is_file()), places[0])
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(names)} images are missing, first {missing[0]}. Looked in "
            f"{', '.join(map(str, places))}; give the folder that holds them."
        )
    return folder


def _by_image(stored: Json, file: Path) -> dict[int, list[Json]]:
    known = {one["id"] for one in stored["images"]}
    by_image = defaultdict(list)
    for one in stored["annotations"]:
        if one["image_id"] not in known:
            raise UserError(
                f"Annotation {one['id']} of {file} is of image {one['image_id']}, which it lacks."
            )
        by_image[one["image_id"]].append(one)
    return by_image


def _annotated(
    listed: list[Json],
    by_image: dict[int, list[Json]],
    categories: dict[int, str],
    pictures: Path,
    file: Path,
) -> Iterator[DetectionSet]:
    for image in listed:
        boxes, classes, difficult = [], [], []
        for one in by_image.get(image["id"], []):
            if one["category_id"] not in categories:
                raise UserError(
                    f"Annotation {one['id']} of {file} is of category {one['category_id']}, which it lacks."
                )
            x, y, width, height = one["bbox"]
            boxes.append([y, x, y + height, x + width])
            classes.append(categories[one["category_id"]])
            difficult.append(bool(one.get("iscrowd", 0)))
        yield one_image(
            pictures / image["file_name"],
            Path(image["file_name"]).stem,
            f"{image['file_name']} in {file}",
            (image["height"], image["width"]),
            boxes=boxes,
            classes=classes,
            difficult=difficult,
        )
