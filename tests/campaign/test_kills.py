"""Runs of each method that are killed or asked to stop at random moments: they go on to the same bits."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from ..tiny_runs import command

CONFIG = """
from importlib import import_module

FOLDER = {folder!r}
FEW_SHOT = {{"ways": (3,), "shots": (1,), "queries": 3, "episodes": 20}}
TRAIN = {{
    "protonet": {{"way": 3, "shot": 1, "queries": 3, "ema": 0.9}},
    "magnet": {{"clusters": 4, "examples": 3, "clusters_per_class": 2, "refresh_every": 7}},
    "softmax": {{"clusters": 4, "examples": 3}},
    "triplet": {{"clusters": 4, "examples": 3}},
    "repmet": {{"clusters": 4, "examples": 3}},
    "repmet_detector": {{"images": 2}},
}}


def get_config(method):
    config = import_module("fsljax.methods." + method).default_config()
    config.name = method
    config.data.update({{"path": FOLDER + "/pictures", "name": "folder", "image_size": 16}})
    config.train.update({{"steps": 40, "log_every": 5, **TRAIN[method]}})
    config.checkpoint.every = 10
    if method == "repmet_detector":
        return detector(config)
    config.data.fractions = (0.4, 0.3, 0.3)
    config.network.update({{"filters": 4, "blocks": 3}})
    config.augment.shift = 1.0
    if method == "protonet":
        config.validation.update({{"way": 3, "queries": 3, "episodes": 10}})
        config.eval.update(FEW_SHOT)
    elif method == "repmet":
        config.representatives.update({{"per_class": 2, "reset_every": 10, "reset_until": 20}})
    return config


def detector(config):
    config.data.update({{"path": FOLDER + "/photographs", "name": "coco", "channels": 3, "image_size": 32}})
    config.network.update({{"name": "scene_net", "momentum": 0.9}})
    config.pyramid.update({{"channels": 8, "extra_levels": 0}})
    config.proposals.update({{"sizes": (8.0, 10.0, 14.0), "sampled": 32, "before_nms": 32}})
    config.proposals.update({{"keep": 12, "keep_in_test": 12}})
    config.rois.update({{"sampled": 12, "positive_fraction": 0.5, "jittered": 1, "output_size": 4}})
    config.rois.update({{"canonical_size": 1e4, "canonical_level": 0}})
    config.head.update({{"hidden": 16, "dim": 8}})
    config.representatives.per_class = 2
    config.eval.update({{"images": 8, "episodes": 0}})
    return config
"""
LAST = "40"
METHODS = ("protonet", "magnet", "softmax", "triplet", "repmet", "repmet_detector")
SAMPLED = ("repmet",)  # where no number of rounds is asked for: compiling all takes minutes
REQUESTS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SECONDS_TO_IMPORT = 4.0
SECONDS_TO_END = 300
KILLED_AGAIN = 0.3  # how often a run that goes on is ended, too


class Started(NamedTuple):
    """A run, and the files that its standard output and error go to."""

    process: subprocess.Popen[bytes]
    output: Path
    errors: Path


@pytest.fixture(scope="session")
def config_of_kills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    generator = np.random.default_rng(0)
    for number in range(10):
        (folder / f"pictures/class{number}").mkdir(parents=True)
        pattern = np.kron(generator.uniform(size=(4, 4)), np.ones((4, 4)))
        for picture in range(10):
            noisy = np.clip(pattern + 0.1 * generator.normal(size=(16, 16)), 0, 1)
            Image.fromarray(np.uint8(255 * noisy)).save(folder / f"pictures/class{number}/{picture}.png")
    for split, count in (("train", 8), ("val", 4)):
        write_photographs(folder / "photographs", split, count, generator)
    path = folder / "kills.py"
    path.write_text(CONFIG.format(folder=str(folder)), encoding="utf-8")
    return path


def write_photographs(folder: Path, split: str, count: int, generator: np.random.Generator) -> None:
    """Two squares on each, of the colours of two classes; in COCO's format."""
    (folder / split).mkdir(parents=True)
    images, boxes = [], []
    for number in range(count):
        pixels = generator.integers(100, 120, (32, 32, 3), np.uint8)
        for label, (left, top) in enumerate(generator.integers((0, 0), (6, 18), (2, 2)).tolist()):
            left += 16 * label
            pixels[top : top + 10, left : left + 10] = (255, 0, 0) if label else (0, 0, 255)
            boxes.append({"id": len(boxes) + 1, "image_id": number + 1, "category_id": label + 1,
                          "iscrowd": 0, "bbox": [left, top, 10, 10], "area": 100})  # fmt: skip
        Image.fromarray(pixels).save(folder / split / f"{number}.png")
        images.append({"id": number + 1, "file_name": f"{number}.png", "width": 32, "height": 32})
    categories = [{"id": 1, "name": "blue"}, {"id": 2, "name": "red"}]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / f"annotations/instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="session")
def undisturbed(config_of_kills: Path) -> Callable[[str], dict[str, Any]]:
    """What a run of a method leaves that nothing disturbed; each is made once."""
    left: dict[str, dict[str, Any]] = {}

    def of(method: str) -> dict[str, Any]:
        if method not in left:
            workdir = config_of_kills.parent / f"whole_{method}"
            end_of(start(config_of_kills, method, workdir))
            left[method] = left_in(workdir)
        return left[method]

    return of


@pytest.mark.campaign
@pytest.mark.parametrize("method", METHODS)
def test_runs_ended_at_random_moments_go_on_to_the_same_bits(
    method: str, rounds, undisturbed: Callable[[str], dict[str, Any]], config_of_kills: Path, tmp_path: Path
):
    for seed in rounds(int(method in SAMPLED)):
        whole, chosen = undisturbed(method), random.Random(f"{method} {seed}")
        workdir = tmp_path / str(seed)
        while True:
            end_at_a_random_moment(start(config_of_kills, method, workdir), chosen)
            if chosen.random() > KILLED_AGAIN:
                break
        end_of(start(config_of_kills, method, workdir))
        left = left_in(workdir)
        assert undivided(left["history"], whole["history"]) == whole["history"]
        assert (left["results"], left["verdicts"]) == (whole["results"], whole["verdicts"])
        # Which states are kept may differ: that of a stop is one of the last, and one that a kill kept from
        # its deletion lies there still.
        assert LAST in left["states"]
        shared = left["states"].keys() & whole["states"].keys()
        assert [left["states"][step] for step in shared] == [whole["states"][step] for step in shared]
        shutil.rmtree(workdir)


def start(config: Path, method: str, workdir: Path) -> Started:
    output, errors = workdir.with_suffix(".output"), workdir.with_suffix(".errors")
    with output.open("wb") as output_file, errors.open("wb") as errors_file:
        process = subprocess.Popen(
            command(Path(f"{config}:{method}"), f"--workdir={workdir}"),
            stdout=output_file,
            stderr=errors_file,
            env=os.environ | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"},
        )
    return Started(process, output, errors)


def end_at_a_random_moment(run: Started, chosen: random.Random) -> None:
    """Sends a signal, or two, while the program imports, compiles, trains, evaluates, writes or ends."""
    number = chosen.choice((signal.SIGKILL, *REQUESTS))
    second, later = chosen.choice((None, *REQUESTS)), chosen.choice((0.0, 0.05, 0.5))
    wait_until_it_hears(run.process)
    wait_for_lines(run, lines := chosen.randrange(9))
    time.sleep(chosen.uniform(0, 1.0 if lines else SECONDS_TO_IMPORT))
    run.process.send_signal(number)
    if number != signal.SIGKILL and second is not None:
        time.sleep(later)
        run.process.send_signal(second)
    output, errors = said_by(run, SECONDS_TO_END)
    if number != signal.SIGKILL and run.process.returncode >= 0:  # negative where Python was ending already
        assert run.process.returncode == 0, errors
    if number != signal.SIGKILL:
        assert ("Stopped" in errors) == ("checkpoint  " not in output), output + errors


def wait_for_lines(run: Started, count: int) -> None:
    """Waits until a run has said so many lines, or is over."""
    while run.errors.read_bytes().count(b"\n") < count and run.process.poll() is None:
        time.sleep(0.005)


def wait_until_it_hears(process: subprocess.Popen[bytes]) -> None:
    """Before its first lines run, Python itself answers signals."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        time.sleep(1)
        return
    while process.poll() is None:
        caught = next((line for line in status.read_text().splitlines() if line.startswith("SigCgt")), "0 0")
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            time.sleep(0.01)  # SIGHUP follows
            return
        time.sleep(0.005)


def undivided(rows: list[dict[str, Any]], whole: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A history in which the spans that a stop divided are as in the whole one.

    A run that stops in training writes down the means of the steps since the last row, and those of the
    steps that are left when it goes on.
    """
    of_whole = {row["step"]: row for row in whole if "train/loss" in row}
    stops = {row["step"] for row in rows} - of_whole.keys()
    divided = {min(step for step in of_whole if step > stop) for stop in stops}
    return [
        of_whole[row["step"]] if row["step"] in divided and "train/loss" in row else row
        for row in rows
        if row["step"] not in stops
    ]


def end_of(run: Started) -> None:
    """Waits for a run that must succeed."""
    output, errors = said_by(run, 600)
    assert run.process.returncode == 0, output + errors


def said_by(run: Started, seconds: float) -> tuple[str, str]:
    """What a run wrote up to its end."""
    try:
        run.process.wait(timeout=seconds)
    finally:
        run.process.kill()
    output, errors = (path.read_text(encoding="utf-8") for path in (run.output, run.errors))
    assert "Traceback" not in output + errors, errors
    return output, errors


def left_in(workdir: Path) -> dict[str, Any]:
    """What must be the same: digests of the states kept, results, verdicts, and the history of training."""
    states = {
        path.parents[1].name: json.loads(path.read_text(encoding="utf-8"))["digests"]
        for path in workdir.glob("checkpoints/*/about/metadata")
    }
    assert states
    lines = (workdir / "history.jsonl").read_text(encoding="utf-8").splitlines()
    history = [json.loads(line) for line in lines]
    for row in history:
        for name in ("steps_per_second", "digest"):  # times, which the digest of a row covers, too
            row.pop(name, None)
    results = json.loads((workdir / "results.json").read_text(encoding="utf-8"))
    correct = workdir / "correct.npz"
    verdicts = {name: array.tolist() for name, array in np.load(correct).items()} if correct.exists() else {}
    return {"states": states, "results": results, "history": history, "verdicts": verdicts}
