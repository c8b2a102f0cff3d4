"""What EXIF does to the images of a set: sizes are compared upright, and turns they do not show are told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from fsljax.data.io.decode import exif_orientation, upright_size
from fsljax.data.io.formats import open_image
from fsljax.detection.data.structures import StoredImage, other_size
from fsljax.errors import UserError, first_few

_LOOKED_AT = 16_384  # bytes at either end of a file, where EXIF data stand


def size_of(path: Path) -> tuple[int, int]:
    """The (height, width) of an image file, upright.

    Raises:
      UserError: it cannot be read.
    """
    try:
        with open_image(path) as image:
            return upright_size(image)
    except (UserError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"The image {path} cannot be read: {str(error).rstrip('.')}.") from error


def turn_notes(images: Sequence[StoredImage], sizes: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Notes on image files that EXIF turns without their annotated sizes telling which way round they are.

    Args:
      images: of which files are looked at.
      sizes: the (height, width) that the annotation of each says.

    Raises:
      UserError: a size is that of the image before it is turned.
    """
    turned: list[str] = []
    for path, size in zip(images, sizes, strict=True):
        if not isinstance(path, Path) or not _may_be_turned(path):
            continue
        try:
            with open_image(path) as image:
                orientation, upright = exif_orientation(image), upright_size(image)
        except (UserError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue  # told where the image is needed
        if orientation == 1:
            continue
        stored = upright[::-1] if orientation >= 5 else upright
        annotated = int(size[0]), int(size[1])
        if annotated != upright:
            raise other_size(str(path), upright, stored, annotated)
        if upright == stored:
            turned.append(path.name)
    if not turned:
        return ()
    return (
        f"Images that EXIF rotates or mirrors without changing their size: {len(turned)} "
        f"({first_few(turned)}). Their boxes are assumed to fit the displayed image; if they fit the stored "
        "one, remove the orientation from the files (exiftool -Orientation= FILE).",
    )


def _may_be_turned(path: Path) -> bool:
    """Whether a file has EXIF data or is a TIFF, whose tags they are."""
    try:
        with path.open("rb") as file:
            ends = file.read(_LOOKED_AT)
            if len(ends) == _LOOKED_AT and not ends.startswith(b"\xff\xd8"):
                file.seek(max(_LOOKED_AT, path.stat().st_size - _LOOKED_AT))
                ends += file.read()
    except OSError:
        return False
    return ends.startswith((b"II", b"MM")) or any(mark in ends for mark in (b"Exif", b"eXIf", b"EXIF"))
