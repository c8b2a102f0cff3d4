"""Our side of `on_gpu.sh`: each call serves the figures of one piece of work, see `duel.serve`.

python benchmarks/gpu_ours.py WORK
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest import mock

import duel
import step_duel

if TYPE_CHECKING:
    from fsljax.training.method import Method
    from fsljax.training.state import TrainState

DISPATCHES = 2  # of many steps, a turn; as many steps are dispatched one by one
BATCH = 48  # of the networks whose gradient is taken in two precisions
SIZES = {"conv4": 28, "resnet18": 64, "mobilenet_v2": 224}
EMBEDDED, EMBEDDED_AT_ONCE, LARGE_SIZE = 2048, 512, 224
REPEATED = 20
DETECTED, WAY = 8, 5


def steps(work: str) -> None:
    """Of a method: as training dispatches them on accelerators, and one by one."""
    if work == "detector":
        import detector_step

        serve_steps(*detector_step.made(), 1)
        return
    import magnet_step
    import repmet_step
    import train_step

    serve = {
        "prototypical": partial(train_step.serve_ours, "auto"),
        "magnet": magnet_step.serve_ours,
        "repmet": repmet_step.serve_ours,
    }[work]
    # These benchmarks serve one way of dispatching; here it is two.
    with mock.patch.object(step_duel, "serve_steps", serve_steps):
        serve()


def serve_steps(method: Method, state: TrainState, data: Any, count: int, *_: object) -> None:
    import jax

    from fsljax.config import Train
    from fsljax.training import devices
    from fsljax.training.steps import on_device

    at_once = Train().steps_per_dispatch
    advance = {number: devices.compile_steps(on_device(method), number) for number in (at_once, 1)}
    total = at_once * DISPATCHES * count

    def run(number: int, goal: int) -> None:
        nonlocal state
        for _ in range(goal // number):
            state, _ = advance[number](state, data)
        jax.block_until_ready(state)

    run(at_once, at_once)
    run(1, 2)

    def measure() -> dict[str, float]:
        return {
            f"a step, {at_once} a call": duel.seconds(lambda: run(at_once, total)) / total,
            "a step, 1 a call": duel.seconds(lambda: run(1, total)) / total,
        }

    serve(measure)


def embedding(work: str) -> None:
    """Images a second: by the network alone, on the device, and as methods embed, from the host."""
    import jax
    import numpy as np

    from fsljax import methods
    from fsljax.classification.embedder import build_embedder
    from fsljax.methods import protonet, repmet

    small = work == "conv4"
    side, channels = (SIZES[work], 1) if small else (LARGE_SIZE, 3)
    given = (protonet if small else repmet).default_config()
    given.network.name = work
    given.data.update({"image_size": side, "channels": channels})
    config = methods.check(given)
    embedder = build_embedder(config, (side, side, channels))
    variables = jax.jit(embedder.init)(jax.random.key(0)).inference_variables()
    count = EMBEDDED * (16 if small else 1)
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, channels), np.uint8)
    batches = jax.device_put(np.split(images, count // EMBEDDED_AT_ONCE))

    @jax.jit
    def embed(images: jax.Array) -> Any:
        return embedder.network.apply(variables, images.astype(jax.numpy.float32) / 255, running_average=True)

    def alone() -> None:
        jax.block_until_ready([embed(batch) for batch in batches])

    def whole() -> None:
        embedder.embed(variables, images)

    def measure() -> dict[str, float]:
        return {
            "images a second, network alone": count / duel.seconds(alone),
            "images a second, from the host": count / duel.seconds(whole),
        }

    measure()
    serve(measure)


def gradient(work: str) -> None:
    """Forward and backward, in float32 and with parameters and images cast to bfloat16 within the loss."""
    import jax
    import jax.numpy as jnp

    from fsljax import methods, networks
    from fsljax.methods import repmet

    config = repmet.default_config()
    config.network.name = work
    side, channels = SIZES[work], 1 if work == "conv4" else 3
    config.data.update({"image_size": side, "channels": channels})
    network = networks.build(methods.check(config))
    images = jax.random.uniform(jax.random.key(1), (360 if work == "conv4" else BATCH, side, side, channels))
    variables = jax.jit(partial(network.init, running_average=True))(jax.random.key(0), images)
    params, batch_stats = variables["params"], variables["batch_stats"]

    def loss_of(params: Any, images: jax.Array, kind: Any) -> jax.Array:
        cast = partial(jax.tree.map, lambda values: values.astype(kind))
        embeddings, _ = network.apply(
            {"params": cast(params), "batch_stats": batch_stats},
            images.astype(kind),
            running_average=False,
            mutable=["batch_stats"],
        )
        return jnp.mean(jnp.square(embeddings.astype(jnp.float32) - 1))

    @partial(jax.jit, static_argnames="kind")
    def learn(params: Any, images: jax.Array, kind: Any) -> Any:
        def move(params: Any, _: None) -> tuple[Any, jax.Array]:
            loss, gradients = jax.value_and_grad(loss_of)(params, images, kind)
            return jax.tree.map(lambda value, slope: value - 1e-6 * slope, params, gradients), loss

        return jax.lax.scan(move, params, length=REPEATED)

    def measure() -> dict[str, float]:
        return {
            kind.__name__: duel.seconds(lambda kind=kind: jax.block_until_ready(learn(params, images, kind)))
            / REPEATED
            for kind in (jnp.float32, jnp.bfloat16)
        }

    measure()
    serve(measure)


def detection(work: str) -> None:
    """Of the shipped detector of scenes: a batch from uint8 images to detections of five classes."""
    import jax
    import jax.numpy as jnp
    from detector_inference import MODEL

    from fsljax.detection.model import stored
    from fsljax.detection.model.inference import Suppression, detections, propose_regions
    from fsljax.detection.model.roi_head import repmet_scores

    detector = stored.load(MODEL)
    config, variables = detector.config, detector.variables
    network_alone = jax.device_put(detector.network_variables)
    enrolled = variables["params"]["representatives"][:WAY]
    side = config.data.image_size
    # Smooth spots instead of characters: but for rounds of NMS, the work does not hang on what is seen.
    coarse = jax.random.uniform(jax.random.key(0), (DETECTED, 12, 12, 1))
    images = jnp.round(255 * jax.image.resize(coarse, (DETECTED, side, side, 1), "cubic").clip(0, 1))
    images = images.astype(jnp.uint8)

    @jax.jit
    def detect(images: jax.Array) -> object:
        regions = propose_regions(detector.network, network_alone, images.astype(jnp.float32) / 255)
        scores = repmet_scores(regions.embeddings, enrolled, config.loss.sigma, config.loss.scale)
        suppress = partial(detections, suppression=Suppression(iou_threshold=0.3, keep=100))
        return jax.vmap(suppress)(regions.boxes, regions.valid, scores)

    def several() -> None:
        for _ in range(REPEATED):
            jax.block_until_ready(detect(images))

    several()
    serve(lambda: {"a batch": duel.seconds(several) / REPEATED})


def serve(measure: Callable[[], dict[str, float]]) -> None:
    import jax

    duel.serve(measure, {"version": f"JAX {jax.__version__}, {jax.devices()[0].device_kind}"})


if __name__ == "__main__":
    from fsljax.training.host_memory import keep_freed_memory

    keep_freed_memory()
    kind, _, work = sys.argv[1].partition(":")
    {"steps": steps, "embedding": embedding, "gradient": gradient, "detection": detection}[kind](work)
