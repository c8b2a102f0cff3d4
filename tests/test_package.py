"""What importing fsljax costs, and what it gives."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fsljax

ROOT = Path(__file__).parents[1]
OTHER_FRAMEWORKS = {"tensorflow", "torch", "keras"}


@pytest.fixture(scope="module")
def other_frameworks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty packages of their names: whoever imports them succeeds, and is seen."""
    folder = tmp_path_factory.mktemp("frameworks")
    for name in OTHER_FRAMEWORKS:
        (folder / f"{name}.py").write_text("")
    return folder


def imported_by(statement: str, path: Path) -> set[str]:
    """Top-level modules that a fresh interpreter has after a statement."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps([m for m in sys.modules if '.' not in m]))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(path), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_importing_fsljax_imports_nothing_heavy(other_frameworks: Path):
    heavy = {"jax", "jaxlib", "flax", "optax", "orbax", "numpy", "matplotlib", "tensorflow_datasets", "PIL"}
    assert not imported_by("import fsljax", other_frameworks) & (heavy | OTHER_FRAMEWORKS)


def test_losses_need_no_network_no_data_and_no_plots(other_frameworks: Path):
    unneeded = {"flax", "orbax", "matplotlib", "tensorflow_datasets", "tensorboardX", "PIL", "ml_collections"}
    modules = imported_by("import fsljax; fsljax.losses.prototypical_loss", other_frameworks)
    assert not modules & (unneeded | OTHER_FRAMEWORKS)
    assert "jax" in modules


def test_applications_import_no_other_framework(other_frameworks: Path):
    modules = imported_by("import fsljax.api", other_frameworks)
    assert not modules & (OTHER_FRAMEWORKS | {"tensorflow_datasets"})


@pytest.mark.parametrize("name", sorted(set(fsljax.__all__) - {"load_flax"}))  # a function
def test_every_public_module_is_there_on_first_use(name: str):
    assert getattr(fsljax, name) is sys.modules[f"fsljax.{name}"]


def test_a_name_that_does_not_exist_is_named():
    with pytest.raises(AttributeError, match="module 'fsljax' has no attribute 'loses'"):
        fsljax.loses  # noqa: B018


def test_the_version_is_that_of_the_package():
    assert fsljax.__version__ == importlib.metadata.version("fsljax")
