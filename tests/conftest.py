"""Where tests find real data, and where they keep what is costly to make."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from .tiny_runs import (  # noqa: F401  # fixtures of many folders
    config_file,
    damaged_set,
    image_folder,
    launch,
    published_set,
    start,
)

USER_ID = getattr(os, "getuid", int)()  # 0 where the system has no such ids

MAPPINGS_KEPT = 20_000  # Linux allows 65,530 a process unless told otherwise

# In the environment too, for the programs that tests start; kept from one test session to the next.
COMPILATION_CACHE = os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"fsljax-tests-xla-{USER_ID}")
)
jax.config.update("jax_compilation_cache_dir", COMPILATION_CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder that is empty at the start and shared by the tests of one session."""
    home = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        yield home


@pytest.fixture(scope="module", autouse=True)
def few_compiled_programs() -> Iterator[None]:
    """Each compiled program takes memory mappings, and a process that has used them all up is killed."""
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and len(mappings.read_bytes().splitlines()) > MAPPINGS_KEPT:
        jax.clear_caches()


@pytest.fixture(scope="session")
def tfds_data_dir() -> Path:
    """The folder of real TFDS data sets."""
    return given_folder("TFDS_DATA_DIR", "real data", "a folder of TFDS data sets")


@pytest.fixture(scope="session")
def detection_dir() -> Path:
    """The folder of real detection data sets."""
    return given_folder("FSLJAX_DETECTION_DIR", "real detection data", "the folder that holds coco128")


def given_folder(variable: str, needed: str, what: str) -> Path:
    given = os.environ.get(variable)
    if not given:
        pytest.skip(f"needs {needed}: set {variable} to {what}")
    folder = Path(given)
    if not folder.is_dir():
        pytest.fail(f"{variable} is set to {given}, which is no folder")
    return folder
