"""Times Magnet's training step with a ResNet-18 at 64 pixels against PyTorch.

    python benchmarks/magnet_step.py --peer_python=PATH

PATH is an interpreter with PyTorch, this one by default. 12 clusters of 4 images: both sides take the loss,
its gradient and an Adam step, in float32; ours draws the neighbourhood too. They take turns in one run; let
nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

import duel

CLUSTERS, EXAMPLES, SIZE = 12, 4, 64
CLASSES, IMAGES_A_CLASS = 100, 20
STEPS_A_TURN = 3
PEERS = ("nchw", "channels_last", "channels_last compiled", f"channels_last, {duel.TUNED}")


def serve_ours() -> None:
    import jax
    import numpy as np

    from fsljax import methods
    from fsljax.data.dataset import ImageDataset, Splits
    from fsljax.methods import magnet
    from fsljax.training import devices
    from fsljax.training.host_memory import keep_freed_memory
    from fsljax.training.steps import on_device

    keep_freed_memory()
    config = magnet.default_config()
    config.data.update({"image_size": SIZE, "channels": 3})
    config.network.name = "resnet18"
    config.train.update({"clusters": CLUSTERS, "examples": EXAMPLES})
    shape = (CLASSES * IMAGES_A_CLASS, SIZE, SIZE, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), IMAGES_A_CLASS)
    part = ImageDataset(images, labels, tuple(map(str, range(CLASSES))))
    method = methods.build(config, Splits(part, part, part))
    state = jax.jit(method.init)(jax.random.key(0))
    data = jax.device_put(method.training_data(state.inference_variables()))
    state = method.refresh(state, data)
    step = devices.compile_steps(on_device(method), 1)

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
    torch = [arguments.peer_python, str(Path(__file__).with_name("torch_peer.py")), "magnet_step"]
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
            f"{1000 * one.median('step'):.0f}",
            " – ".join(f"{1000 * seconds:.0f}" for seconds in one.spread("step")),
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
