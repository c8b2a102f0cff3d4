"""Images as they are given on a command line: files, and folders of them. One that fails loses no other."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fsljax.data.folders.walking import images_below, note_formats
from fsljax.data.io.decode import decode_image
from fsljax.data.io.formats import read_extensions
from fsljax.errors import UserError, first_few
from fsljax.storage.paths import given_path

Answer = TypeVar("Answer")
_AT_ONCE = 64


@dataclass
class GivenImage:
    """An image file.

    Attributes:
      path: as it was given, or below the folder that was.
      failure: why it cannot be read; None as long as it can.
    """

    path: str
    failure: str | None = None


def images_of(given: Sequence[str], notes: list[str]) -> list[GivenImage]:
    """Files in the order in which they were given; of a folder all images below, in natural order.

    Args:
      given: paths of files and folders. What is neither, or a folder without images, is one that failed.
      notes: collects what was passed over.
    """
    images: list[GivenImage] = []
    for path in given:
        try:
            images += _images_at(path, notes)
        except UserError as error:
            images.append(GivenImage(path, str(error).rstrip(".")))
    return images


def answers_to(
    images: Sequence[GivenImage], ask: Callable[[list[str]], Sequence[Answer]], at_once: int = _AT_ONCE
) -> list[Answer | None]:
    """What is answered to each image; None to those that cannot be read, whose `failure` is set.

    Args:
      images: n of them.
      ask: gives an answer to each path.
      at_once: how many it is asked for.

    Raises:
      UserError: what `ask` raises of images that can be read.
    """
    answers: list[Answer | None] = [None] * len(images)
    rows = [row for row, image in enumerate(images) if image.failure is None]
    for start in range(0, len(rows), at_once):
        batch = rows[start : start + at_once]
        try:
            replies = ask([images[row].path for row in batch])
        except UserError:
            readable = [row for row in batch if _can_be_read(images[row])]
            if len(readable) == len(batch):
                raise
            batch, replies = readable, ask([images[row].path for row in readable]) if readable else ()
        for row, reply in zip(batch, replies, strict=True):
            answers[row] = reply
    return answers


def say_what_failed(images: Sequence[GivenImage]) -> int:
    """Says on standard error which images could not be read; the exit status: 1 if there are any."""
    failed = [image.path for image in images if image.failure is not None]
    if failed:
        print(
            f"fsljax: {len(failed):,} of {len(images):,} images could not be read: {first_few(failed)}.",
            file=sys.stderr,
        )
    return int(bool(failed))


def natural(name: str) -> tuple[tuple[tuple[str, int, str], ...], str]:
    """Sorts names as people do: `2.jpg` before `10.jpg`."""
    pieces = re.findall(r"([^0-9]*)([0-9]*)", name.casefold())
    numbered = tuple((text, len(digits.lstrip("0")), digits.lstrip("0")) for text, digits in pieces)
    return numbered, name


def _images_at(given: str, notes: list[str]) -> list[GivenImage]:
    path = given_path(given)
    if not path.is_dir():
        odd = path.exists() and not path.is_file()  # reading from a pipe would wait for whoever writes
        return [GivenImage(str(path), "it is a device or a pipe, not a file" if odd else None)]
    others: list[str] = []
    names = sorted(images_below(path, path, others), key=natural)
    note_formats(path, others, notes)
    if not names:
        extensions = ", ".join(sorted(read_extensions()))
        raise UserError(f"the folder holds no readable images ({extensions})")
    return [GivenImage(str(path / Path(name))) for name in names]


def _can_be_read(image: GivenImage) -> bool:
    try:
        decode_image(image.path, image_size=8)
    except UserError as error:
        image.failure = str(error).removeprefix(f"The image {image.path} cannot be read: ").rstrip(".")
    return image.failure is None
