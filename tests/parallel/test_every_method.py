"""Every method by two processes is that by two devices to the bit; a run goes on with any others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from fsljax.training.checkpoints import Checkpoints

from ..tiny_runs import command
from .starting import free_port, outcomes, start

CONFIG = """
from fsljax.methods import {method} as method


def get_config():
    config = method.default_config()
    config.name = "{method}"
    config.train.update({{"steps": 12, "log_every": 4, "learning_rate": 1e-3}})
    config.checkpoint.every = 6
{fields}
    return config
"""

OF_IMAGES = """
    config.data.update({{"name": "folder", "path": {path!r}, "image_size": 16}})
    config.network.update({{"filters": 4, "blocks": 2, "kernels": "xla"}})
    config.augment.rotation = 10.0
"""
OF_EPISODES = """
    config.train.update({"way": 4, "shot": 1, "queries": 2, "episodes_per_step": 2})
    config.validation.update({"way": 3, "queries": 3, "episodes": 20})
    config.eval.update({"ways": (3,), "shots": (1,), "queries": 3, "episodes": 50})
"""
OF_EXAMPLES = """
    config.data.update({"split_by": "examples", "fractions": (0.5, 0.25, 0.25)})
    config.train.update({"clusters": 4, "examples": 2})
"""
OF_DETECTION = """
    config.data.update({"drawings": "glyphs", "image_size": 64})
    config.scenes.update({"size": 64, "characters": (1, 2), "sides": (20.0, 30.0), "fragments": (0, 1)})
    config.network.update({"name": "scene_net", "momentum": 0.9})
    config.pyramid.update({"channels": 8, "extra_levels": 0})
    config.proposals.update({"sizes": (16.0, 24.0, 32.0), "sampled": 32, "before_nms": 32})
    config.proposals.update({"keep": 12, "keep_in_test": 12})
    config.rois.update({"sampled": 12, "positive_fraction": 0.5, "jittered": 1, "output_size": 4})
    config.head.update({"hidden": 16, "dim": 8})
    config.representatives.update({"reset_every": 4, "reset_until": 6, "reset_images": 64})
    config.train.images = 2
    config.validation.images = 16
    config.eval.update({"images": 16, "classes": 2, "episodes": 0})
"""

FIELDS = {
    "protonet": OF_IMAGES + OF_EPISODES,
    "softmax": OF_IMAGES + OF_EXAMPLES,
    "triplet": OF_IMAGES + OF_EXAMPLES,
    "magnet": OF_IMAGES
    + OF_EXAMPLES
    + '    config.train.update({"clusters_per_class": 2, "refresh_every": 4})\n',
    "repmet": OF_IMAGES + OF_EXAMPLES + "    config.network.embedding = (8,)\n",
    "repmet_detector": OF_DETECTION,
}
RUNS = [
    *((name, ()) for name in FIELDS),
    ("softmax", ("--config.data.device_budget_gb=0.0",)),
    ("magnet", ("--config.data.device_budget_gb=0.0", "--config.mesh.divide_classes=True")),
    ("repmet", ("--config.mesh.divide_classes=True",)),
    ("protonet", ("--config.train.episodes_per_step=1",)),
]
IN_SHORT = [
    ("repmet_detector", ()),
    ("magnet", ("--config.data.device_budget_gb=0.0", "--config.mesh.divide_classes=True")),
]


@pytest.fixture
def config_of(image_folder: Path, tmp_path: Path):
    def write(name: str) -> Path:
        path = tmp_path / f"{name}.py"
        fields = FIELDS[name].replace("{path!r}", repr(str(image_folder))).replace("{{", "{")
        path.write_text(CONFIG.format(method=name, fields=fields.replace("}}", "}")))
        return path

    return write


def by_processes(config: Path, count: int, *arguments: str, env: dict[str, str] | None = None):
    together = [f"--coordinator=127.0.0.1:{free_port()}", f"--processes={count}", *arguments]
    commands = [command(config, *together, f"--process={number}") for number in range(count)]
    return outcomes(start(commands, env=env, cwd=config.parent))


def by_devices(config: Path, count: int, *arguments: str, env: dict[str, str] | None = None):
    commands = [command(config, f"--config.mesh.devices={count}", *arguments)]
    return outcomes(start(commands, env=env, cwd=config.parent))


def model_of(workdir: Path) -> dict[str, np.ndarray]:
    variables = Checkpoints(workdir).restore_model().variables
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(variables)}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [pytest.param(*run, marks=pytest.mark.slow if run in IN_SHORT else pytest.mark.campaign) for run in RUNS],
)
def test_two_processes_are_one_with_two_devices(name, arguments, config_of):
    config = config_of(name)
    [one] = by_devices(config, 2, "--workdir=one", *arguments)
    assert one.status == 0, one.err
    first, second = by_processes(config, 2, "--workdir=two", *arguments)
    assert (first.status, second.status) == (0, 0), first.err + second.err
    folder = config.parent
    assert (folder / "two/results.json").read_text() == (folder / "one/results.json").read_text()
    ours, theirs = model_of(folder / "two"), model_of(folder / "one")
    assert ours.keys() == theirs.keys()
    for leaf in ours:
        np.testing.assert_array_equal(ours[leaf], theirs[leaf])
    assert ("streamed" in one.err) == ("--config.data.device_budget_gb=0.0" in arguments)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("protonet", marks=pytest.mark.campaign),
        pytest.param("magnet", marks=pytest.mark.campaign),
        pytest.param("repmet", marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_with_any_number_of_devices_and_processes(name, config_of):
    """One device, two processes, eight devices, one again: the parameters of one device all along."""
    config, exact = config_of(name), {"JAX_ENABLE_X64": "1"}
    steps = "--config.train.episodes_per_step=8" if name == "protonet" else "--config.train.clusters=8"
    train = [
        "--mode=train",
        "--config.checkpoint.every=3",
        "--config.checkpoint.keep_last=9",
        steps,
        "--config.train.schedule=constant",
    ]
    [whole] = by_devices(config, 1, *train, "--workdir=whole", env=exact)
    assert whole.status == 0, whole.err
    for last, run, count in (
        (3, by_devices, 1),
        (6, by_processes, 2),
        (9, by_devices, 8),
        (12, by_devices, 1),
    ):
        # Each goes to the end; what comes after its part is taken away, as if it had been stopped there.
        ended = run(config, count, *train, "--workdir=parts", env=exact)
        assert [one.status for one in ended] == [0] * len(ended), ended[0].err
        keep_up_to(config.parent / "parts", last)
    ours, theirs = model_of(config.parent / "parts"), model_of(config.parent / "whole")
    for leaf in theirs:
        assert theirs[leaf].dtype == np.float64 or "label" in leaf
        np.testing.assert_allclose(ours[leaf], theirs[leaf], rtol=1e-8, atol=1e-10)


def keep_up_to(workdir: Path, step: int) -> None:
    """Makes the workdir that of a run which was stopped at a step."""
    for folder in (workdir / "checkpoints").iterdir():
        if folder.name.isdigit() and int(folder.name) > step:
            shutil.rmtree(folder)
    rows = (workdir / "history.jsonl").read_text().splitlines(keepends=True)
    kept = [row for row in rows if json.loads(row)["step"] <= step]
    (workdir / "history.jsonl").write_text("".join(kept))
