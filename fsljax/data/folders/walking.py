"""What lies in a folder of images: all but what systems and programs put beside a user's own files."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

from fsljax.data.io.formats import is_image, passed_over
from fsljax.errors import UserError

# In lower case; whatever begins with a dot is hidden anyway.
_NOT_THE_USERS = frozenset(
    {
        "__macosx", "network trash folder", "temporary items", "icon\r",
        "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini",
        "$recycle.bin", "system volume information", "found.000",
        "lost+found", "aquota.user", "aquota.group",
        "@eadir", "@tmp", "@sharebin", "@synoresource", "@recycle", "@recently-snapshot", "@__thumb",
        "#recycle", "#snapshot", "~snapshot",
        "__pycache__",
    }
)  # fmt: skip


def visible(folder: Path) -> list[Path]:
    """What is in the folder and neither hidden nor put there by a system, sorted by name.

    Raises:
      UserError: the folder cannot be read.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if not is_rubbish(entry.name))
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be read ({error.strerror}): check its permissions."
        ) from error


def is_rubbish(name: str) -> bool:
    """Whether a file or folder is hidden, or what a NAS, an archive or a system keeps beside photographs.

    Thumbnails of a NAS (`@eaDir`, `.thumbnails`) are images, in folders beside those they are made of.
    """
    return name.startswith(".") or name.casefold() in _NOT_THE_USERS


def subfolders(folder: Path) -> list[Path]:
    """Folders in the folder, sorted by name; see `visible`."""
    return [entry for entry in visible(folder) if entry.is_dir()]


def images_below(root: Path, folder: Path, others: list[str]) -> list[str]:
    """Paths relative to `root` of the images at any depth, sorted; `others` collects names of other files."""
    files = []
    for entry in _files_below(folder, ()):
        if is_image(entry.name):
            files.append(entry.relative_to(root).as_posix())
        else:
            others.append(entry.name)
    return sorted(files)


def _files_below(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    here = folder.resolve()
    if here in above:  # a link to a folder that holds it
        return
    for entry in visible(folder):
        if entry.is_dir():
            yield from _files_below(entry, (*above, here))
        # A link that leads nowhere is reported as unreadable; sockets and the like are none.
        elif entry.is_file() or entry.is_symlink():
            yield entry


def note_formats(folder: Path, others: list[str], notes: list[str]) -> None:
    """Notes how many files are images of formats that are not read."""
    if counts := passed_over(others):
        notes.append(f"Images in {folder} in unsupported formats, which were skipped: {counts}.")


def holds_images_itself(folder: Path) -> bool:
    """Whether images lie in the folder, and not only in folders below it."""
    return any(is_image(entry.name) and not entry.is_dir() for entry in visible(folder))


def composed(name: str) -> str:
    """A name as Unicode composes it (NFC): the same for names that look the same."""
    return unicodedata.normalize("NFC", name)
