"""A program: trains by the config's method on several numbers of devices, and prints how far apart it ends.

`python -m tests.parallel.trajectories NAME STEPS DEVICES… [FIELD=VALUE …]` with images of its own; the first
number of devices is what the others are compared with. The caller sets XLA_FLAGS and JAX_ENABLE_X64.
"""

from __future__ import annotations

import ast
import io
import json
import sys
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from fsljax import methods
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.detection.data.photographs import Photographs
from fsljax.detection.data.set_operations import take_images
from fsljax.detection.data.structures import DetectionSet
from fsljax.methods import magnet, pretrained, protonet, repmet, softmax, triplet
from fsljax.parallel.devices import chosen
from fsljax.training.devices import collected, how_spread, spread
from fsljax.training.method import Method
from fsljax.training.progress import Progress
from fsljax.training.state import TrainState
from fsljax.training.steps import Steps, placed, sharing
from tests.methods import test_repmet_detector as scenes

MODULES = {"protonet": protonet, "softmax": softmax, "triplet": triplet, "magnet": magnet, "repmet": repmet,
           "pretrained": pretrained}  # fmt: skip
CLASSES, EXAMPLES, SIDE = 18, 8, 16


def splits(channels: int) -> Splits:
    """Patterns with noise, one pattern a class."""
    generator = np.random.default_rng(0)
    patterns = np.kron(generator.uniform(size=(CLASSES, 1, 4, 4, channels)), np.ones((1, 1, 4, 4, 1)))
    noise = 0.3 * generator.normal(size=(CLASSES, EXAMPLES, SIDE, SIDE, channels))
    images = np.uint8(255 * np.clip(patterns + noise, 0, 1)).reshape(-1, SIDE, SIDE, channels)
    names = [f"pattern {number}" for number in range(CLASSES)]
    data = ImageDataset(images, np.repeat(np.arange(CLASSES, dtype=np.int32), EXAMPLES), names)
    return Splits(data, data, data)


def photographs() -> Photographs:
    """Sixteen noisy images, each with a bright box or two."""
    generator = np.random.default_rng(0)
    images, boxes, labels = [], [], []
    for number in range(16):
        image = generator.integers(0, 100, (32, 32, 3), dtype=np.uint8)
        top, left = generator.integers(0, 16, 2)
        image[top : top + 14, left : left + 14, number % 3] = 255
        images.append(image)
        boxes.append(np.array([[top, left, top + 14, left + 14]], np.float32))
        labels.append(np.array([number % 3], np.int32))
    ids = tuple(f"image {number}" for number in range(16))
    nothing = tuple(np.zeros(1, bool) for _ in ids)
    sizes = np.full((16, 2), 32, np.int32)
    part = DetectionSet(images, sizes, tuple(boxes), tuple(labels), nothing, scenes.NAMES, ids, ids)
    return Photographs(part, take_images(part, np.arange(4)), 32, flip=True)


def built(name: str, fields: dict[str, Any]) -> tuple[Method, Any]:
    """A method on its images, and its config."""
    if name in ("scenes", "photographs"):
        config = scenes.make_config(train__images=8)
        config.representatives.update({"reset_every": 3, "reset_until": 4})
        data: Any = scenes.make_method().data
        if name == "photographs":
            config.data.channels = 3
            config.data.name = "coco"
            data = photographs()
    else:
        module = MODULES[name]
        config, data = module.default_config(), splits(1)
        config.name = name
        config.data.image_size = SIDE
        config.network.update({"filters": 4, "blocks": 2, "kernels": "xla"})
        config.augment.update({"rotation": 10.0, "flip": True, "brightness": 0.1})
        config.train.update({"learning_rate": 1e-2})
        if name == "protonet":
            config.train.update({"way": 6, "shot": 1, "queries": 3, "episodes_per_step": 8})
            config.class_augment.rotation = 5.0
            config.validation.update({"way": 5, "queries": 5, "episodes": 20})
            config.eval.update({"ways": (5,), "shots": (1,), "queries": 5, "episodes": 20})
        else:
            config.train.update({"clusters": 8, "examples": 4})
        if name == "magnet":
            config.train.update({"clusters_per_class": 2, "refresh_every": 20})
        if name == "repmet":
            config.network.update({"embedding": (8,), "normalize": True})
            config.representatives.learn_sigma = True
    config.update_from_flattened_dict(fields)
    typed = methods.check(config)
    return methods.build(typed, data), typed


def train(method: Method, config: Any, count: int, steps: int) -> tuple[TrainState, dict[str, np.ndarray]]:
    """As the loop does."""
    devices, metrics, step = chosen(count), [], 0
    state = jax.jit(method.init)(jax.random.key(config.seed))
    data = method.training_data(state.inference_variables())
    assert sharing(method, state, data.index, devices) == devices
    on_devices = placed(data, config.data.device_budget_gb, devices)
    how = how_spread(state)
    state = spread(state, devices)
    with Steps(method, config, on_devices, Progress(steps, stream=io.StringIO()), devices, how) as run_steps:
        while step < steps:
            if method.refresh_every and step % method.refresh_every == 0:
                state = spread(method.refresh(collected(state, devices), data), devices)
            span = method.refresh_every or steps
            goal = min(step // span * span + span, steps)
            state, of_steps = run_steps(state, step, goal, SimpleNamespace(requested=False, polled=False))
            metrics.append(of_steps)
            step = goal
    joined = {name: np.concatenate([part[name] for part in metrics]) for name in metrics[0]}
    return collected(state, devices), joined


def relative_distance(one: TrainState, other: TrainState) -> float:
    """Of parameters and batch statistics, ‖a − b‖ / ‖b‖."""
    ours, theirs = (
        [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves((state.params, state.batch_stats))]
        for state in (one, other)
    )
    apart = sum(np.square(a - b).sum() for a, b in zip(ours, theirs, strict=True))
    return float(np.sqrt(apart / sum(np.square(b).sum() for b in theirs)))


def main(name: str, steps: int, counts: list[int], fields: dict[str, Any]) -> dict[int, dict[str, Any]]:
    method, config = built(name, fields)
    first, of_first = train(method, config, counts[0], steps)
    kinds = sorted({str(leaf.dtype) for leaf in jax.tree.leaves(first.params)})
    found = {}
    for count in counts[1:]:
        state, metrics = train(method, config, count, steps)
        losses = np.abs(metrics["loss"] / of_first["loss"] - 1)
        found[count] = {
            "distance": relative_distance(state, first),
            "losses": [float(apart) for apart in losses[:5]],
            "moved": relative_distance(first, jax.jit(method.init)(jax.random.key(config.seed))),
            "kinds": kinds,
        }
    return found


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[3:] if argument.isdecimal()]
    given = dict(argument.split("=", 1) for argument in sys.argv[3:] if "=" in argument)
    values = {name: _value(text) for name, text in given.items()}
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), numbers, values)))
