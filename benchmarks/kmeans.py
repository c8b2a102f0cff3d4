"""Times k-means against scikit-learn, faiss and ott-jax: same data, same initial centroids, same iterations.

    python benchmarks/kmeans.py

The peers are in the extra [bench]. Each side works in a process of its own, in turns, on all cores; let
nothing else run meanwhile. In the works called "seeded" each side finds its own first centroids, by k-means++
where it has that, once; the seeding is timed.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duel
import numpy as np


@dataclass(frozen=True)
class Work:
    """What is clustered.

    Attributes:
      name: as shown.
      classes: each clustered by itself; 0: all points together.
      points: of each class, or of all.
      dim, k: dimensions, and clusters (a class).
      iterations: of Lloyd at most.
      seeded: each side seeds by itself.
      peers: who takes part.
      worse: share by which our inertia may be above the best peer's.
    """

    name: str
    classes: int
    points: int
    dim: int
    k: int
    iterations: int
    seeded: bool
    peers: tuple[str, ...]
    worse: float


ALL, WITHOUT_FAISS = ("scikit-learn", "faiss", "ott-jax"), ("scikit-learn", "ott-jax")
WORKS = {
    "magnet": Work("102 classes × 60 × 1,024, k = 3", 102, 60, 1024, 3, 20, False, WITHOUT_FAISS, 0.0),
    "middle": Work("50,000 × 64, k = 64", 0, 50_000, 64, 64, 25, False, ALL, 0.0),
    "large": Work("1,000,000 × 64, k = 256", 0, 1_000_000, 64, 256, 10, False, ALL[:2], 0.0),
    "magnet seeded": Work(
        "102 classes × 60 × 1,024, k = 3, seeded", 102, 60, 1024, 3, 20, True, WITHOUT_FAISS, 0.01
    ),
    "middle seeded": Work("50,000 × 64, k = 64, seeded", 0, 50_000, 64, 64, 25, True, ALL, 0.005),
}


def make_points(work: Work) -> np.ndarray:
    """Overlapping groups, float32 `[classes · points, dim]`."""
    generator = np.random.default_rng(0)
    groups = 2 * work.k
    parts = []
    for _ in range(max(work.classes, 1)):
        centres = generator.normal(size=(groups, work.dim)).astype(np.float32)
        noise = generator.normal(size=(work.points, work.dim), scale=1.5).astype(np.float32)
        parts.append(centres[generator.integers(groups, size=work.points)] + noise)
    return np.concatenate(parts)


def first_centroids(work: Work, points: np.ndarray) -> np.ndarray:
    """`[k, dim]`, or `[classes, k, dim]`: points of each class."""
    by_class = points.reshape(max(work.classes, 1), work.points, work.dim)
    chosen = np.random.default_rng(1).choice(work.points, work.k, replace=False)
    return by_class[:, chosen] if work.classes else by_class[0, chosen]


def inertia(points: np.ndarray, centroids: np.ndarray) -> float:
    """Sum of squared distances to the nearest centroid, in float64."""
    centroids = np.asarray(centroids, np.float64)
    total = 0.0
    for start in range(0, len(points), 20_000):
        part = np.asarray(points[start : start + 20_000], np.float64)
        squares = (part**2).sum(1)[:, None] + (centroids**2).sum(1) - 2 * part @ centroids.T
        total += float(squares.min(1).sum())
    return total


Fit = Callable[[int], Any]


def ours(work: Work, points: np.ndarray, initial: np.ndarray | None) -> Fit:
    import jax

    from fsljax.clustering import kmeans, kmeans_per_class

    given = jax.device_put(points)
    labels = np.repeat(np.arange(work.classes), work.points)
    first = None if initial is None else jax.device_put(initial)
    options = {"max_iterations": work.iterations, "tolerance": 0.0, "initial_centroids": first}

    def fit(turn: int) -> Any:
        if work.classes:
            result = kmeans_per_class(
                jax.random.key(turn), given, labels,
                num_classes=work.classes, clusters_per_class=work.k, **options,
            )  # fmt: skip
        else:
            result = kmeans(jax.random.key(turn), given, work.k, **options)
        return jax.block_until_ready(result.centroids)

    return fit


def scikit_learn(work: Work, points: np.ndarray, initial: np.ndarray | None) -> Fit:
    from sklearn.cluster import KMeans

    def fit_one(turn: int, part: np.ndarray, first: np.ndarray | None) -> np.ndarray:
        return (
            KMeans(
                work.k, init="k-means++" if first is None else first, n_init=1,
                max_iter=work.iterations, tol=0.0, random_state=turn, algorithm="lloyd",
            )
            .fit(part)
            .cluster_centers_
        )  # fmt: skip

    def fit(turn: int) -> Any:
        if not work.classes:
            return fit_one(turn, points, initial)
        parts = points.reshape(work.classes, work.points, work.dim)
        return [fit_one(turn, part, None if initial is None else initial[c]) for c, part in enumerate(parts)]

    return fit


def faiss(work: Work, points: np.ndarray, initial: np.ndarray | None) -> Fit:
    import faiss

    seeding = {}
    if work.seeded and hasattr(faiss, "ClusteringInitMethod_KMEANS_PLUS_PLUS"):
        seeding["init_method"] = faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS

    def fit(turn: int) -> Any:
        clustering = faiss.Kmeans(
            work.dim,
            work.k,
            niter=work.iterations,
            seed=turn,
            max_points_per_centroid=len(points),
            **seeding,
        )
        clustering.train(points, init_centroids=initial)
        return clustering.centroids

    return fit


def ott_jax(work: Work, points: np.ndarray, initial: np.ndarray | None) -> Fit:
    import jax
    from ott.geometry import pointcloud
    from ott.tools.k_means import k_means

    def fit_one(key: jax.Array, part: jax.Array, first: jax.Array | None) -> jax.Array:
        return k_means(
            pointcloud.PointCloud(part), work.k,
            init="k-means++" if first is None else (lambda geom, k, rng: first),
            n_init=1, tol=0.0, max_iterations=work.iterations, rng=key,
        ).centroids  # fmt: skip

    if work.classes:
        parts = jax.device_put(points.reshape(work.classes, work.points, work.dim))
        axis = None if initial is None else 0
        every = jax.jit(jax.vmap(fit_one, in_axes=(0, 0, axis)))
        return lambda turn: jax.block_until_ready(
            every(jax.random.split(jax.random.key(turn), work.classes), parts, initial)
        )
    given = jax.device_put(points)
    compiled = jax.jit(fit_one)
    return lambda turn: jax.block_until_ready(compiled(jax.random.key(turn), given, initial))


SIDES = {"fsljax": ours, "scikit-learn": scikit_learn, "faiss": faiss, "ott-jax": ott_jax}


def serve(side: str, work: Work) -> None:
    """Fits whenever asked; tells seconds, inertia and the memory taken above the points."""
    points = make_points(work)
    initial = None if work.seeded else first_centroids(work, points)
    if side == "fsljax":
        import jax

        points = np.asarray(jax.device_put(points))  # one copy: it and the device's are the same memory
    fit = SIDES[side](work, points, initial)
    fit(0)
    turn = 0

    def measure() -> dict[str, float]:
        nonlocal turn
        turn += 1
        before = reset_peak()
        found: Any = None

        def run() -> None:
            nonlocal found
            found = fit(turn)

        seconds = duel.seconds(run)
        extra = max(peak() - before, 0.0)
        parts = points.reshape(max(work.classes, 1), -1, work.dim)
        centroids = [found] if not work.classes else found
        total = sum(inertia(part, one) for part, one in zip(parts, centroids, strict=True))
        return {"seconds": seconds, "inertia": total, "megabytes": extra}

    duel.serve(measure, {"version": f"Python {platform.python_version()}"})


def reset_peak() -> float:
    """Forgets the peak of memory; returns what is resident now, in MB."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return peak()
    return _status("VmRSS")


def peak() -> float:
    """The most memory that was resident, in MB."""
    return _status("VmHWM")


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1000
    return float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--works", nargs="*", choices=WORKS, default=list(WORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        side, name = arguments.serve
        serve(side, WORKS[name])
        return
    ratios = []
    for name in arguments.works:
        work = WORKS[name]
        here = str(Path(__file__).absolute())
        contestants = duel.run(
            [
                duel.Contestant(side, [sys.executable, here, "--serve", side, name])
                for side in ("fsljax", *work.peers)
            ],
            arguments.rounds,
        )
        duel.record(f"k-means, {work.name}", contestants, "seconds")
        mine = contestants[0]
        rows = [
            [
                one.name,
                f"{1000 * one.median('seconds'):,.1f}",
                f"{duel.ratio(mine, one, 'seconds'):.2f}",
                f"{one.median('inertia'):.7g}",
                f"{one.median('megabytes'):,.0f}",
            ]
            for one in contestants
        ]
        print()
        duel.print_table([work.name, "ms", "its time / ours", "inertia", "MB above the data"], rows)
        best = duel.best_peer(contestants, "seconds")
        lowest = min(one.median("inertia") for one in contestants[1:])
        share = mine.median("inertia") / lowest - 1
        print(f"our inertia is {100 * share:+.4f} % of the lowest; allowed {100 * work.worse:+.1f} %")
        print(f"{name}: best peer {best.name}, its time / ours {duel.ratio(mine, best, 'seconds'):.2f}")
        ratios.append(duel.ratio(mine, best, "seconds"))
    print(f"ratio {min(ratios):.3f}")


if __name__ == "__main__":
    main()
