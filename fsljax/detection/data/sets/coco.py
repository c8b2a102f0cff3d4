"""Detection data in COCO's JSON format."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from posixpath import normpath

from fsljax.detection.config import Config
from fsljax.detection.data.annotations.coco_json import CocoFile, CocoImage, Id, read_annotations
from fsljax.detection.data.annotations.voc_xml import missing_split
from fsljax.detection.data.orientation import size_of
from fsljax.detection.data.photographs import Photographs, divided, folder_of
from fsljax.detection.data.set_operations import collect, one_image
from fsljax.detection.data.structures import DetectionSet
from fsljax.errors import UserError
from fsljax.storage.paths import given_path

_SHOWN = 100  # characters of a name


def load(config: Config) -> Photographs:
    """Loads the data set that `config.data` names.

    Raises:
      UserError: if it is missing or unsuitable; the message says what to do.
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

    Classes are in the order of the categories' ids. Crowds are difficult, and are evaluated by COCO's rule;
    annotations with `ignore` are difficult.

    Args:
      folder: folder of the data set.
      split: name of the split, such as "train2017".
      images: folder of the images; None: looked up in `SPLIT`, `images/SPLIT`, `images`, `JPEGImages`, and
        next to the JSON.
      limit: maximum number of images, the first ones in the JSON; None: all.
      drop_bad_boxes: as in `fsljax.detection.data.set_operations.collect`.

    Raises:
      UserError: if a file is missing; as in `fsljax.detection.data.annotations.coco_json.read_annotations`,
        or as in `collect`.
    """
    root = given_path(folder, "The folder of the data")
    file = _find_json(root, split)
    return read_file(file, root, split, images=images, limit=limit, drop_bad_boxes=drop_bad_boxes)


def read_file(
    file: Path,
    root: Path,
    split: str,
    *,
    images: Path | str | None = None,
    limit: int | None = None,
    drop_bad_boxes: bool = False,
) -> DetectionSet:
    """Like `read_folder`, for a JSON file of any name."""
    read = read_annotations(file)
    listed = read.images[:limit]
    paths = _find_images(root, split, images, [one.file_name for one in listed], file)
    ids = _identities(read.images, file)
    of_images = (
        _annotated(image, path, ids[image.id], read, file) for image, path in zip(listed, paths, strict=True)
    )
    class_names = tuple(dict.fromkeys(read.class_names.values()))
    return collect(of_images, class_names, drop_bad_boxes=drop_bad_boxes, notes=read.notes)


def _find_json(root: Path, split: str) -> Path:
    if not root.is_dir():
        raise UserError(f"The folder {root} does not exist: give the data folder, --config.data.path=DIR.")
    places = [root, root / "annotations"]
    for place in places:
        if (place / f"instances_{split}.json").is_file():
            return place / f"instances_{split}.json"
    there = [path.stem.removeprefix("instances_") for p in places for path in p.glob("instances_*.json")]
    raise missing_split(split, root, there)


def _find_images(
    root: Path, split: str, given: Path | str | None, names: list[str], file: Path
) -> list[Path]:
    """The files of these names, in the first folder that has the first of them."""
    if given is not None:
        places = [given_path(given, "The folder of the images")]
    else:
        places = [root / split, root / "images" / split, root / "images", root / "JPEGImages", root]
    folder = next((place for place in places if names and _file(place, names[0])), places[0])
    paths = {name: _file(folder, name) for name in names}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(names)} images are missing, first {missing[0][:_SHOWN]}. Looked in "
            f"{', '.join(map(str, places))}; give the folder that holds them, or correct {file}."
        )
    return [path for name in names if (path := paths[name]) is not None]


def _file(folder: Path, name: str) -> Path | None:
    """A file of this name, also as Windows writes folders, or macOS letters with accents."""
    for spelled in (name, name.replace("\\", "/")):
        for form in (spelled, unicodedata.normalize("NFC", spelled), unicodedata.normalize("NFD", spelled)):
            try:
                if (folder / form).is_file():
                    return folder / form
            except OSError:  # a name that is too long, for one
                return None
    return None


def _identities(images: Sequence[CocoImage], file: Path) -> dict[Id, str]:
    """Of each image the name of its file, with its folder where another file has the name too.

    Raises:
      UserError: two images are of one file.
    """
    paths = {image.id: PurePosixPath(normpath(image.file_name.replace("\\", "/"))) for image in images}
    first: dict[PurePosixPath, Id] = {}
    for identity, path in paths.items():
        if first.setdefault(path, identity) != identity:
            raise UserError(
                f"Images {first[path]!r} and {identity!r} of {file} name the same file, {path}: it would "
                "be trained on twice, each time with some of its boxes. Merge them into one."
            )
    stems = Counter(path.stem for path in paths.values())
    whole = Counter(path.with_suffix("") for path in paths.values())

    def name_of(path: PurePosixPath) -> str:
        if stems[path.stem] == 1:
            return path.stem
        return str(path.with_suffix("") if whole[path.with_suffix("")] == 1 else path)

    return {identity: name_of(path) for identity, path in paths.items()}


def _annotated(image: CocoImage, path: Path, identity: str, read: CocoFile, file: Path) -> DetectionSet:
    objects = read.objects.get(image.id, [])
    return one_image(
        path,
        identity,
        f"{image.file_name} in {file}",
        _size(image, path, file),
        boxes=[one.box for one in objects],
        classes=[read.class_names[one.category] for one in objects],
        difficult=[one.ignored for one in objects],
        crowd=[one.crowd for one in objects],
    )


def _size(image: CocoImage, path: Path, file: Path) -> tuple[int, int]:
    """The (height, width) of an image: as the file says, or where a side is missing, the image's own.

    Raises:
      UserError: the one side that is given is another.
    """
    height, width = image.size
    if height is not None and width is not None:
        return height, width
    own = size_of(path)
    for given, side, what in ((height, own[0], "high"), (width, own[1], "wide")):
        if given not in (None, side):
            raise UserError(
                f"The image {image.file_name} is {side} {what}, but {file} says {given}. Correct it."
            )
    return own
