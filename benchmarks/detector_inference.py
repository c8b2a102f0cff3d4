"""Times the shipped detector of scenes, and what of its time goes into RoIAlign and NMS.

    python benchmarks/detector_inference.py

Batches of 8 scenes of 128 × 128 pixels, from uint8 images to detections of five enrolled classes, float32.
RoIAlign and both suppressions are timed by themselves as well, on what they get within. Let nothing else run
meanwhile.

    python benchmarks/detector_inference.py --peer_python=PATH

times a larger one instead, in turns with torchvision's Faster R-CNN: see `detector_duel.py`.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import detector_duel
import duel
import jax
import jax.numpy as jnp

from fsljax.detection.data.scenes.composition import draw_scenes
from fsljax.detection.data.scenes.drawings import load as load_drawings
from fsljax.detection.model import stored
from fsljax.detection.model.inference import Suppression, detections, propose_regions
from fsljax.detection.model.roi_head import repmet_scores
from fsljax.detection.ops.nms import nms
from fsljax.detection.ops.roi_align import roi_align
from fsljax.training.host_memory import keep_freed_memory

BATCH, WAY = 8, 5
TURNS, CALLS_A_TURN = 9, 10
MODEL = duel.ROOT / "models" / "repmet_detection_scenes"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    detector_duel.add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.peer_python:
        detector_duel.run("inference", arguments.peer_python, arguments.rounds)
        return
    keep_freed_memory()
    detector = stored.load(Path(MODEL))
    config, network, network_alone = detector.config, detector.network, detector.network_variables
    suppression = Suppression(iou_threshold=0.3, keep=100)
    drawings = load_drawings("glyphs").novel
    scenes = draw_scenes(
        jax.random.split(jax.random.key(0), BATCH), drawings, jnp.arange(WAY), clutter=drawings
    )
    images = jnp.round(255 * scenes.image).astype(jnp.uint8)
    enrolled = detector.variables["params"]["representatives"][:WAY]

    @jax.jit
    def detect(images: jax.Array) -> object:
        regions = propose_regions(network, network_alone, images.astype(jnp.float32) / 255)
        scores = repmet_scores(regions.embeddings, enrolled, config.loss.sigma, config.loss.scale)
        suppress = partial(detections, suppression=suppression)
        return jax.vmap(suppress)(regions.boxes, regions.valid, scores)

    levels = jax.jit(partial(network.apply, method="trunk"))(network_alone, images / 255.0)
    outputs = network.apply(network_alone, levels, method="proposal_outputs")
    options, strides = network.options, network.backbone.stage_strides()
    regions = propose_regions(network, network_alone, images / 255.0)
    kept, before = options.proposals.keep, options.proposals.before_nms * len(levels)
    boxes = jnp.concatenate([jnp.asarray(anchors) for anchors in outputs.anchors])[:before]
    boxes = jnp.broadcast_to(boxes, (BATCH, *boxes.shape)) + 0.01
    random = jax.random.uniform(jax.random.key(1), boxes.shape[:2])
    pairs = jnp.tile(regions.boxes, (1, WAY, 1)), jnp.tile(regions.objectness, (1, WAY))

    @jax.jit
    def align(levels: list[jax.Array], boxes: jax.Array) -> jax.Array:
        pool = partial(
            roi_align,
            strides=strides,
            output_size=options.rois.output_size,
            samples=options.rois.samples,
            canonical_size=options.rois.canonical_size,
            canonical_level=options.rois.canonical_level,
        )
        return jax.vmap(pool)(levels, boxes)

    @jax.jit
    def suppress(boxes: jax.Array, scores: jax.Array, pairs: tuple[jax.Array, jax.Array]) -> object:
        first = jax.vmap(partial(nms, iou_threshold=options.proposals.iou_threshold, keep=kept))
        return first(boxes, scores), jax.vmap(partial(nms, iou_threshold=0.3, keep=100))(*pairs)

    calls: dict[str, Callable[[], object]] = {
        "detection": lambda: detect(images),
        "RoIAlign": lambda: align(levels, regions.boxes),
        "NMS, both": lambda: suppress(boxes, random, pairs),
    }
    for call in calls.values():
        jax.block_until_ready(call())
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(TURNS):
        for name, call in calls.items():
            turn = duel.seconds(partial(_several, call))
            times[name].append(turn / CALLS_A_TURN)
    whole = statistics.median(times["detection"])
    rows = [
        [
            name,
            duel.milliseconds(statistics.median(seconds)),
            f"{duel.milliseconds(min(seconds))} – {duel.milliseconds(max(seconds))}",
            f"{100 * statistics.median(seconds) / whole:.0f}",
        ]
        for name, seconds in times.items()
    ]
    duel.print_table([f"{BATCH} images", "ms", "least – most", "% of all"], rows)
    print(f"{BATCH / whole:.0f} images a second, {jax.devices()[0].device_kind}, JAX {jax.__version__}")


def _several(call: Callable[[], object]) -> None:
    for _ in range(CALLS_A_TURN):
        jax.block_until_ready(call())


if __name__ == "__main__":
    main()
