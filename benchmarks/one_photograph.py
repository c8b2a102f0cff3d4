"""Times `Classifier.predict` of one photograph against the jitted forward pass of its network alone, warm.

    python benchmarks/one_photograph.py MODEL PHOTOGRAPH

MODEL is a folder that `Classifier.load` reads. Medians over alternating calls, in milliseconds; let nothing
else run meanwhile.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.api import Classifier
from fsljax.data.user_images import prepare

ROUNDS = 60


def main() -> None:
    model, photograph = sys.argv[1:]
    classifier = Classifier.load(model)
    network = classifier._network
    prepared = prepare(photograph, network.config.data)
    variables = jax.device_put(network.model.variables)

    @jax.jit
    def forward(images: jax.Array) -> jax.Array:
        scaled = images.astype(jnp.float32) / 255
        return network._network.apply(variables, scaled, running_average=True)  # type: ignore[return-value]

    calls: dict[str, Callable[[], object]] = {
        "forward pass": lambda: forward(prepared).block_until_ready(),
        "predict, an array": lambda: classifier.predict(prepared),
        "predict, a file": lambda: classifier.predict(photograph),
    }
    for call in calls.values():
        call()
    seconds = np.array([[_timed(call) for call in calls.values()] for _ in range(ROUNDS)])
    for name, median in zip(calls, 1e3 * np.median(seconds, axis=0), strict=True):
        print(f"{name:20s} {median:6.1f} ms   {median / (1e3 * np.median(seconds[:, 0])):.2f}×")


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
