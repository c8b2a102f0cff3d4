"""Times Magnet's refresh: every training image embedded, every class clustered.

    python benchmarks/magnet_refresh.py [--config=configs/magnet_hierarchy.py:tiny_imagenet_2_12_4]

The images are those of the config, from TFDS_DATA_DIR; let nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import runpy
import statistics
from pathlib import Path
from typing import Any

import duel

CONFIG = f"{Path(__file__).parents[1]}/configs/magnet_hierarchy.py:tiny_imagenet_2_12_4"
STEPS = 20


def read_config(given: str) -> Any:
    path, *arguments = given.split(":")
    return runpy.run_path(path)["get_config"](*arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--config", default=CONFIG)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    import jax

    from fsljax import methods
    from fsljax.classification.closed_set import find_clusters
    from fsljax.classification.embedder import Part
    from fsljax.training import devices, steps
    from fsljax.training.host_memory import keep_freed_memory

    keep_freed_memory()
    config = methods.check(read_config(arguments.config))
    method: Any = methods.build(config, methods.load(config))
    state = jax.jit(method.init)(jax.random.key(0))
    variables = state.inference_variables()
    given = steps.placed(method.training_data(variables), config.data.device_budget_gb)
    part = method.task.training_part
    step = devices.compile_steps(steps.on_device(method), 1)
    embeddings: Any = None

    def embed() -> None:
        nonlocal embeddings
        embeddings = method.task.embedder.embed(state.inference_variables(), given.inputs)

    def cluster() -> None:
        clusters = config.train.clusters_per_class
        jax.block_until_ready(find_clusters(jax.random.key(1), Part(part, embeddings), clusters))

    def train() -> None:
        nonlocal state
        for _ in range(STEPS):
            state, _ = step(state, given)
        jax.block_until_ready(state)

    for work in (embed, cluster):
        work()  # compiles
    state = method.refresh(state, given)
    train()
    seconds = {
        work.__name__: statistics.median(duel.seconds(work) for _ in range(arguments.rounds))
        for work in (embed, cluster, train)
    }
    refresh, one_step = seconds["embed"] + seconds["cluster"], seconds["train"] / STEPS
    for name, value in (
        ("embedding", seconds["embed"]),
        ("clustering", seconds["cluster"]),
        ("step", one_step),
    ):
        duel.record_alone(f"Magnet's refresh of {len(part):,} images, {name}", [value])
    share = refresh / (refresh + config.train.refresh_every * one_step)
    print(
        f"{len(part):,} images of {part.num_classes} classes, {config.train.clusters_per_class} clusters each"
    )
    print(f"embedding   {seconds['embed']:.2f} s, {len(part) / seconds['embed']:,.0f} images/s")
    print(f"clustering  {seconds['cluster']:.2f} s")
    print(f"step        {1000 * one_step:.1f} ms")
    print(f"refreshed every {config.train.refresh_every} steps: {100 * share:.0f} % of the time of training")


if __name__ == "__main__":
    main()
