"""A training step of ours against the same in PyTorch: what the benchmarks of steps share."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duel

if TYPE_CHECKING:
    from fsljax.training.method import Method
    from fsljax.training.state import TrainState

ON_ACCELERATORS = 20  # times as many steps a turn, which are that much shorter there


def main(
    description: str, script: str, row: str, serve_ours: Callable[[], None], peers: Sequence[str]
) -> None:
    """Times ours and the peers in turns, and prints their steps in milliseconds.

    Args:
      description: first line of the script's help.
      script: its path; `torch_peer.py` knows the work by its name.
      row: what is timed, as results name it.
      serve_ours: serves our side.
      peers: names by which `torch_peer.py` makes the others.
    """
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--peer_python", default=sys.executable, help="an interpreter with PyTorch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve_ours()
        return
    path = Path(script).absolute()
    torch = [arguments.peer_python, str(path.with_name("torch_peer.py")), path.stem]
    contestants = duel.run(
        [
            duel.Contestant("fsljax", [sys.executable, str(path), "--serve"]),
            *(duel.Contestant(f"PyTorch {name}", [*torch, name]) for name in peers),
        ],
        arguments.rounds,
    )
    duel.record(row, contestants, "step")
    ours, best = contestants[0], duel.best_peer(contestants, "step")
    rows = [
        [
            one.name,
            duel.milliseconds(one.median("step")),
            " – ".join(map(duel.milliseconds, one.spread("step"))),
            f"{duel.ratio(ours, one, 'step'):.2f}",
            one.about["version"],
        ]
        for one in contestants
    ]
    duel.print_table(["step", "ms", "least – most", "its time / ours", "version"], rows)
    print(f"the best peer that is as it comes: {best.name}")
    print(f"ratio {duel.ratio(ours, best, 'step'):.3f}")


def serve_steps(
    method: Method,
    state: TrainState,
    data: Any,
    count: int,
    beside: Callable[[], dict[str, float]] = dict,
) -> None:
    """Serves our steps, dispatched as training does it: one by one on a CPU, else many in one call.

    Args:
      method, state, data: what is trained.
      count: steps a turn, on a CPU.
      beside: measures other figures in each turn.
    """
    import jax

    from fsljax.training import devices
    from fsljax.training.steps import on_device

    if jax.default_backend() != "cpu":
        count *= ON_ACCELERATORS
    at_once = devices.steps_per_dispatch(count)
    advance = devices.compile_steps(on_device(method), at_once)

    def steps() -> None:
        nonlocal state
        for _ in range(count // at_once):
            state, _ = advance(state, data)
        jax.block_until_ready(state)

    steps()
    device = jax.devices()[0].device_kind
    version = f"JAX {jax.__version__}, Python {platform.python_version()}, {device}"
    duel.serve(lambda: {"step": duel.seconds(steps) / count, **beside()}, {"version": version})
