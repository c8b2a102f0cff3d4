"""What changes whenever a file does, found without reading it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class FileState(NamedTuple):
    """Of a file, or of what a link to it leads to.

    Attributes:
      size: in bytes.
      modified_ns: when its content was last written; programs can set it, and many restore it.
      changed_ns: when anything of it was, which no program can set (on Windows, when it was made).
    """

    size: int
    modified_ns: int
    changed_ns: int


NOT_FOUND = FileState(-1, -1, -1)


def file_state(path: Path) -> FileState:
    """The state of a file, or `NOT_FOUND`."""
    try:
        status = path.stat()
    except OSError:
        return NOT_FOUND
    return FileState(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def digest_of_files(root: Path, names: Sequence[str], states: Sequence[FileState]) -> str:
    """SHA-256 of where a folder is and of the names in it with the state of each.

    Another folder has another one, whatever is in it: archives give files of equal names, sizes and times.
    """
    digest = hashlib.sha256(os.fsencode(os.path.realpath(root)) + b"\0")
    for name, state in zip(names, states, strict=True):
        digest.update(os.fsencode(name) + repr(tuple(state)).encode())
    return digest.hexdigest()
