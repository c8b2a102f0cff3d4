"""Times the training step of Conv-4 on 60-way 1-shot 5-query episodes against PyTorch.

    python benchmarks/train_step.py --peer_python=PATH

PATH is an interpreter with PyTorch, this one by default. Each side draws its episodes from uint8 images and
takes the loss, the gradient and an Adam step, in float32. They take turns in one run; let nothing else run
meanwhile.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import duel
import step_duel

WAY, SHOT, QUERIES = 60, 1, 5
STEPS_A_TURN = 5
CLASSES, IMAGES_A_CLASS, SIZE, FILTERS = 4112, 20, 28, 64
PEERS = (
    "nchw", "channels_last", "nchw compiled", "channels_last compiled", "channels_last, CUDA graphs",
    f"channels_last, {duel.TUNED}",
)  # fmt: skip


def gigaflop_a_step() -> float:
    """Arithmetic of all convolutions, forward and both gradients; the first needs none for its images."""
    images = WAY * (SHOT + QUERIES)
    total, size, channels = 0, SIZE, 1
    for block in range(4):
        forward = images * size * size * 9 * channels * FILTERS * 2
        total += forward * (3 if block else 2)
        size, channels = size // 2, FILTERS
    return total / 1e9


def serve_ours(kernels: str) -> None:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from fsljax import methods
    from fsljax.data.dataset import ImageDataset, Splits
    from fsljax.methods import protonet
    from fsljax.training.host_memory import keep_freed_memory

    keep_freed_memory()
    config = protonet.default_config()
    config.network.kernels = kernels
    config.train.update({"way": WAY, "shot": SHOT, "queries": QUERIES})
    images = np.random.default_rng(0).integers(0, 256, (CLASSES * IMAGES_A_CLASS, SIZE, SIZE, 1), np.uint8)
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), IMAGES_A_CLASS)
    part = ImageDataset(images, labels, tuple(map(str, range(CLASSES))))
    method = methods.build(methods.check(config), Splits(part, part, part))
    state = jax.jit(method.init)(jax.random.key(0))
    data = jax.device_put(method.training_data(state.inference_variables()))
    matrix = jnp.ones((2048, 2048))
    multiply = jax.jit(lambda a: a @ a)

    def peak() -> float:
        return 2 * 2048**3 / 1e9 / duel.seconds(lambda: multiply(matrix).block_until_ready())

    multiply(matrix).block_until_ready()
    step_duel.serve_steps(method, state, data, STEPS_A_TURN, lambda: {"peak": peak()})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--peer_python", default=sys.executable, help="an interpreter with PyTorch")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve_ours(arguments.serve)
        return
    this = [sys.executable, str(Path(__file__).absolute()), "--serve"]
    torch = [arguments.peer_python, str(Path(__file__).with_name("torch_peer.py")), "train_step"]
    contestants = duel.run(
        [
            duel.Contestant("fsljax", [*this, "auto"]),
            duel.Contestant("fsljax, XLA's convolutions", [*this, "xla"]),
            *(duel.Contestant(f"PyTorch {name}", [*torch, name]) for name in PEERS),
        ],
        arguments.rounds,
    )
    duel.record("training step, 60-way 1-shot 5-query, Conv-4", contestants, "step")
    ours, plain = contestants[:2]
    best = duel.best_peer(contestants, "step")
    rows = []
    for contestant in contestants:
        median, (least, most) = contestant.median("step"), contestant.spread("step")
        rows.append(
            [
                contestant.name,
                duel.milliseconds(median),
                f"{duel.milliseconds(least)} – {duel.milliseconds(most)}",
                f"{gigaflop_a_step() / median:.0f}",
                f"{duel.ratio(ours, contestant, 'step'):.2f}",
                contestant.about["version"],
            ]
        )
    duel.print_table(["step", "ms", "least – most", "GFLOP/s", "its time / ours", "version"], rows)
    peak = max(turn["peak"] for turn in [*ours.rounds, *plain.rounds])
    print(f"{gigaflop_a_step():.1f} GFLOP a step; a 2048³ matrix product reaches {peak:.0f} GFLOP/s here")
    print(f"the best peer that is as it comes: {best.name}")
    print(f"ratio {duel.ratio(ours, best, 'step'):.3f}")


if __name__ == "__main__":
    main()
