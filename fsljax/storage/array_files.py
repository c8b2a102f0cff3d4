"""Arrays in `.npz` files, whose declared sizes are checked before anything is unpacked."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np

from fsljax.errors import UserError

MOST_TIMES_LARGER = 200
_SMALL = 2**26


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a `.npz` file by name, each checked against the CRC that the file holds.

    Raises:
      FileNotFoundError: if there is no such file.
      UserError: if it cannot be read, is damaged, holds pickled objects, or unpacks to far more than it is.
    """
    try:
        _check_sizes(path)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (FileNotFoundError, UserError):
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # zipfile, zlib and NumPy each raise their own for a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(f"{path} is damaged, or not a .npz file: {reason}.") from error


def _check_sizes(path: Path) -> None:
    """Raises a UserError if an array is declared larger than its part of the file, or the whole is a bomb."""
    packed = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > max(_SMALL, MOST_TIMES_LARGER * packed):
            raise UserError(
                f"{path} is {packed:,} bytes and would unpack to {unpacked:,}: this is not a genuine file "
                "of arrays."
            )
        for member in members:
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read(file)
                declared = math.prod(shape) * dtype.itemsize
                if not dtype.hasobject and declared != member.file_size - file.tell():
                    raise UserError(
                        f"{path} is damaged: {member.filename} declares {declared:,} bytes and holds "
                        f"{member.file_size - file.tell():,}."
                    )
