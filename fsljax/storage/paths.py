"""Paths as people give them, looked up with a sentence for every way in which that fails."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from fsljax.errors import UserError

_ABSENT = (errno.ENOENT, errno.ENOTDIR)


def given_path(path: Any, what: str = "The path") -> Path:
    """A path as it was given, with the home folder for `~`; nothing need be there.

    Args:
      path: text or a `Path`.
      what: it is, at the start of a sentence: "--workdir".

    Raises:
      UserError: if it is no path, names the home of nobody, is too long, or leads through a folder that may
        not be entered.
    """
    try:
        text = os.fspath(path)
        if not isinstance(text, str) or not text:
            raise TypeError
        expanded = Path(text).expanduser()
    except TypeError:
        raise UserError(f"{what} is {path!r}: give the path of a file or folder as text.") from None
    except RuntimeError:  # pathlib's, for ~NAME of nobody and for ~ where no home is known
        correct = f"the {what[4:]}" if what.startswith("The ") else what
        raise UserError(f"The home folder in {text} is unknown: correct {correct}.") from None
    is_there(expanded, what)
    return expanded


def is_there(path: Path, what: str = "The path") -> bool:
    """Whether a file or folder is there.

    Raises:
      UserError: if that cannot be told: the path is none, or leads through what may not be entered.
    """
    try:
        path.stat()
    except ValueError as error:  # a NUL character, or one that the file system's encoding lacks
        raise UserError(
            f"{what} {str(path)[:200]!r} is not a valid file name ({error}): give another."
        ) from None
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        shown = str(path) if len(str(path)) <= 200 else f"{str(path)[:200]}…"
        raise UserError(
            f"{what} {shown} cannot be accessed ({error.strerror or error}): give another, or correct it."
        ) from None
    return True


def move_into(folder: Path, moved: Path) -> Path:
    """Moves a file or folder into another folder, with a number after its name if that is taken.

    Returns:
      where it is now.

    Raises:
      OSError: if it cannot be moved.
    """
    folder.mkdir(exist_ok=True)
    number = 0
    while (target := folder / (f"{moved.name}-{number}" if number else moved.name)).exists():
        number += 1
    return moved.rename(target)
