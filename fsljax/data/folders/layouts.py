"""Which image files of a folder belong to which class and part, in its own or a published layout."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from fsljax.data.folders.repeats import PARTS, Classes, in_one_form, without_repeats
from fsljax.data.folders.walking import (
    composed,
    holds_images_itself,
    images_below,
    note_formats,
    subfolders,
    visible,
)
from fsljax.data.io.formats import is_image, passed_over, read_extensions
from fsljax.errors import UserError, first_few

_NAMES_OF_PARTS = {
    "train": "train training trainval learn learning",
    "validation": "val valid validation validate dev devel development",
    "test": "test testing tests",
}
_PART_OF = {name: part for part, names in _NAMES_OF_PARTS.items() for name in names.split()}
_FILES = {"train": "train", "validation": "val", "test": "test"}


def list_images(root: Path, shared_classes: bool, notes: list[str]) -> dict[str, Classes]:
    """Image files by part and class, in the layouts that `fsljax.data.sources.folder.load_splits` describes.

    Where the folder does not divide the classes, all of them are "train". Listed files need not exist,
    and classes may be empty. What is skipped is named in `notes`.

    Raises:
      UserError: the folder holds no images, or contradicts its layout.
    """
    parts = in_one_form(root, _list_all(root, shared_classes, notes), notes)
    if shared_classes:
        _check_once(root, parts)
    return without_repeats(root, parts, notes)


def _list_all(root: Path, shared_classes: bool, notes: list[str]) -> dict[str, Classes]:
    has_images = (root / "images").is_dir()
    tables = [(root / f"{name}.csv").is_file() for name in _FILES.values()]
    if all(tables) or (has_images and any(tables)):
        label_of: dict[str, tuple[str, str]] = {}
        return {part: _from_table(root, root / f"{name}.csv", label_of) for part, name in _FILES.items()}
    if folders := _part_folders(root, notes):
        return {part: _class_folders(root, folder, notes) for part, folder in folders.items()}
    if has_images and any((root / name).is_file() for name in ("images.txt", "classes.txt")):
        return _from_cub(root, shared_classes)
    if (root / "data").is_dir() and (root / "splits").is_dir():
        return _from_class_lists(root, notes)
    return {"train": _class_folders(root, root, notes)}


def _check_once(root: Path, parts: Mapping[str, Classes]) -> None:
    """Raises a UserError for a file that lists put into two parts, where these may share their classes."""
    part_of: dict[str, str] = {}
    for part, classes in parts.items():
        for file in itertools.chain.from_iterable(classes.values()):
            if part_of.setdefault(file, part) != part:
                raise UserError(
                    f"{root} has {file} in both {part_of[file]} and {part}: an image is for "
                    "training or for testing, so keep it in one of them."
                )


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


def _table_rows(table: Path) -> Iterator[tuple[int, str, str]]:
    """Line, filename and label of each row."""
    rows = csv.DictReader(_lines(table), skipinitialspace=True)
    try:
        columns = {column.strip().casefold(): column for column in rows.fieldnames or ()}
        for needed in ("filename", "label"):
            if needed not in columns:
                raise UserError(
                    f"{table} has no column {needed!r}: its first line must name the columns "
                    f"filename and label, but names {', '.join(columns) or 'none'}."
                )
        for row in rows:
            file, label = ((row[columns[name]] or "").strip() for name in ("filename", "label"))
            if not file or not label:
                raise UserError(f"Line {rows.line_num} of {table} lacks the filename or the label.")
            yield rows.line_num, file, label
    except csv.Error as error:
        raise UserError(
            f"{table} cannot be read as a table after line {rows.line_num} ({error}): look for "
            "an unclosed quote there."
        ) from error


def _from_table(root: Path, table: Path, label_of: dict[str, tuple[str, str]]) -> Classes:
    """Classes of one table; `label_of` collects the labels over all tables, and the table of each."""
    if not (root / "images").is_dir():
        raise UserError(
            f"{root} holds train.csv, val.csv and test.csv, but not the folder images/ that "
            "they refer to: add it."
        )
    classes: Classes = {}
    for line, file, label in _table_rows(table):
        earlier, earlier_table = label_of.setdefault(file, (label, table.name))
        if earlier != label:
            raise UserError(
                f"Line {line} of {table} labels {file} as {label}, but an earlier line labels "
                f"it as {earlier}: remove one of them."
            )
        if earlier_table != table.name:
            raise UserError(
                f"Line {line} of {table} lists {file}, which {earlier_table} lists too: keep it "
                "in one of them."
            )
        classes.setdefault(label, []).append(f"images/{file}")
    return {name: sorted(classes[name]) for name in sorted(classes)}


def _part_folders(root: Path, notes: list[str]) -> dict[str, Path]:
    folders = subfolders(root)
    folder_of: dict[str, Path] = {}
    for folder in folders:
        part = _part_called(folder.name)
        if part in folder_of:
            raise UserError(
                f"{root} holds {folder_of[part].name} and {folder.name}, both for {part}: keep one of them."
            )
        if part:
            folder_of[part] = folder
    # Among other folders, one called "train" or "test" alone is a class like them.
    if len(folder_of) < 2 and list(folder_of.values()) != folders:
        if folder_of and not any(map(holds_images_itself, folders)):
            name = next(iter(folder_of.values())).name
            beside = first_few([folder.name for folder in folders if folder.name != name])
            raise UserError(
                f"{root} holds {name}, which is named like a split, next to {beside}, and all "
                "of them hold their images in subfolders. Name the splits train, validation "
                f"and test; if these are classes, put the images of {name} directly into it, or "
                "rename it."
            )
        return {}
    if folder_of and "train" not in folder_of:
        raise UserError(
            f"{root} holds {first_few([folder.name for folder in folders])} but no folder train: add it."
        )
    if others := [folder.name for folder in folders if folder not in folder_of.values()]:
        notes.append(
            f"Skipped folders of {root} that are neither train, validation nor test: {first_few(others)}."
        )
    return folder_of


def _part_called(name: str) -> str | None:
    """Which part of a data set a folder is called like: "Training", "test_set", "meta-val"."""
    words = re.sub(r"[\s._-]+", " ", name.casefold()).strip()
    core = re.sub(r" ?(set|split|data|images|imgs|classes)$", "", words.removeprefix("meta").strip())
    return _PART_OF.get(core)


def _from_cub(root: Path, shared_classes: bool) -> dict[str, Classes]:
    named = _numbered(root / "classes.txt")
    classes: Classes = {named[number]: [] for number in sorted(named)}
    images = {number: f"images/{file}" for number, file in _numbered(root / "images.txt").items()}
    for file in images.values():
        name = file.split("/")[1]
        if name not in classes:
            raise UserError(
                f"{root / 'images.txt'} lists {file.removeprefix('images/')}, whose class is "
                f"missing from {root / 'classes.txt'}."
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
    entries: dict[int, str] = {}
    for line in filter(str.strip, _lines(path)):
        number, _, text = line.strip().partition(" ")
        if not number.isdecimal() or not text.strip():
            raise UserError(f"{path} must hold a number and a name on each line, but has {line.strip()!r}.")
        if entries.setdefault(int(number), text.strip()) != text.strip():
            raise UserError(
                f"{path} gives the number {number} to {entries[int(number)]} and to {text.strip()}."
            )
    return entries


def _from_class_lists(root: Path, notes: list[str]) -> dict[str, Classes]:
    divisions = {folder.name: folder for folder in subfolders(root / "splits")}
    if len(divisions) != 1 and "bertinetto" not in divisions:
        raise UserError(
            f"{root / 'splits'} must hold one folder with train.txt, val.txt and test.txt (or "
            f"one named bertinetto), but holds {', '.join(divisions) or 'none'}."
        )
    division = divisions.get("bertinetto") or next(iter(divisions.values()))
    classes = _class_folders(root, root / "data", notes)
    spelled = {composed(name): name for name in classes}
    parts: dict[str, Classes] = {}
    for part, file in _FILES.items():
        path = division / f"{file}.txt"
        named = {line.strip() for line in _lines(path)} - {""}
        listed = sorted({name if name in classes else spelled.get(composed(name), name) for name in named})
        if missing := [name for name in listed if name not in classes]:
            raise UserError(
                f"{path} lists {first_few(missing)}, for which {root / 'data'} has no class folder."
            )
        parts[part] = {name: classes[name] for name in listed}
    if unlisted := sorted(set(classes).difference(*parts.values())):
        notes.append(f"Skipped, because {division} does not list them: {first_few(unlisted)}.")
    return parts


def _class_folders(root: Path, folder: Path, notes: list[str]) -> Classes:
    entries = visible(folder)
    if not entries:
        raise UserError(f"The folder {folder} is empty: put one folder of images per class into it.")
    others: list[str] = []
    folders = subfolders(folder)
    classes = {sub.name: images_below(root, sub, others) for sub in folders}
    loose = [entry.name for entry in entries if entry.is_file() and is_image(entry.name)]
    if not any(classes.values()):
        where = f"images, such as {loose[0]}, but no class folders with images" if loose else "no images"
        unread = passed_over(others)
        raise UserError(
            f"The folder {folder} holds {where}{f' that can be read, but {unread}' if unread else ''}: put "
            "the images of each class into a folder named after the class "
            f"({', '.join(sorted(read_extensions()))})."
        )
    note_formats(folder, others, notes)
    if loose:
        notes.append(
            f"Images in {folder} itself belong to no class and were skipped ({len(loose):,}): "
            f"{first_few(loose)}."
        )
    if inner := sorted(
        {place for name, files in classes.items() for place in _classes_in(name, files, classes)}
    ):
        notes.append(
            f"Folders in {folder} that are named like a class but lie inside another class, and were "
            f"counted as part of it ({len(inner):,}): {first_few(inner)}."
        )
    depth = len(folder.relative_to(root).parts) + 2
    if all(len(file.split("/")) > depth for files in classes.values() for file in files):
        notes.append(
            f"Each folder in {folder} is treated as one class, although its images are all in "
            f"subfolders: {first_few(list(classes))}. If these are not the classes, give the "
            "folder that holds them."
        )
    return classes


def _classes_in(name: str, files: list[str], classes: Classes) -> Iterator[str]:
    """Where images of a class lie in a folder that is called like another class."""
    for file in files:
        inner = f"/{file}".partition(f"/{name}/")[2].split("/")[:-1]
        yield from (f"{name}/{'/'.join(inner)}" for folder in inner if folder in classes and folder != name)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing, but this layout requires it: add the file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text: {error}.") from error
