"""The files of Lake's one-shot task, found in a folder or downloaded, and read without being unpacked."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from absl import logging

from fsljax.data.io import tfds_source
from fsljax.data.io.omniglot_archives import BASE_URL, SHA256
from fsljax.data.io.zip_archives import check_zip, download_zip
from fsljax.errors import UserError
from fsljax.storage.paths import given_path

RUNS = 20
WAY = 20
BACKGROUND = {
    "all": "images_background",
    "small1": "images_background_small1",
    "small2": "images_background_small2",
}
DOWNLOADS = "omniglot_one_shot"  # in the folder of TFDS data sets

_ADDRESSES = {
    "all_runs": "one-shot-classification/all_runs.zip",
    **{name: f"{name}.zip" for name in BACKGROUND.values()},
}
_CHECKSUMS = {
    "all_runs": "437c1eeab0af8484112e1b4cc0f3d541ec727f7c47b9b202da738af9dfd6c325",
    "images_background": SHA256["train"],
    "images_background_small1": SHA256["small1"],
    "images_background_small2": SHA256["small2"],
}
_DRAWING = re.compile(r"(?:.*/)?([^/]+)/character(\d+)/\d+_(\d+)\.png")
_RUN_FILE = re.compile(r"(?:.*/)?(run\d+)/(class_labels\.txt|(?:training|test)/[^/.]+\.png)")


def find(name: str, path: str) -> Path | None:
    """The archive `name`.zip or the folder it unpacks to, in the folder that the config names; None: neither.

    Raises:
      UserError: if the config names a folder that does not exist.
    """
    if not path:
        return None
    folder = given_path(path, "--config.data.path=DIR")
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}: correct --config.data.path=DIR.")
    if (folder / f"{name}.zip").is_file():
        return folder / f"{name}.zip"
    # Packed as it is, all_runs.zip unpacks to run01 … run20 with no folder around them.
    unpacked = folder if name == "all_runs" and (folder / "run01").is_dir() else folder / name
    return unpacked if unpacked.is_dir() else None


def fetch(name: str, *, data_dir: str | None = None, base_url: str = BASE_URL) -> Path:
    """The archive `name`.zip, downloaded once into the folder of TFDS data sets.

    Raises:
      UserError: if it cannot be had, is another file than the published one, or cannot be written.
    """
    place = tfds_source.data_folder(data_dir) / DOWNLOADS / f"{name}.zip"
    if place.is_file():
        return place
    url = f"{base_url.rstrip('/')}/{_ADDRESSES[name]}"
    logging.warning("%s is missing: downloading it from %s", place, url)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        download_zip(url, place, _CHECKSUMS[name] if base_url == BASE_URL else None)
    except OSError as error:
        raise UserError(
            f"{place.name} of Lake's one-shot task cannot be downloaded from {url} to "
            f"{place.parent} ({tfds_source.reason(error)}): put it into a folder and give that "
            "folder, --config.data.path=DIR."
        ) from error
    return place


def read_background(place: Path) -> dict[tuple[str, int, int], bytes]:
    """The encoded drawings of an archive or folder, by alphabet, character and drawer, each from 1, in order.

    Raises:
      UserError: if it cannot be read or holds no drawings.
    """
    drawings = {}
    for name, content in _members(place).items():
        if match := _DRAWING.fullmatch(name):
            drawings[match[1], int(match[2]), int(match[3])] = content
    if not drawings:
        raise UserError(f"{place} holds no ALPHABET/characterNN/NNNN_NN.png: copy it again.")
    return dict(sorted(drawings.items()))


def read_runs(place: Path) -> list[tuple[str, dict[str, bytes], np.ndarray]]:
    """The runs of an archive or folder.

    Returns:
      for each of the 20 its name, its encoded images by their names, `training/class01.png` and so on, and
      int `[20]`, the class of each test item.

    Raises:
      UserError: if it cannot be read, or is not the published 20 runs of 20 decisions.
    """
    runs: dict[str, dict[str, bytes]] = {}
    for name, content in _members(place).items():
        if match := _RUN_FILE.fullmatch(name):
            runs.setdefault(match[1], {})[match[2]] = content
    wanted = [f"run{number:02}" for number in range(1, RUNS + 1)]
    if sorted(runs) != wanted:
        raise UserError(f"{place} holds {len(runs)} runs, not run01 to run{RUNS}: copy it again.")
    return [(name, runs[name], _classes(runs[name], f"{name} in {place}")) for name in wanted]


def _classes(files: Mapping[str, bytes], what: str) -> np.ndarray:
    """The class of each test item, from 0, by `class_labels.txt`: a line is `…/itemNN.png …/classNN.png`."""
    numbers = [f"{number:02}" for number in range(1, WAY + 1)]
    wanted = {f"training/class{n}.png" for n in numbers} | {f"test/item{n}.png" for n in numbers}
    if missing := sorted((wanted | {"class_labels.txt"}) - set(files)):
        raise UserError(f"{what} lacks {missing[0]}: copy the runs again.")
    text = files["class_labels.txt"].decode("utf-8", "replace")
    line = re.compile(r"\S*test/item(\d\d)\.png\s+\S*training/class(\d\d)\.png")
    rows = [row for given in text.split("\n") if (row := given.strip())]
    pairs = [match.groups() if (match := line.fullmatch(row)) else ("", "") for row in rows]
    # Each class is drawn once more: items and classes pair off.
    if any(sorted(column) != numbers for column in zip(*pairs, strict=True)) or not pairs:
        raise UserError(f"class_labels.txt of {what} does not pair {WAY} items and classes: copy it again.")
    return np.array([int(of_class) - 1 for _, of_class in sorted(pairs)])


def _members(place: Path) -> dict[str, bytes]:
    """Contents of the files in an archive or folder that may be the task's, by their paths in it."""
    try:
        if place.is_dir():
            files = sorted(
                file for kind in ("*.png", "*.txt") for file in place.rglob(kind) if file.is_file()
            )
            # The folder's own name may be an alphabet's or a run's place.
            return {f"{place.name}/{file.relative_to(place).as_posix()}": file.read_bytes() for file in files}
        check_zip(place)
        with zipfile.ZipFile(place) as archive:
            return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    except OSError as error:
        raise UserError(f"{place} cannot be read ({tfds_source.reason(error)}): copy it again.") from error
