"""Which image files of a folder belong to which class and part, in its own or a published layout."""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from fsljax.data.io.decode import EXTENSIONS
from fsljax.errors import UserError, first_few

Classes = dict[str, list[str]]
"""Image files of each class, as paths relative to the root folder."""

PARTS = ("train", "validation", "test")
_FOLDERS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
_FILES = {"train": "train", "validation": "val", "test": "test"}


def list_images(root: Path, shared_classes: bool, notes: list[str]) -> dict[str, Classes]:
    """Image files by part and class, in the layouts that `fsljax.data.sources.folder.load_splits` describes.

    Where the folder does not divide the classes, all of them are "train". Listed files need not exist,
    and classes may be empty. What is skipped is named in `notes`.

    Raises:
      UserError: the folder holds no images, or contradicts its layout.
    """
    return _without_repeats(root, _list_all(root, shared_classes, notes), notes)


def _list_all(root: Path, shared_classes: bool, notes: list[str]) -> dict[str, Classes]:
    has_images = (root / "images").is_dir()
    tables = [(root / f"{name}.csv").is_file() for name in _FILES.values()]
    if all(tables) or (has_images and any(tables)):
        label_of: dict[str, str] = {}
        return {part: _from_table(root, root / f"{name}.csv", label_of) for part, name in _FILES.items()}
    if folders := _part_folders(root, notes):
        return {part: _class_folders(root, folder, notes) for part, folder in folders.items()}
    if has_images and any((root / name).is_file() for name in ("images.txt", "classes.txt")):
        return _from_cub(root, shared_classes)
    if (root / "data").is_dir() and (root / "splits").is_dir():
        return _from_class_lists(root, notes)
    return {"train": _class_folders(root, root, notes)}


def as_text(name: str) -> str:
    """Valid Unicode, whatever bytes the name has on disk."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def shown_names(names: Iterable[str]) -> dict[str, str]:
    """For each name one that is valid Unicode; different names stay different."""
    names = set(names)
    shown = {name: name for name in names if as_text(name) == name}
    taken = set(shown)
    for name in sorted(names - taken):
        text = as_text(name)
        numbered = (f"{text} ({number})" for number in itertools.count(2))
        shown[name] = next(free for free in itertools.chain([text], numbered) if free not in taken)
        taken.add(shown[name])
    return shown


def _without_repeats(root: Path, parts: Mapping[str, Classes], notes: list[str]) -> dict[str, Classes]:
    """Of an image that links put into several classes, or twice into one, only the place it really has."""
    real_folder = cache(os.path.realpath)
    real_root = real_folder(str(root))

    def real_path(file: str) -> str:
        folder, _, name = f"{root}/{file}".rpartition("/")
        path = f"{real_folder(folder)}/{name}"
        # Making a Path of each of 100,000 files would take a second.
        return os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114

    places = [(name, file) for part in PARTS for name, files in parts.get(part, {}).items() for file in files]
    real = {file: real_path(file) for _, file in places}
    class_of: dict[str, str] = {}
    for name, file in sorted(places, key=lambda place: real[place[1]] != f"{real_root}/{place[1]}"):
        class_of.setdefault(real[file], name)

    def once(name: str, files: list[str]) -> list[str]:
        return sorted({real[file]: file for file in reversed(files) if class_of[real[file]] == name}.values())

    kept = {part: {name: once(name, files) for name, files in parts[part].items()} for part in parts}
    left = {file for classes in kept.values() for files in classes.values() for file in files}
    if repeats := [file for file in real if file not in left]:
        notes.append(
            f"Images of {root} that occur twice through links, which count once ({len(repeats):,}): "
            f"{first_few(repeats)}."
        )
    return kept


def _table_rows(table: Path) -> Iterator[tuple[int, str, str]]:
    """Line, filename and label of each row."""
    rows = csv.DictReader(_lines(table), skipinitialspace=True)
    try:
        columns = {column.strip().casefold(): column for column in rows.fieldnames or ()}
        for needed in ("filename", "label"):
            if needed not in columns:
                raise UserError(
                    f"{table} has no column {needed!r}: its first line must name the columns filename and "
                    f"label, and names {', '.join(columns) or 'none'}."
                )
        for row in rows:
            file, label = ((row[columns[name]] or "").strip() for name in ("filename", "label"))
            if not file or not label:
                raise UserError(f"Line {rows.line_num} of {table} lacks the filename or the label.")
            yield rows.line_num, file, label
    except csv.Error as error:
        raise UserError(
            f"{table} cannot be read as a table after line {rows.line_num} ({error}): look there for a quote "
            "that is not closed."
        ) from error


def _from_table(root: Path, table: Path, label_of: dict[str, str]) -> Classes:
    """Classes of one table; `label_of` collects the labels over all tables."""
    if not (root / "images").is_dir():
        raise UserError(
            f"{root} holds train.csv, val.csv and test.csv, but not the folder images/ they refer to: add it."
        )
    classes: Classes = {}
    for line, file, label in _table_rows(table):
        if label_of.setdefault(file, label) != label:
            raise UserError(
                f"Line {line} of {table} labels {file} as {label}, an earlier line as {label_of[file]}: "
                "remove one of them."
            )
        classes.setdefault(label, []).append(f"images/{file}")
    return {name: sorted(classes[name]) for name in sorted(classes)}


def _part_folders(root: Path, notes: list[str]) -> dict[str, Path]:
    subfolders = _subfolders(root)
    folder_of: dict[str, Path] = {}
    for folder in subfolders:
        part = _FOLDERS.get(folder.name.casefold())
        if part in folder_of:
            raise UserError(
                f"{root} holds {folder_of[part].name} and {folder.name}, both for {part}: keep one of them."
            )
        if part:
            folder_of[part] = folder
    # Among other folders, one called "train" or "test" alone is a class like them.
    if len(folder_of) < 2 and list(folder_of.values()) != subfolders:
        return {}
    if folder_of and "train" not in folder_of:
        raise UserError(
            f"{root} holds {first_few([folder.name for folder in subfolders])} but no folder train: add it."
        )
    if others := [folder.name for folder in subfolders if folder not in folder_of.values()]:
        notes.append(f"Left out, being neither train, validation nor test of {root}: {first_few(others)}.")
    return folder_of


def _from_cub(root: Path, shared_classes: bool) -> dict[str, Classes]:
    named = _numbered(root / "classes.txt")
    classes: Classes = {named[number]: [] for number in sorted(named)}
    images = {number: f"images/{file}" for number, file in _numbered(root / "images.txt").items()}
    for file in images.values():
        name = file.split("/")[1]
        if name not in classes:
            raise UserError(
                f"{root / 'images.txt'} names {file.removeprefix('images/')}, "
                f"whose class {root / 'classes.txt'} does not name."
            )
        classes[name].append(file)
    classes = {name: sorted(files) for name, files in classes.items()}
    if not shared_classes:
        part_of = ("train", "validation", "train", "test")
        return {
            part: {name: classes[name] for i, name in enumerate(classes) if part_of[i % 4] == part}
            for part in PARTS
        }
    division = _numbered(root / "train_test_split.txt")
    training = {file for number, file in images.items() if division.get(number) == "1"}
    return {
        "train": {name: [file for file in files if file in training] for name, files in classes.items()},
        "test": {name: [file for file in files if file not in training] for name, files in classes.items()},
    }


def _numbered(path: Path) -> dict[int, str]:
    """A file of lines `NUMBER TEXT`, as CUB_200_2011 has them."""
    entries = {}
    for line in filter(str.strip, _lines(path)):
        number, _, text = line.strip().partition(" ")
        if not number.isdecimal() or not text.strip():
            raise UserError(f"{path} must hold a number and a name on each line, but has {line.strip()!r}.")
        entries[int(number)] = text.strip()
    return entries


def _from_class_lists(root: Path, notes: list[str]) -> dict[str, Classes]:
    divisions = {folder.name: folder for folder in _subfolders(root / "splits")}
    if len(divisions) != 1 and "bertinetto" not in divisions:
        raise UserError(
            f"{root / 'splits'} must hold one folder with train.txt, val.txt and test.txt (or one called "
            f"bertinetto), and holds {', '.join(divisions) or 'none'}."
        )
    division = divisions.get("bertinetto") or next(iter(divisions.values()))
    classes = _class_folders(root, root / "data", notes)
    parts: dict[str, Classes] = {}
    for part, file in _FILES.items():
        path = division / f"{file}.txt"
        listed = sorted({line.strip() for line in _lines(path)} - {""})
        if missing := [name for name in listed if name not in classes]:
            raise UserError(
                f"{path} names {first_few(missing)}, which {root / 'data'} has no class folder for."
            )
        parts[part] = {name: classes[name] for name in listed}
    if unlisted := sorted(set(classes).difference(*parts.values())):
        notes.append(f"Left out, because {division} does not name them: {first_few(unlisted)}.")
    return parts


def _class_folders(root: Path, folder: Path, notes: list[str]) -> Classes:
    entries = _visible(folder)
    if not entries:
        raise UserError(f"The folder {folder} is empty: put a folder of images for each class into it.")
    classes = {sub.name: _images_below(root, sub) for sub in _subfolders(folder)}
    loose = [entry.name for entry in entries if entry.is_file() and _is_image(entry.name)]
    if not any(classes.values()):
        where = f"images, such as {loose[0]}, but no class folders with images" if loose else "no images"
        raise UserError(
            f"The folder {folder} holds {where}: put the images of each class into a folder named after the "
            f"class ({', '.join(sorted(EXTENSIONS))})."
        )
    if loose:
        notes.append(
            f"Images in {folder} itself belong to no class and were left out ({len(loose):,}): "
            f"{first_few(loose)}."
        )
    return classes


def _images_below(root: Path, folder: Path, above: tuple[Path, ...] = ()) -> list[str]:
    """Relative paths of the images at any depth, sorted."""
    here = folder.resolve()
    if here in above:  # a link to a folder that holds it
        return []
    files = []
    for entry in _visible(folder):
        if entry.is_dir():
            files += _images_below(root, entry, (*above, here))
        # A link that leads nowhere is reported as unreadable; sockets and the like are none.
        elif _is_image(entry.name) and (entry.is_file() or entry.is_symlink()):
            files.append(entry.relative_to(root).as_posix())
    return sorted(files)


def _subfolders(folder: Path) -> list[Path]:
    return [entry for entry in _visible(folder) if entry.is_dir()]


def _visible(folder: Path) -> list[Path]:
    """What is in the folder and not hidden, sorted by name."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be read ({error.strerror}): check its permissions."
        ) from error


def _is_image(name: str) -> bool:
    return Path(name).suffix.casefold() in EXTENSIONS


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: its layout needs it. Add the file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text: {error}.") from error
