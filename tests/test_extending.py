"""One of each thing that a user may add, as docs/how_to/extending.md shows it: one file and one config."""

from __future__ import annotations

import importlib
import json
import os
import re
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from fsljax import experiment, reproduce
from fsljax.config import experiments, modules
from fsljax.errors import UserError

from .parallel.starting import outcomes, start

ROOT = Path(__file__).parents[1]
FILES = dict(
    re.findall(r"```python\n# (\S+)\n(.*?)```", (ROOT / "docs/how_to/extending.md").read_text(), re.DOTALL)
)
MODULES = {
    "fsljax.data.sources": "stripes",
    "fsljax.networks.backbones": "patches",
    "fsljax.evaluation.metrics": "spread",
    "fsljax.methods": "cosine",
    "fsljax.detection.data.sets": "tiles",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with launch.py and the files of docs/how_to/extending.md, which Python imports from."""
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    shutil.copyfile(ROOT / "launch.py", tmp_path / "launch.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypackage"]:
        del sys.modules[name]


def config_of(given: str) -> ConfigDict:
    file, _, argument = given.partition(":")
    config = runpy.run_path(file)["get_config"](argument)
    config.train.steps = 2
    config.checkpoint.every = 2
    return config


def run(config: ConfigDict, folder: Path) -> dict[str, dict[str, float]]:
    experiment.run(config, mode="train_and_evaluate", folder=folder)
    return json.loads((folder / "results.json").read_text())["test"]


def test_the_page_shows_one_of_each():
    shown = {Path(name).stem for name in FILES if name.startswith("mypackage/")}
    assert shown == set(MODULES.values())
    assert {"configs/cosine_stripes.py", "configs/tables/stripes.py"} < set(FILES)


def test_a_method_a_source_a_backbone_and_a_metric_of_ones_own(project: Path):
    results = run(config_of("configs/cosine_stripes.py:small"), project / "run")
    assert list(results) == ["cosine", "nearest_cluster", "nearest_neighbour"]
    figures = results["nearest_neighbour"]
    assert "recall_at_1" in figures and "nmi" not in figures
    assert 0 < figures["spread_within_classes"] < 1
    assert "spread within classes" in (project / "run/report.html").read_text()
    stored = json.loads((project / "run/config.json").read_text())
    assert stored["method"] == "mypackage.cosine"
    assert stored["network"]["name"] == "mypackage.patches"


ON_DEVICES = """
import json, runpy
from fsljax import methods
from tests.parallel.trajectories import relative_distance, train

config = methods.check(runpy.run_path("configs/cosine_stripes.py")["get_config"]("small"))
method = methods.build(config, methods.load(config))
one, several = (train(method, config, count, 5)[0] for count in (1, 4))
print(relative_distance(several, one), one.params["directions"].dtype)
"""


def test_a_method_of_ones_own_on_several_devices(project: Path):
    env = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_ENABLE_X64": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (project, ROOT))),
    }
    (ended,) = outcomes(start([[sys.executable, "-c", ON_DEVICES]], env=env, cwd=project))
    distance, kind = ended.out.split()
    assert float(distance) < 1e-8 and kind == "float64", ended.err


def test_a_detection_data_set_of_ones_own(project: Path):
    config = runpy.run_path(str(ROOT / "configs/repmet_detection_glyphs.py"))["get_config"]()
    config.data.update({"name": "mypackage.tiles", "channels": 3})
    config.train.update({"steps": 2, "images": 4})
    config.checkpoint.every = 2
    config.validation.images = 4
    config.eval.update({"images": 4, "episodes": 0})
    assert "base" in run(config, project / "run")


@pytest.mark.parametrize("package", MODULES)
def test_a_file_in_the_packages_folder_needs_no_dots(
    package: str, project: Path, monkeypatch: pytest.MonkeyPatch
):
    home = importlib.import_module(package)
    monkeypatch.setattr(home, "__path__", [*home.__path__, str(project / "mypackage")])
    name = MODULES[package]
    assert modules.find(package, name, field="name").__name__ == f"{package}.{name}"
    assert name in modules.names(package)
    del sys.modules[f"{package}.{name}"]
    with pytest.raises(UserError, match=f"config.name is '{name[:-1]}', .* Did you mean {name}"):
        modules.find(package, name[:-1], field="name")


def test_a_table_of_ones_own_is_a_file(project: Path):
    table = reproduce.read_table("stripes")
    given = [experiments.find(row.config) for row in table.rows]
    assert given == ["configs/cosine_stripes.py:small", "configs/cosine_stripes.py:large"]
    with pytest.raises(UserError, match=r"no table 'stripe'\. .* stripes\? configs.tables holds stripes"):
        reproduce.read_table("stripe")


@pytest.mark.slow
def test_a_table_of_ones_own_is_run(project: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert reproduce.main(["stripes", "--config.train.steps=4"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()] == ["method", shown.split("\n")[1].split()[0],
                                                                "small", "large"]  # fmt: skip
    assert (project / "runs/reproduce/stripes").is_dir()
