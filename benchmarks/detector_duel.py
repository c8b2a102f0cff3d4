"""A detector of ours against torchvision's Faster R-CNN: the same trunk, weights, images and proposals.

What `detector_inference.py` and `detector_step.py` do with `--peer_python=PATH`. Both have the layout of
`fsljax.detection.config.torchvision`, a linear head of 90 classes and 300 proposals an image; images are of
320 × 320 pixels; all is float32. Inference goes from pixels to detections. A step takes all losses, with 512
regions an image, their gradients for all filters and layers and a step of SGD; batch norm stays as it is.
PyTorch's side draws the weights and hands them to ours in a file.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import duel
import numpy as np

TRUNKS = ("resnet50", "mobilenet_v2")
SIZE, PROPOSALS, CLASSES, OBJECTS, REGIONS = 320, 300, 90, 8, 512
IMAGES = {"inference": 4, "step": 2}
CALLS_A_TURN = {"resnet50": 1, "mobilenet_v2": 2}
PEERS = ("nchw", "channels_last")


def photographs(count: int) -> np.ndarray:
    """Float32 `[count, SIZE, SIZE, 3]` in [0, 1], with edges as photographs have them."""
    generator = np.random.default_rng(0)
    coarse = generator.random((count, 20, 20, 3), np.float32)
    return 0.7 * coarse.repeat(SIZE // 20, 1).repeat(SIZE // 20, 2) + 0.3 * generator.random(
        (count, SIZE, SIZE, 3), np.float32
    )


def objects(count: int) -> tuple[np.ndarray, np.ndarray]:
    """True boxes `[count, OBJECTS, 4]`, y before x, and labels from 0."""
    generator = np.random.default_rng(1)
    starts = generator.uniform(0, SIZE - 100, (count, OBJECTS, 2))
    boxes = np.concatenate([starts, starts + generator.uniform(20, 100, starts.shape)], axis=-1)
    return boxes.astype(np.float32), generator.integers(0, CLASSES, (count, OBJECTS)).astype(np.int32)


def run(work: str, peer_python: str, rounds: int) -> None:
    """Times one kind of work with each trunk, and prints a table of each."""
    for trunk in TRUNKS:
        with tempfile.TemporaryDirectory() as folder:
            weights = str(Path(folder) / "weights.safetensors")
            torch = [peer_python, str(Path(__file__).with_name("torchvision_peer.py")), work, trunk, weights]
            this = [sys.executable, str(Path(__file__).absolute()), work, trunk, weights]
            # The first of them writes the weights.
            contestants = duel.run(
                [
                    *(duel.Contestant(f"torchvision {name}", [*torch, name]) for name in PEERS),
                    duel.Contestant("fsljax", this),
                ],
                rounds,
            )
        duel.record(f"detector's {work}, {trunk}, {IMAGES[work]} images", contestants, work)
        ours, best = contestants[-1], duel.best_peer(contestants, work)
        rows = [
            [
                one.name,
                duel.milliseconds(one.median(work)),
                " – ".join(map(duel.milliseconds, one.spread(work))),
                f"{duel.ratio(ours, one, work):.2f}",
                one.about["version"],
            ]
            for one in contestants
        ]
        title = f"{work}, {trunk}, {IMAGES[work]} images"
        duel.print_table([title, "ms", "least – most", "its time / ours", "version"], rows)
        print(f"the best peer: {best.name}")
        if len({one.about.get("found") for one in contestants}) > 1:
            print("They do not find as much: " + ", ".join(f"{one.about['found']}" for one in contestants))
        print(f"ratio {duel.ratio(ours, best, work):.3f}\n", flush=True)


def config_of(trunk: str) -> Any:
    """Torchvision's layout on a trunk."""
    from fsljax.config import config_dict, read
    from fsljax.detection.config import Config
    from fsljax.detection.config.torchvision import as_torchvision

    values = as_torchvision(config_dict(Config()))
    values.network.name = trunk
    values.data.image_size = SIZE
    values.data.fill = "black"  # there is no padding
    values.head.kind = "linear"
    values.proposals.update({"keep": PROPOSALS, "keep_in_test": PROPOSALS, "before_nms": 1000})
    return read(Config, values.to_dict())


def serve(work: str, trunk: str, weights: str) -> None:
    from fsljax.training.host_memory import keep_freed_memory

    keep_freed_memory()
    import jax
    import jax.numpy as jnp
    import optax
    from flax.traverse_util import flatten_dict, unflatten_dict

    from fsljax.detection.data.structures import GroundTruth, ImageBatch
    from fsljax.detection.model.build import build_network
    from fsljax.detection.model.losses import detector_losses
    from fsljax.detection.model.published import detect_batch
    from fsljax.networks import load_weights

    config = config_of(trunk)
    network = build_network(config, CLASSES, in_test=work == "inference")
    images = jnp.asarray(photographs(IMAGES[work]))
    variables = jax.jit(lambda key: network.init(key, images[:1], running_average=True))(jax.random.key(0))
    variables = load_weights(Path(weights), variables)
    version = f"JAX {jax.__version__}, Python {platform.python_version()}, {jax.devices()[0].device_kind}"
    about: dict[str, Any] = {"version": version}
    calls = CALLS_A_TURN[trunk]
    if work == "inference":
        sizes = jnp.full((len(images), 2), float(SIZE))

        def once() -> Any:
            return jax.block_until_ready(detect_batch(network, variables, images, sizes, config.eval))

        about["found"] = int(np.sum(once().valid))
    else:
        boxes, labels = map(jnp.asarray, objects(len(images)))
        truth = GroundTruth(boxes, labels, jnp.ones(labels.shape, bool))
        optimizer = optax.sgd(1e-6, momentum=0.9)
        flat, key = flatten_dict(variables["params"]), jax.random.key(0)
        # Batch norm is frozen with its scales and shifts, as torchvision's is.
        frozen = {place: leaf for place, leaf in flat.items() if place[-1] in ("scale", "shift")}
        learning = {place: leaf for place, leaf in flat.items() if place not in frozen}
        state = (learning, jax.jit(optimizer.init)(learning))

        def advance(state: Any, key: Any) -> tuple[Any, Any]:
            params, moments = state

            def loss_of(params: Any) -> Any:
                stats, batch = variables["batch_stats"], ImageBatch(images, truth)
                whole = unflatten_dict({**frozen, **params})
                return detector_losses(network, whole, stats, None, key, batch, config.loss).loss

            loss, gradients = jax.value_and_grad(loss_of)(params)
            updates, moments = optimizer.update(gradients, moments)
            return (optax.apply_updates(params, updates), moments), loss

        compiled = jax.jit(advance, donate_argnums=0)

        def once() -> Any:
            nonlocal state, key
            key, own = jax.random.split(key)
            state, loss = jax.block_until_ready(compiled(state, own))
            return loss

    for _ in range(2):
        once()
    duel.serve(lambda: {work: duel.seconds(lambda: [once() for _ in range(calls)]) / calls}, about)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peer_python", help="an interpreter with torchvision, against which it is timed")
    parser.add_argument("--rounds", type=int, default=3, help="turns against it")


if __name__ == "__main__":
    serve(*sys.argv[1:])
