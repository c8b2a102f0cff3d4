"""Formats of image files: which are read, what reads them, and what to do about the others."""

from __future__ import annotations

import importlib.util
import io
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path, PurePath

from PIL import Image, UnidentifiedImageError

from fsljax.errors import UserError

_ALWAYS_READ = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

# Pillow's other readers start programs (EPS) or take text for an image.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

_HEIC, _AVIF, _JPEG_2000, _JPEG_XL, _RAW = "HEIC", "AVIF", "JPEG 2000", "JPEG XL", "camera RAW"
_HEAD = 64  # bytes in which every format can be told

_EXTENSIONS_OF = {
    _HEIC: ".heic .heif .hif",
    _AVIF: ".avif",
    _JPEG_2000: ".jp2 .j2k .j2c .jpc .jpf .jpx .jpm",
    _JPEG_XL: ".jxl",
    _RAW: ".dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .raf .orf .rw2 .pef .srw .3fr .iiq .erf .mrw .raw",
    "Photoshop": ".psd .psb",
    "SVG": ".svg .svgz",
    "PostScript": ".eps .ps .ai",
    "PDF": ".pdf",
    "DICOM": ".dcm .dicom",
    "OpenEXR": ".exr",
    "Radiance HDR": ".hdr",
    "GIMP": ".xcf",
    "Targa": ".tga",
    "Netpbm": ".pbm .pgm .ppm .pnm .pam",
    "ICO": ".ico",
    "DDS": ".dds",
    "NumPy": ".npy .npz",
}
_FORMAT_OF = {extension: name for name, few in _EXTENSIONS_OF.items() for extension in few.split()}
_ADVICE = {
    _HEIC: "requires pillow-heif: pip install pillow-heif",
    _AVIF: "requires Pillow 11.3 or later: pip install --upgrade pillow",
}
_NEEDS_CONVERSION = "is not supported: convert it to PNG or JPEG"

_BEGINNINGS = {
    b"\0\0\0\x0cjP  ": _JPEG_2000,
    b"\xff\x4f\xff\x51": _JPEG_2000,
    b"\0\0\0\x0cJXL ": _JPEG_XL,
    b"\xff\x0a": _JPEG_XL,
    b"8BPS": "Photoshop",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"<svg": "SVG",
    b"<?xml": "SVG or other XML",
    b"FUJIFILM": _RAW,
    b"IIU\0": _RAW,
    b"IIRO": _RAW,
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"\x93NUMPY": "NumPy",
}
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_VIDEO_BRANDS = frozenset({b"isom", b"iso2", b"mp41", b"mp42", b"M4V ", b"qt  ", b"avc1"})


def reads_heic() -> bool:
    """Whether pillow-heif is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def reads_avif() -> bool:
    """Whether Pillow was built with AVIF."""
    return importlib.util.find_spec("PIL._avif") is not None


@cache
def read_extensions() -> frozenset[str]:
    """Of files that are taken for images, in lower case with their dot."""
    more = [name for name, there in ((_HEIC, reads_heic()), (_AVIF, reads_avif())) if there]
    return _ALWAYS_READ.union(*(_EXTENSIONS_OF[name].split() for name in more))


def is_image(name: str) -> bool:
    """Whether a file is taken for an image, by its extension."""
    return PurePath(name).suffix.casefold() in read_extensions()


def passed_over(names: Iterable[str]) -> str:
    """How many files are of formats that are not read, and what helps: "54 HEIC (…)", or ""."""
    formats = (_FORMAT_OF.get(PurePath(name).suffix.casefold(), "") for name in names if not is_image(name))
    return ", ".join(
        f"{count:,} {name} ({_ADVICE.get(name, _NEEDS_CONVERSION).partition(': ')[2]})"
        for name, count in sorted(Counter(filter(None, formats)).items())
    )


def open_image(file: Path | io.BytesIO) -> Image.Image:
    """Opens an image file of a format that is read, recognised by content; its pixels are not decoded yet.

    Raises:
      UserError: it is an image, but of a format that is not read.
      UnidentifiedImageError: it is none.
      OSError: it cannot be read.
    """
    if isinstance(file, Path) and _FORMAT_OF.get(file.suffix.casefold()) == _RAW:
        # Its content may be a TIFF file, whose first image is a small preview.
        raise UserError(f"{_RAW} {_NEEDS_CONVERSION}")
    try:
        return Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError:
        head = file.getvalue()[:_HEAD] if isinstance(file, io.BytesIO) else _beginning(file)
        name = format_of(head)
        if name == _HEIC and reads_heic():
            import pillow_heif

            pillow_heif.register_heif_opener()
            return Image.open(file, formats=("HEIF",))
        if name == _AVIF and reads_avif():
            return Image.open(file, formats=("AVIF",))
        if not head:
            raise UserError("the file is empty") from None
        if name:
            raise UserError(f"{name} {_ADVICE.get(name, _NEEDS_CONVERSION)}") from None
        raise


def is_lasting(reason: str) -> bool:
    """Whether what could not be read stays so until the file changes, whatever is installed."""
    return "pip install" not in reason


def format_of(head: bytes) -> str:
    """The format of a file by its first bytes; empty if they tell none that is known here."""
    if head[4:8] == b"ftyp":
        length = min(int.from_bytes(head[:4], "big"), len(head))
        brands = {head[8:12], *(head[place : place + 4] for place in range(16, length - 3, 4))}
        if brands & _HEIC_BRANDS:
            return _HEIC
        if brands & _AVIF_BRANDS:
            return _AVIF
        if head[8:12] == b"crx ":
            return _RAW
        return "a video" if brands & _VIDEO_BRANDS else _HEIC
    stripped = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((name for start, name in _BEGINNINGS.items() if stripped.startswith(start)), "")


def _beginning(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_HEAD)
