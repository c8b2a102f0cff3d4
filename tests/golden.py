"""What a change of structure must leave as it is: `python tests/golden.py` writes it to golden.json.

Everything goes through launch.py and the files that it writes: nothing here depends on where code lives.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict
from PIL import Image

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).with_name("golden.json")
WORKDIRS = Path(__file__).with_name("workdirs")

STEPS = 20
RUNS = {
    "protonet": ("quickstart", ("--config.train.way=10",)),
    "magnet": ("magnet_glyphs_2", ("--config.data.max_classes=20", "--config.train.refresh_every=8")),
    "softmax": ("softmax_glyphs_2", ("--config.data.max_classes=20",)),
    "triplet": ("triplet_glyphs_2", ("--config.data.max_classes=20",)),
    "repmet": (
        "repmet_glyphs_3",
        ("--config.data.max_classes=20", "--config.representatives.start=clusters"),
    ),
    "repmet_detector": (
        "repmet_detection_glyphs",
        (
            "--config.representatives.reset_every=8",
            "--config.representatives.reset_until=16",
            "--config.representatives.reset_images=32",
            "--config.validation.images=16",
        ),
    ),
}
PHOTOGRAPHS = (
    "repmet_detection_coco128",
    (
        "--config.data.name=voc",
        "--config.network.name=resnet_small",
        "--config.network.padding=symmetric",
        "--config.data.image_size=64",
        "--config.network.frozen_statistics=False",
        "--config.proposals.sizes=(8.0, 16.0, 24.0, 32.0)",
        "--config.proposals.keep=32",
        "--config.proposals.keep_in_test=32",
        "--config.data.base=('disc', 'bars')",
        "--config.data.novel=('ring', 'cross', 'frame', 'dots', 'wedge')",
        "--config.rois.sampled=16",
        "--config.train.flip=True",
        "--config.representatives.reset_every=8",
        "--config.head.hidden=64",
        "--config.representatives.reset_until=16",
        "--config.representatives.reset_images=8",
        "--config.eval.images=16",
        "--config.eval.episodes=3",
        "--config.eval.fine_tune_epochs=(0, 1)",
        "--config.data.train_on=train",
        "--config.validation.images=8",
        "--config.data.years=(2007,)",
    ),
)
KEPT_SMALL = "--config.network.filters=4"
MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "protonet_1_5": ("protonet_1_5", ("--config.eval.episodes=500",)),
    "protonet_5_5": ("protonet_5_5", ("--config.eval.episodes=500",)),
    "repmet_detection_scenes": (
        "repmet_detection_scenes",
        (
            "--config.eval.episodes=20",
            "--config.eval.images=32",
            "--config.eval.shots=(1, 5)",
            "--config.eval.fine_tune_epochs=(0, 1)",
            "--config.eval.ceiling=True",
            "--config.eval.baseline=models/linear_detection_scenes",
        ),
    ),
    "linear_detection_scenes": (
        "repmet_detection_scenes",
        (
            "--config.head.kind=linear",
            "--config.loss.linear=0.0",
            "--config.loss.boxes=1.0",
            "--config.head.dim=128",
            "--config.loss.alpha=0.5",
            "--config.loss.embedding=1.0",
            "--config.loss.embedding_sigma=0.5",
            "--config.loss.sigma=0.5",
            "--config.loss.version=margin",
            "--config.eval.images=32",
        ),
    ),
}


def machine() -> dict[str, str]:
    """What digests hold on: another processor or another JAX rounds otherwise."""
    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        named = dict(line.split(":", 1) for line in lines if ":" in line)
        told = {key.strip(): value.strip() for key, value in named.items()}
        flags = set(told.get("flags", "").split())
        model = " ".join([told.get("model name", ""), *sorted({"avx2", "avx512f", "amx_tile"} & flags)])
    return {
        "jax": jax.__version__,
        "system": platform.machine(),
        "processor": model,
        "cores": str(os.cpu_count()),
    }


def config_of(name: str) -> tuple[str, ConfigDict]:
    """The experiment of this name: what `--config` is given, and its values."""
    given = experiments()[name]
    file, _, argument = given.partition(":")
    get_config = runpy.run_path(str(ROOT / file))["get_config"]
    return given, get_config(argument) if argument else get_config()


@cache
def experiments() -> dict[str, str]:
    """What `--config` is given for each experiment of configs/, by its name."""
    given = {}
    for path in sorted((ROOT / "configs").glob("*.py")):
        scope = runpy.run_path(str(path))
        for argument in scope.get("EXPERIMENTS", [None]):
            if argument is None:
                given[scope["get_config"]().name] = f"configs/{path.name}"
            else:
                given[scope["get_config"](argument).name] = f"configs/{path.name}:{argument}"
    return given


def plain(config: Any) -> Any:
    """Values as JSON has them."""
    return json.loads(config.to_json_best_effort()) if isinstance(config, ConfigDict) else config


def launch(name: str, *arguments: str, cache_home: Path, cwd: Path = ROOT) -> None:
    """Runs launch.py to its end."""
    given, _ = config_of(name)
    environment = os.environ | {"XDG_CACHE_HOME": str(cache_home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "launch.py"), f"--config={given}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")


def digests(workdir: Path) -> dict[str, str]:
    """Of all arrays of the newest checkpoint, as it was written."""
    newest = max((workdir / "checkpoints").iterdir(), key=lambda folder: int(folder.name))
    return json.loads((newest / "about" / "metadata").read_text())["digests"]


def shapes(workdir: Path) -> dict[str, list[int]]:
    """Names and shapes of the parameters and batch statistics of the newest checkpoint."""
    newest = max((workdir / "checkpoints").iterdir(), key=lambda folder: int(folder.name))
    with ocp.StandardCheckpointer() as reader:
        tree = reader.restore(newest / "model")
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): list(np.shape(leaf)) for path, leaf in leaves}


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())["test"]


@cache
def scratch() -> Path:
    """A folder of this process, with a cache of its own, that is left to the system to delete."""
    return Path(tempfile.mkdtemp(prefix="fsljax-golden-"))


def trained(name: str, *more: str, streamed: bool = False, steps: int = STEPS) -> Path:
    """The workdir of a short run of a method."""
    config, overrides = PHOTOGRAPHS if name == "photographs" else RUNS[name]
    folder = scratch() / f"{name}{'-streamed' * streamed}{len(more)}"
    given = [f"--config.data.path={voc()}"] if name == "photographs" else []
    if not folder.exists():
        launch(
            config,
            "--mode=train",
            f"--workdir={folder}",
            f"--config.train.steps={steps}",
            f"--config.checkpoint.every={steps}",
            f"--config.data.device_budget_gb={0.0 if streamed else 4.0}",
            *overrides,
            *given,
            *more,
            cache_home=scratch() / "cache",
        )
    return folder


@cache
def voc() -> Path:
    """A folder in VOC's layout: patterns on noise, some difficult, of several sizes."""
    root, generator = scratch() / "voc", np.random.default_rng(0)
    names = ("disc", "bars", "ring", "cross", "frame", "dots", "wedge")
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    listed: dict[str, list[str]] = {"train": [], "val": []}
    for number in range(200):
        height, width = generator.integers(48, 97, 2).tolist()
        image = generator.integers(0, 90, (height, width, 3), np.uint8)
        objects = ""
        for place in range(1 + number % 2):
            kind = names[(number + place * 3) % len(names)]
            side = int(generator.integers(16, 25))
            top, left = generator.integers(0, [height - side, width - side]).tolist()
            pattern = np.random.default_rng(names.index(kind)).integers(0, 2, (8, 8))
            drawn = np.kron(pattern, np.ones((side // 8, side // 8)))
            end = drawn.shape[0]
            image[top : top + end, left : left + end] = np.uint8(120 + 120 * drawn[..., None])
            objects += (
                f"<object><name>{kind}</name><difficult>{int(number % 9 == 8)}</difficult><bndbox>"
                f"<xmin>{left + 1}</xmin><ymin>{top + 1}</ymin><xmax>{left + end}</xmax>"
                f"<ymax>{top + end}</ymax></bndbox></object>"
            )
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        Image.fromarray(image).save(root / "JPEGImages" / f"{number:03d}.png")
        (root / "Annotations" / f"{number:03d}.xml").write_text(
            f"<annotation><filename>{number:03d}.png</filename>{size}{objects}</annotation>"
        )
        listed["train" if number < 40 else "val"].append(f"{number:03d}")
    for split, ids in listed.items():
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(ids) + "\n")
    return root


def configs(names: list[str]) -> dict[str, Any]:
    return {name: plain(config_of(name)[1]) for name in names}


def states(streamed: bool) -> dict[str, dict[str, str]]:
    """Digests of the state after some steps of each method."""
    return {name: digests(trained(name, streamed=streamed)) for name in (*RUNS, "photographs")}


def parameters() -> dict[str, dict[str, list[int]]]:
    return {name: shapes(trained(name)) for name in (*RUNS, "photographs")}


def evaluations() -> dict[str, Any]:
    """Results of short runs: every setting of every method."""
    measured = {}
    few = {"protonet": ("--config.eval.episodes=50",), "repmet_detector": ("--config.eval.episodes=2",)}
    for name in (*RUNS, "photographs"):
        config, overrides = PHOTOGRAPHS if name == "photographs" else RUNS[name]
        output = scratch() / f"{name}-results"
        given = [f"--config.data.path={voc()}"] if name == "photographs" else []
        launch(
            config,
            "--mode=evaluate",
            f"--workdir={trained(name)}",
            f"--output_dir={output}",
            f"--config.train.steps={STEPS}",
            *overrides,
            *given,
            *few.get(name, ()),
            cache_home=scratch() / "cache",
        )
        measured[name] = results(output)
    return measured


def models(name: str) -> dict[str, Any]:
    """Results of a shipped model; needs TFDS_DATA_DIR."""
    config, overrides = MODELS[name]
    output = scratch() / f"model-{name}"
    launch(
        config,
        "--mode=evaluate",
        f"--workdir=models/{name}",
        f"--output_dir={output}",
        *overrides,
        cache_home=scratch() / "cache",
    )
    return results(output)


def keys() -> dict[str, Any]:
    """What is stored beside runs: names of cached features, episode files and what is in them."""
    home = scratch() / "cache-of-keys"
    trained("softmax")
    common = ("--config.data.max_classes=20", f"--config.train.steps={STEPS}")
    launch(
        "softmax_glyphs_2",
        *common,
        "--mode=train",
        f"--workdir={scratch() / 'frozen'}",
        f"--config.network.init_from={trained('softmax')}",
        "--config.network.trainable=head",
        "--config.network.embedding=(16,)",
        "--config.network.views=2",
        "--config.augment.flip=True",
        f"--config.checkpoint.every={STEPS}",
        cache_home=home,
    )
    path = scratch() / "episodes.npz"
    config, overrides = RUNS["protonet"]
    launch(
        config,
        *overrides,
        f"--config.train.steps={STEPS}",
        "--mode=evaluate",
        "--config.eval.episodes=50",
        f"--config.eval.write_episodes={path}",
        f"--workdir={trained('protonet')}",
        f"--output_dir={scratch() / 'episodes'}",
        cache_home=home,
    )
    with np.load(path) as arrays:
        episodes = {name: array_digest(arrays[name]) for name in sorted(arrays.files)}
    config, overrides = RUNS["repmet_detector"]
    launch(
        config,
        *overrides,
        f"--config.train.steps={STEPS}",
        "--mode=evaluate",
        "--config.eval.episodes=2",
        f"--workdir={trained('repmet_detector')}",
        f"--output_dir={scratch() / 'detections'}",
        cache_home=home,
    )
    entries = sorted(entry.name for entry in (home / "fsljax").iterdir() if entry.name != "xla")
    files = {
        entry.name: hashlib.sha256(_undigested(entry.read_bytes())).hexdigest()
        for entry in sorted((home / "fsljax").glob("*.json"))
    }
    return {
        "cache": entries,
        "episodes": episodes,
        "detection_episodes": files,
        "frozen": digests(scratch() / "frozen"),
    }


def _undigested(episodes: bytes) -> bytes:
    """A file of episodes as it was written before it had a digest of itself."""
    return re.sub(rb',"digest":"[0-9a-f]{16}"', b"", episodes)


def resumed(name: str) -> dict[str, str]:
    """The digests of a kept workdir of `STEPS` steps after as many more."""
    if not (WORKDIRS / name).exists():
        keep(name)
    folder = scratch() / f"resumed-{name}"
    shutil.copytree(WORKDIRS / name, folder)
    config, overrides = RUNS[name]
    launch(
        config,
        "--mode=train",
        f"--workdir={folder}",
        f"--config.train.steps={2 * STEPS}",
        f"--config.checkpoint.every={STEPS}",
        *overrides,
        KEPT_SMALL,
        cache_home=scratch() / "cache",
    )
    return digests(folder)


def keep(name: str) -> None:
    """Makes a workdir to be kept: a run that was ended half-way."""
    folder = WORKDIRS / name
    config, overrides = RUNS[name]
    launch(
        config,
        "--mode=train",
        f"--workdir={folder}",
        f"--config.train.steps={2 * STEPS}",
        f"--config.checkpoint.every={STEPS}",
        *overrides,
        KEPT_SMALL,
        cache_home=scratch() / "cache",
    )
    shutil.rmtree(folder / "checkpoints" / str(2 * STEPS))
    shutil.rmtree(folder / "metrics", ignore_errors=True)


def enrolled(name: str) -> dict[str, Any]:
    """What a kept folder with enrolled classes says of images; made where it is missing."""
    from fsljax.api import Classifier

    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28), np.uint8)
    folder = WORKDIRS / f"{name}_enrolled"
    if not folder.exists():
        made = Classifier.load(WORKDIRS / name, unknown=0.25)
        made.enroll(images[:9], ["one", "two", 3] * 3).save(folder)
    classifier = Classifier.load(folder)
    return {
        "classes": classifier.classes,
        "probabilities": np.asarray(classifier.predict_proba(images[9:]), float).round(5).tolist(),
        "confidence": np.asarray(classifier.confidence(images[9:]), float).round(5).tolist(),
    }


def array_digest(array: np.ndarray) -> str:
    return hashlib.sha256(
        f"{array.shape} {array.dtype}".encode() + np.ascontiguousarray(array).data
    ).hexdigest()


def parts() -> Iterator[tuple[str, Callable[[], Any]]]:
    """All that is kept, by its name."""
    yield "configs", lambda: configs(sorted(experiments()))
    yield "states", lambda: states(False)
    yield "streamed", lambda: states(True)
    yield "parameters", parameters
    yield "evaluations", evaluations
    yield "models", lambda: {name: models(name) for name in MODELS}
    yield "keys", keys
    yield "resumed", lambda: {name: resumed(name) for name in ("magnet", "repmet")}
    yield "enrolled", lambda: {name: enrolled(name) for name in ("magnet", "repmet")}


if __name__ == "__main__":
    made: dict[str, Any] = {"machine": machine()}
    for part, make in parts():
        print(part, file=sys.stderr)
        made[part] = make()
    GOLDEN.write_text(json.dumps(made, indent=1) + "\n")
