"""Enrolled models as one file that a browser saves, and gives back."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Protocol, TypeVar

from fsljax.data.io.zip_archives import check_zip
from fsljax.errors import UserError

MOST_MEGABYTES = 64
"""Of a saved model."""
_MOST_FILES, _MOST_UNPACKED = 2_000, 256  # megabytes


class Model(Protocol):
    """A `Classifier` or a `Detector`."""

    def save(self, path: Path, /) -> None: ...


Kind = TypeVar("Kind")


def saved(model: Model, folder: Path, name: str) -> Path:
    """Writes a model as `folder/name.zip`, which holds the folder that `save` writes.

    Raises:
      UserError: if it cannot be written.
    """
    target = folder / f"{name}.zip"
    with tempfile.TemporaryDirectory() as place:
        written = Path(place) / name
        model.save(written)
        try:
            with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
                for file in sorted(written.rglob("*")):
                    if file.is_file():
                        archive.write(file, file.relative_to(written.parent))
        except OSError as error:
            raise UserError(f"The model cannot be written ({error.strerror or error}).") from error
    return target


def unpacked(path: Path, place: Path) -> Path:
    """Unpacks what `saved` wrote; the folder of the model.

    Args:
      path: of the file.
      place: an empty folder.

    Raises:
      UserError: if it is not such a file, or too large.
    """
    advice = "choose a .zip file that this page saved"
    try:
        check_zip(path)
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(one.file_size for one in members) > _MOST_UNPACKED << 20 or len(members) > _MOST_FILES:
                raise UserError(f"{path.name} holds more than {_MOST_UNPACKED} MB: {advice}.")
            archive.extractall(place)
    except OSError as error:
        raise UserError(f"{path.name} is not a saved model ({error.strerror or error}): {advice}.") from error
    folders = [config.parent for config in sorted(place.glob("*/config.json"))] or [place]
    return folders[0]
