"""Times NMS and RoIAlign against NumPy and PyTorch, written plainly.

    python benchmarks/detection_ops.py --peer_python=PATH

PATH is an interpreter with PyTorch, this one by default. NMS keeps 300 of 2,000 boxes at IoU 0.7. RoIAlign
takes 512 boxes × 7 × 7 bins × 256 channels, 2 × 2 points a bin, from the four levels of an image of
800 × 1,024 pixels; its gradient is that of the levels. All in float32, on one image. PyTorch gathers
the four neighbours of each point, or asks `grid_sample` for the points. They take turns in one run; let
nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
from functools import partial
from pathlib import Path

import duel
import numpy as np

BOXES, KEEP, IOU = 2000, 300, 0.7
ROIS, BINS, SAMPLES, CHANNELS = 512, 7, 2, 256
HEIGHT, WIDTH, STRIDES = 800, 1024, (4, 8, 16, 32)
CANONICAL_SIZE, CANONICAL_LEVEL = 224.0, 2
FIGURES = {
    "nms": "NMS, 2,000 boxes → 300",
    "roi_align": "RoIAlign, 512 regions × 7 × 7 × 256, 4 levels",
    "gradient": "RoIAlign's gradient",
}
NMS_A_TURN = 10
PEERS = ("gather", "grid_sample", f"gather, {duel.TUNED}", f"grid_sample, {duel.TUNED}")


def crowd() -> tuple[np.ndarray, np.ndarray]:
    """Boxes `[2000, 4]` in groups of about eight, as proposals lie, and their scores."""
    generator = np.random.default_rng(0)
    centres = generator.uniform(0, HEIGHT, (BOXES // 8, 2))
    sides = np.exp(generator.uniform(math.log(10), math.log(200), (BOXES // 8, 2)))
    group = generator.integers(0, len(centres), BOXES)
    middle = centres[group] + generator.normal(size=(BOXES, 2)) * 0.15 * sides[group]
    half = 0.5 * sides[group] * np.exp(generator.normal(size=(BOXES, 2)) * 0.15)
    return np.float32(np.concatenate([middle - half, middle + half], axis=1)), np.float32(
        generator.random(BOXES)
    )


def pyramid() -> tuple[list[np.ndarray], np.ndarray]:
    """Levels `[height_l, width_l, channels]`, and RoIs `[512, 4]` of all sizes within the image."""
    generator = np.random.default_rng(1)
    shapes = [(HEIGHT // stride, WIDTH // stride, CHANNELS) for stride in STRIDES]
    levels = [generator.standard_normal(shape, np.float32) for shape in shapes]
    sides = np.exp(generator.uniform(math.log(8), math.log(0.9 * HEIGHT), (ROIS, 2)))
    starts = generator.random((ROIS, 2)) * (np.array([HEIGHT, WIDTH]) - sides)
    return levels, np.float32(np.concatenate([starts, starts + sides], axis=1))


def grids(boxes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each level, which boxes are its own, and the rows and columns `[own, 14]` of their points."""
    sides = boxes[:, 2:] - boxes[:, :2]
    level = np.floor(CANONICAL_LEVEL + np.log2(np.sqrt(sides.prod(axis=1)) / CANONICAL_SIZE))
    level = np.clip(level, 0, len(STRIDES) - 1).astype(int)
    steps = (np.arange(BINS * SAMPLES) + 0.5) / (BINS * SAMPLES)
    points = [
        (boxes[:, [axis]] + steps * sides[:, [axis]]) / np.array(STRIDES)[level, None] - 0.5
        for axis in (0, 1)
    ]
    own = [np.flatnonzero(level == at) for at in range(len(STRIDES))]
    return [(of, points[0][of].astype(np.float32), points[1][of].astype(np.float32)) for of in own]


def numpy_nms(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left, kept = np.argsort(-scores, kind="stable"), []
    while len(left) and len(kept) < KEEP:
        best, left = left[0], left[1:]
        kept.append(int(best))
        sides = np.minimum(boxes[best, 2:], boxes[left, 2:]) - np.maximum(boxes[best, :2], boxes[left, :2])
        shared = np.maximum(sides, 0).prod(axis=1)
        left = left[shared <= IOU * (areas[best] + areas[left] - shared)]
    return kept


def numpy_roi_align(levels: list[np.ndarray], boxes: np.ndarray) -> np.ndarray:
    features = np.zeros((len(boxes), BINS, BINS, CHANNELS), np.float32)
    for level, (own, y, x) in zip(levels, grids(boxes), strict=True):
        height, width, _ = level.shape
        y, x = np.clip(y, 0, height - 1)[:, :, None], np.clip(x, 0, width - 1)[:, None]
        top, left = np.minimum(y.astype(int), height - 2), np.minimum(x.astype(int), width - 2)
        below, right = (y - top)[..., None], (x - left)[..., None]
        points = (
            level[top, left] * ((1 - below) * (1 - right))
            + level[top, left + 1] * ((1 - below) * right)
            + level[top + 1, left] * (below * (1 - right))
            + level[top + 1, left + 1] * (below * right)
        )
        features[own] = points.reshape(-1, BINS, SAMPLES, BINS, SAMPLES, CHANNELS).mean(axis=(2, 4))
    return features


def checksums(kept: np.ndarray, features: np.ndarray) -> dict[str, float]:
    """By which the programs show that they do the same work."""
    return {"kept": float(np.sum(kept)), "features": float(np.abs(features).mean(dtype=np.float64))}


def serve_ours() -> None:
    import jax
    import jax.numpy as jnp

    from fsljax.detection.ops.nms import nms
    from fsljax.detection.ops.roi_align import roi_align
    from fsljax.training.host_memory import keep_freed_memory

    keep_freed_memory()
    boxes, scores, levels, rois = jax.device_put((*crowd(), *pyramid()))
    suppress = jax.jit(partial(nms, iou_threshold=IOU, keep=KEEP))
    features_of = partial(
        roi_align,
        strides=STRIDES,
        output_size=BINS,
        samples=SAMPLES,
        canonical_size=CANONICAL_SIZE,
        canonical_level=CANONICAL_LEVEL,
    )
    align = jax.jit(features_of)
    outer = jnp.ones((ROIS, BINS, BINS, CHANNELS))
    gradient = jax.jit(lambda of, weights: jax.vjp(lambda x: features_of(x, rois), of)[1](weights))

    def suppressions() -> None:
        for _ in range(NMS_A_TURN):
            jax.block_until_ready(suppress(boxes, scores))

    def measure() -> dict[str, float]:
        return {
            "nms": duel.seconds(suppressions) / NMS_A_TURN,
            "roi_align": duel.seconds(lambda: jax.block_until_ready(align(levels, rois))),
            "gradient": duel.seconds(lambda: jax.block_until_ready(gradient(levels, outer))),
        }

    measure()
    sums = checksums(np.asarray(suppress(boxes, scores).indices), np.asarray(align(levels, rois)))
    duel.serve(measure, {"version": f"JAX {jax.__version__}, Python {platform.python_version()}"} | sums)


def serve_numpy() -> None:
    boxes, scores = crowd()
    levels, rois = pyramid()

    def measure() -> dict[str, float]:
        return {
            "nms": duel.seconds(lambda: numpy_nms(boxes, scores)),
            "roi_align": duel.seconds(lambda: numpy_roi_align(levels, rois)),
        }

    sums = checksums(np.array(numpy_nms(boxes, scores)), numpy_roi_align(levels, rois))
    duel.serve(measure, {"version": f"NumPy {np.__version__}, Python {platform.python_version()}"} | sums)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--peer_python", default=sys.executable, help="an interpreter with PyTorch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", choices=["ours", "numpy"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        {"ours": serve_ours, "numpy": serve_numpy}[arguments.serve]()
        return
    here = [sys.executable, str(Path(__file__).absolute())]
    torch = [arguments.peer_python, str(Path(__file__).with_name("torch_peer.py")), "detection_ops"]
    contestants = duel.run(
        [
            duel.Contestant("fsljax", [*here, "--serve=ours"]),
            duel.Contestant("NumPy", [*here, "--serve=numpy"]),
            *(duel.Contestant(f"PyTorch {name}", [*torch, name]) for name in PEERS),
        ],
        arguments.rounds,
    )
    ours, peers = contestants[0], contestants[1:]
    for peer in peers:
        for figure in ("kept", "features"):
            if not math.isclose(peer.about[figure], ours.about[figure], rel_tol=1e-4):
                sys.exit(f"{peer.name} gives {figure} {peer.about[figure]}, fsljax {ours.about[figure]}.")
    for figure, title in FIGURES.items():
        duel.record(title, contestants, figure)
        able = [one for one in contestants if figure in one.rounds[0]]
        rows = [
            [
                one.name,
                f"{1000 * one.median(figure):.2f}",
                " – ".join(f"{1000 * seconds:.2f}" for seconds in one.spread(figure)),
                f"{duel.ratio(ours, one, figure):.2f}",
                one.about["version"],
            ]
            for one in able
        ]
        duel.print_table([title, "ms", "least – most", "its time / ours", "version"], rows)
        best = duel.best_peer(able, figure)
        print(f"ratio {figure} {duel.ratio(ours, best, figure):.3f} (to {best.name})\n")


if __name__ == "__main__":
    main()
