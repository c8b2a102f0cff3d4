"""Arrays that were costly to make, kept on disk in the user's cache folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import platformdirs
from absl import logging

_KEYS = "keys.txt"


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/fsljax` where that is set, else the platform's own place for caches."""
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(home) / "fsljax" if home else Path(platformdirs.user_cache_dir("fsljax"))


def cached_arrays(
    name: str,
    fingerprint: str,
    make: Callable[[], dict[str, np.ndarray]],
    keep: Callable[[dict[str, np.ndarray]], bool] = lambda arrays: True,
) -> dict[str, np.ndarray]:
    """Reads the arrays stored under `name` and `fingerprint`, or makes and stores them.

    `fingerprint` must change with everything the arrays depend on: source data, sizes, seed, and the
    version of the code that makes them. A damaged entry is regenerated; where the folder cannot be
    written, or `keep` declines them, the arrays are used without being kept.
    """
    entry = cache_folder() / f"{name}-{fingerprint[:16]}"
    if entry.is_dir():
        try:
            keys = (entry / _KEYS).read_text(encoding="utf-8").split()
            if not keys or set(keys) != {file.stem for file in entry.glob("*.npy")}:
                raise ValueError(f"{_KEYS} does not name its files")
            return {key: np.load(entry / f"{key}.npy", mmap_mode="r") for key in keys}
        except (OSError, ValueError, EOFError) as error:
            logging.warning("The cached arrays in %s cannot be read (%s): regenerating them.", entry, error)
            shutil.rmtree(entry, ignore_errors=True)
    print(f"preparing {name}, once: later runs find it in {entry.parent} …", file=sys.stderr, flush=True)
    arrays = make()
    if not keep(arrays):
        return arrays
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=entry.parent))
        try:
            (unfinished / _KEYS).write_text("\n".join(arrays), encoding="utf-8")
            for key, array in arrays.items():
                np.save(unfinished / f"{key}.npy", array)
            # Another process may have put the same entry there first: then its copy serves.
            with contextlib.suppress(FileExistsError, OSError):
                unfinished.rename(entry)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        logging.warning("Nothing is cached in %s: %s", entry.parent, error)
    return arrays
