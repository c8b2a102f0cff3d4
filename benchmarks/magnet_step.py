"""Times Magnet's training step with a ResNet-18 at 64 pixels against PyTorch.

    python benchmarks/magnet_step.py --peer_python=PATH

PATH is an interpreter with PyTorch, this one by default. 12 clusters of 4 images: both sides take the loss,
its gradient and an Adam step, in float32; ours draws the neighbourhood too. They take turns in one run; let
nothing else run meanwhile.
"""

from __future__ import annotations

import duel
import step_duel

CLUSTERS, EXAMPLES, SIZE = 12, 4, 64
CLASSES, IMAGES_A_CLASS = 100, 20
STEPS_A_TURN = 3
ROW = "Magnet step, ResNet-18, 64 px, 48 images"
PEERS = (
    "nchw", "channels_last", "channels_last compiled", "channels_last, CUDA graphs",
    f"channels_last, {duel.TUNED}",
)  # fmt: skip


def serve_ours() -> None:
    import jax
    import numpy as np

    from fsljax import methods
    from fsljax.data.dataset import ImageDataset, Splits
    from fsljax.methods import magnet
    from fsljax.training.host_memory import keep_freed_memory

    keep_freed_memory()
    config = magnet.default_config()
    config.data.update({"image_size": SIZE, "channels": 3})
    config.network.name = "resnet18"
    config.train.update({"clusters": CLUSTERS, "examples": EXAMPLES})
    shape = (CLASSES * IMAGES_A_CLASS, SIZE, SIZE, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), IMAGES_A_CLASS)
    part = ImageDataset(images, labels, tuple(map(str, range(CLASSES))))
    method = methods.build(methods.check(config), Splits(part, part, part))
    state = jax.jit(method.init)(jax.random.key(0))
    data = jax.device_put(method.training_data(state.inference_variables()))
    state = method.refresh(state, data)
    step_duel.serve_steps(method, state, data, STEPS_A_TURN)


if __name__ == "__main__":
    step_duel.main(__doc__ or "", __file__, ROW, serve_ours, PEERS)
