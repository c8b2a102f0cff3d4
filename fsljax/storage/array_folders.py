"""Arrays in a folder, one `.npy` file each, whose every byte is checked before they are used."""

from __future__ import annotations

import io
import os
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fsljax.storage.json_files import DIGEST, parse_json, unsealed, write_json
from fsljax.storage.private_folders import check_private

CONTENTS = "contents.json"

_LARGEST_CONTENTS = 2**20
_BYTES_A_READ = 2**20


def write_array_folder(folder: Path, arrays: Mapping[str, np.ndarray], made_of: str) -> None:
    """Writes arrays into a new folder, with what they were made of and a checksum of each file.

    Raises:
      OSError: if it cannot be written.
    """
    folder.mkdir(mode=0o700)
    files: dict[str, dict[str, int]] = {}
    for name, array in arrays.items():
        descriptor = os.open(folder / f"{name}.npy", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            checked = _Checked(file)
            np.save(checked, array, False)  # type: ignore[arg-type]  # whatever has a `write`
        files[name] = {"bytes": checked.size, "crc32": checked.checksum}
    write_json(folder / CONTENTS, {"made_of": made_of, "files": files})
    (folder / CONTENTS).chmod(0o600)


def read_array_folder(folder: Path, made_of: str) -> dict[str, np.ndarray]:
    """The arrays that `write_array_folder` wrote, mapped from their files.

    Raises:
      OSError, ValueError: if anything in the folder is not as it was written, was made of something else,
        is a link, or could have been written by another user.
    """
    _check_kind(folder, stat.S_ISDIR)
    files = _contents(folder, made_of)
    if {path.name for path in folder.iterdir()} != {CONTENTS, *(f"{name}.npy" for name in files)}:
        raise ValueError("it does not hold the files that were written")
    for name, written in files.items():
        _check_file(folder / f"{name}.npy", written)
    try:
        return {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in files}
    except Exception as error:  # NumPy's readers of headers raise whatever Python's tokenizer does
        raise ValueError(str(error) or type(error).__name__) from error


class _Checked:
    """A file that is written to from beginning to end, with the size and checksum of what was written."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.size = 0
        self.checksum = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.checksum = zlib.crc32(data, self.checksum)
        return self._file.write(data)


def _contents(folder: Path, made_of: str) -> dict[str, Any]:
    path = folder / CONTENTS
    if not os.path.lexists(path):
        raise ValueError(
            f"it holds no {CONTENTS} with the checksums of its files; earlier versions wrote none"
        )
    if _check_kind(path, stat.S_ISREG).st_size > _LARGEST_CONTENTS:
        raise ValueError(f"{CONTENTS} is larger than when it was written")
    contents = parse_json(path.read_bytes())
    if not isinstance(contents, dict) or DIGEST not in contents:
        raise ValueError(f"{CONTENTS} is not what was written")
    if unsealed(contents)["made_of"] != made_of:
        raise ValueError("it was made from something else")
    files: dict[str, Any] = contents["files"]
    return files


def _check_file(path: Path, written: Mapping[str, int]) -> None:
    """Raises a ValueError if a file has another size or checksum than when it was written."""
    size = _check_kind(path, stat.S_ISREG).st_size
    if size != written["bytes"]:
        raise ValueError(f"{path.name} has {size:,} bytes, not {written['bytes']:,}")
    checksum, buffer = 0, memoryview(bytearray(_BYTES_A_READ))
    with io.FileIO(path) as file:
        while count := file.readinto(buffer):
            checksum = zlib.crc32(buffer[:count], checksum)
    if checksum != written["crc32"]:
        raise ValueError(f"{path.name} has changed since it was written")


def _check_kind(path: Path, is_kind: Any) -> os.stat_result:
    check_private(path)
    status = path.lstat()
    if not is_kind(status.st_mode):
        raise ValueError(f"{path.name} is a link, or not what was written")
    return status
