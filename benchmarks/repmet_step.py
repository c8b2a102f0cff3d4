"""Times RepMet's training step on features of a frozen backbone against PyTorch.

    python benchmarks/repmet_step.py --peer_python=PATH

PATH is an interpreter with PyTorch, this one by default. 12 classes of 4 images, 1,280 features each, one
linear layer to 1,024 dimensions, three representatives of each of 102 classes: both sides draw the batch,
take the loss, its gradient and an Adam step, in float32. PyTorch's distances are sums of squared differences
as ours are, or taken from products, which is faster and less exact. They take turns in one run; let nothing
else run meanwhile.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

import duel

CLASSES, REPRESENTATIVES, DIM = 102, 3, 1024
BATCH_CLASSES, EXAMPLES, IMAGES_A_CLASS, FEATURES = 12, 4, 20, 1280
SIGMA, ALPHA = 10.0, 1.0
STEPS_A_TURN = 50
PEERS = ("differences", "differences compiled", "products", "products compiled", f"products, {duel.TUNED}")


def serve_ours() -> None:
    import flax.linen as nn
    import jax
    import numpy as np

    from fsljax.data.dataset import ImageDataset, Splits
    from fsljax.data.episodes import class_table
    from fsljax.methods import TrainingData, fine_grained, repmet
    from fsljax.methods.embedder import Embedder
    from fsljax.networks import Embedding
    from fsljax.training import devices
    from fsljax.training import steps as run_steps
    from fsljax.training.host_memory import keep_freed_memory

    class Given(nn.Module):
        """A backbone whose features are at hand."""

        def __call__(self, images: jax.Array, *, running_average: bool) -> jax.Array:
            return jax.numpy.zeros((*images.shape[:-3], FEATURES), images.dtype)

    keep_freed_memory()
    config = repmet.default_config()
    config.network.update({"trainable": "head", "embedding": (DIM,)})
    config.loss.update({"sigma": SIGMA, "alpha": ALPHA, "version": "v2"})
    config.representatives.update({"per_class": REPRESENTATIVES, "start": "random"})
    config.train.update({"clusters": BATCH_CLASSES, "examples": EXAMPLES})
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), IMAGES_A_CLASS)
    part = ImageDataset(np.zeros((len(labels), 1, 1, 1), np.uint8), labels, tuple(map(str, range(CLASSES))))
    embedder = Embedder(config, (1, 1, 1), Embedding(Given(), (DIM,), frozen=True))
    method = repmet.RepMet(fine_grained.Task(Splits(part, part, part), embedder))
    state = jax.jit(method.init)(jax.random.key(0))
    features = np.random.default_rng(0).normal(size=(len(labels), 1, FEATURES)).astype(np.float32)
    data = jax.device_put(TrainingData(features, repmet.Index(labels, class_table(labels))))
    step = devices.compile_steps(run_steps.on_device(method), 1)

    def steps() -> None:
        nonlocal state
        for _ in range(STEPS_A_TURN):
            state, _ = step(state, data)
        jax.block_until_ready(state)

    steps()
    duel.serve(
        lambda: {"step": duel.seconds(steps) / STEPS_A_TURN},
        {"version": f"JAX {jax.__version__}, Python {platform.python_version()}"},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--peer_python", default=sys.executable, help="an interpreter with PyTorch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve_ours()
        return
    torch = [arguments.peer_python, str(Path(__file__).with_name("torch_peer.py")), "repmet_step"]
    contestants = duel.run(
        [
            duel.Contestant("fsljax", [sys.executable, str(Path(__file__).absolute()), "--serve"]),
            *(duel.Contestant(f"PyTorch {name}", [*torch, name]) for name in PEERS),
        ],
        arguments.rounds,
    )
    ours, best = contestants[0], duel.best_peer(contestants, "step")
    rows = [
        [
            one.name,
            f"{1000 * one.median('step'):.2f}",
            " – ".join(f"{1000 * seconds:.2f}" for seconds in one.spread("step")),
            f"{duel.ratio(ours, one, 'step'):.2f}",
            one.about["version"],
        ]
        for one in contestants
    ]
    duel.print_table(["step", "ms", "least – most", "its time / ours", "version"], rows)
    print(f"the best peer that is as it comes: {best.name}")
    print(f"ratio {duel.ratio(ours, best, 'step'):.3f}")


if __name__ == "__main__":
    main()
