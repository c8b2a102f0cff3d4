"""Times RepMet's training step on features of a frozen backbone against PyTorch.

    python benchmarks/repmet_step.py --peer_python=PATH

PATH is an interpreter with PyTorch, this one by default. 12 classes of 4 images, 1,280 features each, one
linear layer to 1,024 dimensions, three representatives of length 1 of each of 102 classes: both sides draw
the batch, take the loss, its gradient and an Adam step, in float32. Distances are taken from products, or in
PyTorch from differences too. They take turns in one run; let nothing else run meanwhile.
"""

from __future__ import annotations

import duel
import step_duel

CLASSES, REPRESENTATIVES, DIM = 102, 3, 1024
BATCH_CLASSES, EXAMPLES, IMAGES_A_CLASS, FEATURES = 12, 4, 20, 1280
SIGMA, ALPHA = 10.0, 1.0
STEPS_A_TURN = 50
ROW = "RepMet step on features, 102 classes × 3 × 1,024, batch 48"
PEERS = (
    "differences", "differences compiled", "products", "products compiled", "products, CUDA graphs",
    f"products, {duel.TUNED}",
)  # fmt: skip


def serve_ours() -> None:
    import flax.linen as nn
    import jax
    import numpy as np

    from fsljax.classification.embedder import Embedder
    from fsljax.classification.task import Task
    from fsljax.config import read
    from fsljax.data.dataset import ImageDataset, Splits
    from fsljax.data.samplers.episodes import class_table
    from fsljax.methods import repmet
    from fsljax.networks import Embedding
    from fsljax.training.host_memory import keep_freed_memory
    from fsljax.training.method import TrainingData

    class Given(nn.Module):
        """A backbone whose features are at hand."""

        def __call__(self, images: jax.Array, *, running_average: bool) -> jax.Array:
            return jax.numpy.zeros((*images.shape[:-3], FEATURES), images.dtype)

    keep_freed_memory()
    given = repmet.default_config()
    given.network.update({"trainable": "head", "embedding": (DIM,)})
    given.loss.update({"sigma": SIGMA, "alpha": ALPHA, "version": "v2"})
    given.representatives.update({"per_class": REPRESENTATIVES, "start": "random"})
    given.train.update({"clusters": BATCH_CLASSES, "examples": EXAMPLES})
    config = read(repmet.Config, given)
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), IMAGES_A_CLASS)
    part = ImageDataset(np.zeros((len(labels), 1, 1, 1), np.uint8), labels, tuple(map(str, range(CLASSES))))
    embedder = Embedder(config, (1, 1, 1), Embedding(Given(), (DIM,), frozen=True))
    method = repmet.RepMet(config, Task(config, Splits(part, part, part), embedder))
    state = jax.jit(method.init)(jax.random.key(0))
    features = np.random.default_rng(0).normal(size=(len(labels), 1, FEATURES)).astype(np.float32)
    data = jax.device_put(TrainingData(features, repmet.Index(labels, class_table(labels))))
    step_duel.serve_steps(method, state, data, STEPS_A_TURN)


if __name__ == "__main__":
    step_duel.main(__doc__ or "", __file__, ROW, serve_ours, PEERS)
