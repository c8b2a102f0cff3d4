"""Arrays that were costly to make, kept on disk in the user's cache folder."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import platformdirs
from absl import logging

from fsljax.storage.array_folders import read_array_folder, write_array_folder
from fsljax.storage.private_folders import check_private, make_private, remove_abandoned, unfinished_folder

Arrays = dict[str, np.ndarray]


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/fsljax` where that is an absolute path, else the platform's own place for caches.

    Raises:
      OSError: if it would be in the user's home folder, and that is unknown.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or "")
    if home.is_absolute():  # the specification has others ignored; `~` is one that no shell has replaced
        return home / "fsljax"
    try:
        folder = Path(platformdirs.user_cache_dir("fsljax"))
    except (RuntimeError, KeyError) as error:  # a user that the system does not know
        raise FileNotFoundError("no home folder is known; set XDG_CACHE_HOME to have one") from error
    if not folder.is_absolute():
        raise FileNotFoundError("no home folder is known; set XDG_CACHE_HOME to have one")
    return folder


def usable_cache_folder(inner: str = "") -> Path | None:
    """The cache folder, or one in it, made where it is missing; None, and one note, where there can be none.

    It must be this user's alone: what others could have put there is not read.
    """
    try:
        folder = cache_folder()
        make_private(folder)
        if inner:
            folder /= inner
            make_private(folder)
    except OSError as error:
        _note(f"Caching is disabled: {_reason(error)}.")
        return None
    return folder


def cached_file(name: str) -> Path:
    """Where a file of this name is cached: in a folder that goes with this program where there is no cache.

    What lies there and could be another user's is removed.
    """
    folder = usable_cache_folder()
    if folder is None:
        return Path(_passing_folder().name) / name
    path = folder / name
    if os.path.lexists(path):
        try:
            check_private(path, writers=stat.S_IWOTH)  # in a folder that only this user enters
            if path.is_symlink() or not path.is_file():
                raise OSError("it is a link, or not a file")
        except OSError as error:
            logging.warning("%s is not used (%s): it is regenerated.", path, _reason(error))
            _put_aside(path)
    return path


def cached_arrays(
    name: str,
    fingerprint: str,
    make: Callable[[], Arrays],
    keep: Callable[[Arrays], bool] = lambda arrays: True,
    agreed: Callable[[bool], bool] = bool,
) -> Arrays:
    """Reads the arrays stored under `name` and `fingerprint`, or makes and stores them.

    `fingerprint` must change with everything the arrays depend on: source data, sizes, seed, and the
    version of the code that makes them. Every byte of an entry is checked against what was written; one that
    is damaged, or that another user could have written, is made anew. Where there can be no cache, or `keep`
    declines them, the arrays are used without being kept.

    Where several processes make the arrays together, `agreed` says, of whether they were found here, whether
    they were found by all, each in a cache of its own or in one that they share; else all make them.
    """
    folder = usable_cache_folder()
    found = None
    if folder is not None:
        remove_abandoned(folder)
        entry = folder / f"{name}-{fingerprint[:16]}"
        found = _read(entry, fingerprint)
    if agreed(found is not None):
        assert found is not None
        return found
    if folder is None:
        print(f"preparing {name} …", file=sys.stderr, flush=True)
        return make()
    print(f"preparing {name} (only once: later runs find it in {folder}) …", file=sys.stderr, flush=True)
    arrays = make()
    if found is None and keep(arrays):
        _store(entry, name, arrays, fingerprint)
    return arrays


def _read(entry: Path, fingerprint: str) -> Arrays | None:
    """The arrays of an entry; None where there is none. One that cannot be used is put aside."""
    if not os.path.lexists(entry):
        return None
    try:
        return read_array_folder(entry, fingerprint)
    except (OSError, ValueError) as error:
        logging.warning(
            "The cached arrays in %s cannot be used (%s): they are regenerated.", entry, _reason(error)
        )
        _put_aside(entry)
        return None


def _store(entry: Path, name: str, arrays: Arrays, fingerprint: str) -> None:
    try:
        with unfinished_folder(entry.parent, name) as unfinished:
            write_array_folder(unfinished / entry.name, arrays, fingerprint)
            # Another process may have put the same entry there first: then its copy serves.
            with contextlib.suppress(OSError):
                (unfinished / entry.name).rename(entry)
    except OSError as error:
        logging.warning("Nothing is cached in %s: %s", entry.parent, error)


def _put_aside(entry: Path) -> None:
    """Removes an entry in one step for all who look for it; one that cannot be removed stays."""
    with contextlib.suppress(OSError), unfinished_folder(entry.parent, entry.name) as aside:
        entry.rename(aside / "damaged")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error).rstrip(".")


@cache
def _passing_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fsljax-")


@cache
def _note(text: str) -> None:
    """Says something once."""
    logging.warning("%s", text)
