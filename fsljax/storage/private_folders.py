"""Folders whose content only this user can have written, and folders that last as long as their program."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

_LOCK = "lock"
_SECONDS_UNTIL_ABANDONED = 86_400.0
# What `unfinished_folder` makes, now and (without a lock) in earlier versions; and what `replacing` does.
_UNFINISHED = re.compile(r"\..+(-[^-]{8}|\.\d+\.tmp)")


def make_private(folder: Path) -> None:
    """Makes a folder that no other user can enter, or checks one that is there.

    Raises:
      OSError: if it cannot be made or entered, or others may have written what is in it.
    """
    with contextlib.suppress(FileExistsError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
    check_private(folder)
    if folder.is_symlink():  # this user's own, as has been checked
        folder = folder.resolve(strict=True)
        check_private(folder)
    with contextlib.suppress(OSError):  # what is read alone is as good
        folder.chmod(0o700)
    with os.scandir(folder):
        pass


def check_private(path: Path, *, writers: int = stat.S_IWGRP | stat.S_IWOTH) -> None:
    """Raises an OSError if a file or folder is not there, or one of `writers` could have written to it.

    A link is looked at itself. Windows has no such owners and modes: there the folder of the user's own
    that it lies in is what protects it.
    """
    status = path.lstat()
    if not hasattr(os, "geteuid"):
        return
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to another user")
    if status.st_mode & writers and not stat.S_ISLNK(status.st_mode):
        raise PermissionError(f"other users can write to {path}; chmod go-w prevents that")


@contextlib.contextmanager
def unfinished_folder(folder: Path, name: str) -> Iterator[Path]:
    """A folder in another, `.NAME-HOST-RANDOM`, that is removed on leaving and held by a lock until then.

    Raises:
      OSError: if it cannot be made.
    """
    made, lock = _held_folder(folder, f".{name}-{_host()}-")
    try:
        yield made
    finally:
        if lock is not None:
            lock.release()
        remove(made)


def remove_abandoned(folder: Path) -> None:
    """Removes what programs that were killed have left unfinished in a folder, as far as that is possible.

    Of programs of this computer the lock tells whether they still run; of others, and where locks do not
    work, whether anything was written for a day.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _UNFINISHED.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(Path(entry.path))


def remove(path: Path) -> None:
    """Removes a file, a link, or a folder with all that is in it, as far as that is possible."""
    with contextlib.suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return
        path.chmod(0o700)
        for parent, folders, _ in os.walk(path):
            for inner in (Path(parent) / name for name in folders):
                if not inner.is_symlink():
                    inner.chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)


def _held_folder(folder: Path, prefix: str) -> tuple[Path, filelock.FileLock | None]:
    while True:
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
        lock = filelock.FileLock(made / _LOCK)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            continue  # another program takes it for abandoned, and removes it
        except (OSError, NotImplementedError):
            return made, None  # a file system without locks
        if (made / _LOCK).exists():
            return made, lock
        lock.release()


def _remove_if_abandoned(path: Path) -> None:
    lock_file = path / _LOCK
    if path.name.split("-")[-2:-1] == [_host()] and lock_file.exists():
        lock = filelock.FileLock(lock_file)
        with contextlib.suppress(filelock.Timeout, NotImplementedError):
            lock.acquire(timeout=0)
            remove(path)
            lock.release()
        return
    newest = max(file.lstat().st_mtime for file in (path, *path.rglob("*")))
    if time.time() - newest > _SECONDS_UNTIL_ABANDONED:
        remove(path)


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
