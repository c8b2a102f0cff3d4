"""Work outside of training steps that devices share, of one process or several.

python divided_work.py PORT PROCESSES PROCESS RESULTS
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def main(port: str, processes: int, process: int, results: Path) -> None:
    if processes > 1:
        jax.distributed.initialize(f"localhost:{port}", processes, process)
    else:
        jax.config.update("jax_num_cpu_devices", 2)

    from fsljax.parallel import agreement

    # The first of what processes do together must begin in all within half a minute.
    assert agreement.any_of(process > 0) == (processes > 1)

    from fsljax.classification.embedder import build_embedder
    from fsljax.clustering import kmeans, kmeans_per_class
    from fsljax.config import Augmentation
    from fsljax.data.dataset import ImageDataset
    from fsljax.data.samplers.episodes import Episodes
    from fsljax.evaluation.episodic import episode_accuracies
    from fsljax.methods import softmax
    from fsljax.parallel.devices import chosen

    devices = chosen(2)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (150, 16, 16, 1), np.uint8)
    config = softmax.Config()
    config = dataclasses.replace(
        config,
        network=dataclasses.replace(config.network, filters=4),
        mesh=dataclasses.replace(config.mesh, devices=2),
    )
    found: dict[str, np.ndarray] = {}
    embedder = build_embedder(config, (16, 16, 1))
    variables = jax.jit(embedder.init)(jax.random.key(0)).inference_variables()
    found["embedded"] = embedder.embed(variables, images)
    found["as_in_training"] = embedder.embed_as_in_training(variables, images, jax.random.key(1))
    frozen = dataclasses.replace(
        config,
        network=dataclasses.replace(config.network, trainable="head", views=2),
        augment=Augmentation(rotation=10.0),
    )
    part = ImageDataset(images, np.zeros(150, np.int32), ["one"])
    embedder = build_embedder(frozen, (16, 16, 1))
    variables = jax.jit(embedder.init)(jax.random.key(0)).inference_variables()
    for name in ("features", "features_again"):  # the second time one of the caches has lost them
        found[name] = embedder.inputs(variables, part, training=True)
        if process == 0:
            entry = next((Path(os.environ["XDG_CACHE_HOME"]) / "fsljax").glob("features-*"))
            entry.rename(results.with_suffix(f".{name}"))
    labels = np.arange(150, dtype=np.int32) % 5
    found["clusters"], found["clusters_of"], *_ = kmeans_per_class(
        jax.random.key(0), found["embedded"], labels, num_classes=5, clusters_per_class=3, devices=devices
    )
    chosen_rows = np.stack([5 * generator.permutation(30)[:6] + np.arange(5)[:, None] for _ in range(20)])
    episodes = Episodes(np.zeros((20, 5), np.int32), chosen_rows)
    found["accuracies"] = episode_accuracies(found["embedded"], episodes, shot=1, devices=devices)
    mesh = Mesh(np.array(devices.every), ("rows",))
    rows = NamedSharding(mesh, PartitionSpec("rows"))
    blobs = (4 * generator.normal(size=(6, 1, 8)) + generator.normal(size=(6, 50, 8))).astype(np.float32)
    for name, scale in (("divided", 1.0), ("tiny", 1e-20)):
        values = (blobs.reshape(300, 8) * scale).astype(np.float32)
        points = jax.make_array_from_callback(values.shape, rows, lambda index: values[index])  # noqa: B023
        clusters = kmeans(jax.random.key(2), points, 6, num_restarts=2, mask=np.arange(300) > 10)
        found[name], own, found[f"{name}_counts"], found[f"{name}_inertia"], _ = clusters
        found[f"{name}_of"] = devices.over_rows(lambda _, rows: rows)((), own)
    np.savez(results, **{name: np.asarray(values) for name, values in found.items()})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
