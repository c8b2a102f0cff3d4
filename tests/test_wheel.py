"""The package as it is installed, from an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # building leaves folders beside the package
    source.mkdir()
    for name in ("fsljax", "configs", "pyproject.toml", "setup.py", "README.md", "LICENSE"):
        (source / name).symlink_to(ROOT / name)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and all else from the one of these tests."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    target = folder / "lib" / version / "site-packages"
    (target / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel, cwd=folder)
    return folder / "bin"


def test_a_wheel_holds_configs_templates_and_types(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    held = {name for name in names if name.startswith("fsljax/configs/")}
    assert held == {f"fsljax/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.py")}
    templates = {f"fsljax/reporting/{path.name}" for path in (ROOT / "fsljax/reporting").glob("*.jinja")}
    assert templates and templates <= set(names)
    assert "fsljax/py.typed" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"fsljax"}


def test_a_shipped_config_is_trained_from_an_empty_folder(installed: Path, tmp_path: Path):
    short = ("--config.train.steps=2", "--config.validation.episodes=5", "--config.eval.episodes=5")
    program = (installed / "python", "-m", "fsljax", "train")
    run(*program, "--config=quickstart", *short, cwd=tmp_path)
    results = json.loads((tmp_path / "runs/quickstart/results.json").read_text())
    assert results["config"] == "quickstart" and (tmp_path / "runs/quickstart/report.html").is_file()
    fields = run(*program, "--config=fsljax.configs/quickstart", "--help", cwd=tmp_path)
    assert "--config.train.steps=600 " in fields


def test_configs_can_be_imported_and_listed(installed: Path, tmp_path: Path):
    program = (
        "import fsljax; from fsljax.configs.quickstart import get_config\n"
        "print(fsljax.__file__, get_config().name)"
    )
    place, name = run(installed / "python", "-c", program, cwd=tmp_path).split()
    assert place.startswith(str(installed.parent)) and name == "quickstart"
    program = (installed / "python", "-m", "fsljax")
    assert "protonet_lake:small1" in run(*program, "configs", cwd=tmp_path)
    assert "tables: flowers, " in run(*program, "reproduce", "--help", cwd=tmp_path)
