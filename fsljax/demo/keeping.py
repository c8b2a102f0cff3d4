"""What a visitor enrols: names and examples of classes, and the model as one file that a browser keeps."""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from fsljax.cli.models import check_is
from fsljax.data.io.zip_archives import check_zip
from fsljax.data.labels import Label
from fsljax.errors import UserError

MOST_MEGABYTES = 64
"""Of a saved model."""
_MOST_FILES, _MOST_UNPACKED = 2_000, 256  # megabytes
_EXAMPLES = 4  # pictures that are shown of a class
_LONGEST_NAME = 60

Examples = dict[str, list[Image.Image]]
"""A few pictures of each class."""


class Model(Protocol):
    """A `Classifier` or a `Detector`."""

    @property
    def classes(self) -> list[Label]: ...

    def forget(self, label: Label, /) -> Any: ...

    def save(self, path: Path, /) -> None: ...


def checked_name(name: str | None) -> str:
    """The name of a class, without spaces around it.

    Raises:
      UserError: if it is empty or too long.
    """
    given = " ".join((name or "").split())
    if not given:
        raise UserError("Give the class a name.")
    if len(given) > _LONGEST_NAME:
        raise UserError(f"The name has {len(given)} characters: give at most {_LONGEST_NAME}.")
    return given


def show(examples: Examples, label: str, pictures: Sequence[Image.Image]) -> None:
    """Adds small copies of pictures to those of a class, as long as there are few."""
    shown = examples.setdefault(label, [])
    for picture in pictures[: _EXAMPLES - len(shown)]:
        small = picture.copy()
        small.thumbnail((48, 48))
        shown.append(small)


def forget(model: Model, examples: Examples, name: str | None) -> str:
    """Removes a class; a sentence about it.

    Raises:
      UserError: if it is not enrolled.
    """
    label = checked_name(name)
    own = next((one for one in model.classes if str(one) == label), label)
    model.forget(own)
    examples.pop(label, None)
    return f"Forgot {label}."


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


@contextlib.contextmanager
def opened(path: str, *, detector: bool, instead: str) -> Iterator[Path]:
    """The folder of a model that `saved` wrote, as long as it is needed.

    Args:
      path: of the file.
      detector: whether it is to be one; else a classifier.
      instead: where the other kind is loaded.

    Raises:
      UserError: if it is not such a file, too large, or holds the other kind.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = _unpacked(Path(path), Path(place))
        check_is(str(folder), detector=detector, instead=instead)
        yield folder


def _unpacked(path: Path, place: Path) -> Path:
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
