"""Times evaluation against PyTorch: images embedded a second, and 20-way 5-shot episodes end to end.

    python benchmarks/evaluate.py --peer_python=PATH

PATH is an interpreter with PyTorch, this one by default. Each side embeds as many images as Omniglot has for
testing, with batch norm folded into the filters, then draws episodes from the embeddings and measures their
accuracy. They take turns in one run; let nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duel

WAY, SHOT, QUERIES, EPISODES = 20, 5, 15, 10_000
CLASSES, IMAGES_A_CLASS, SIZE = 1692, 20, 28
PEERS = (
    "channels_last",
    "channels_last compiled",
    "channels_last in batches of 512",
    f"channels_last, {duel.TUNED}",
)


def serve_ours() -> None:
    import jax
    import numpy as np

    from fsljax import methods
    from fsljax.classification.episodes import sample
    from fsljax.data.dataset import ImageDataset, Splits
    from fsljax.evaluation import episodic
    from fsljax.methods import protonet
    from fsljax.training.host_memory import keep_freed_memory

    keep_freed_memory()
    images = np.random.default_rng(0).integers(0, 256, (CLASSES * IMAGES_A_CLASS, SIZE, SIZE, 1), np.uint8)
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), IMAGES_A_CLASS)
    part = ImageDataset(images, labels, tuple(map(str, range(CLASSES))))
    method = methods.build(protonet.Config(), Splits(part, part, part))
    variables = jax.jit(method.init)(jax.random.key(0)).inference_variables()
    setting = episodic.Setting(WAY, SHOT, QUERIES)

    def embed() -> np.ndarray:
        return method.embedder.embed(variables, images)

    def accuracies(embeddings: np.ndarray) -> np.ndarray:
        episodes = sample(jax.random.key(0), part, setting, EPISODES)
        return episodic.episode_accuracies(embeddings, episodes, shot=SHOT)

    measure_and_serve(embed, accuracies, f"JAX {jax.__version__}")


def measure_and_serve(embed: Callable[[], Any], accuracies: Callable[[Any], Any], library: str) -> None:
    """Times embedding, and embedding with the episodes after it."""

    def measure() -> dict[str, float]:
        began = time.perf_counter()
        embeddings = embed()
        embedded = time.perf_counter()
        accuracies(embeddings)
        return {"embedding": embedded - began, "end to end": time.perf_counter() - began}

    measure()
    duel.serve(measure, {"version": f"{library}, Python {platform.python_version()}"})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--peer_python", default=sys.executable, help="an interpreter with PyTorch")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve_ours()
        return
    torch = [arguments.peer_python, str(Path(__file__).with_name("torch_peer.py")), "evaluate"]
    contestants = duel.run(
        [
            duel.Contestant("fsljax", [sys.executable, str(Path(__file__).absolute()), "--serve"]),
            *(duel.Contestant(f"PyTorch {name}", [*torch, name]) for name in PEERS),
        ],
        arguments.rounds,
    )
    images = CLASSES * IMAGES_A_CLASS
    duel.record("embedding, Conv-4", contestants, "embedding", amount=images, unit="images/s")
    name = "20-way 5-shot evaluation, end to end"
    duel.record(name, contestants, "end to end", amount=EPISODES, unit="episodes/s")
    ours = contestants[0]
    rows = [
        [
            contestant.name,
            f"{CLASSES * IMAGES_A_CLASS / contestant.median('embedding'):,.0f}",
            f"{duel.ratio(ours, contestant, 'embedding'):.2f}",
            f"{EPISODES / contestant.median('end to end'):,.0f}",
            f"{duel.ratio(ours, contestant, 'end to end'):.2f}",
            contestant.about["version"],
        ]
        for contestant in contestants
    ]
    header = ["evaluation", "images / s", "its time / ours", "episodes / s", "its time / ours", "version"]
    duel.print_table(header, rows)

    def against_best(figure: str) -> float:
        return duel.ratio(ours, duel.best_peer(contestants, figure), figure)

    print("the lower of both ratios, each to the best peer that is as it comes:")
    print(f"ratio {min(against_best('embedding'), against_best('end to end')):.3f}")


if __name__ == "__main__":
    main()
