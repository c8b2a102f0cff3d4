"""How steps reach the device."""

from __future__ import annotations

from collections.abc import Callable

import jax
from chex import ArrayTree

from fsljax.data.io.cache import usable_cache_folder
from fsljax.parallel.devices import ONE, WHOLE, Devices
from fsljax.training.state import TrainState

StepFunction = Callable[[TrainState, ArrayTree], tuple[TrainState, dict[str, jax.Array]]]


def use_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, so that a second start need not compile."""
    given = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]  # in some versions
    if given is None and (folder := usable_cache_folder("xla")) is not None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def use_random_kernel() -> None:
    """Draws random numbers on a GPU by a kernel: written out in each program they take minutes to compile."""
    if hasattr(jax.config, "jax_threefry_gpu_kernel_lowering"):
        jax.config.update("jax_threefry_gpu_kernel_lowering", True)


def steps_per_dispatch(wanted: int) -> int:
    """1 on CPU, where convolutions inside a compiled loop are about 20 times slower; else `wanted`."""
    return 1 if jax.default_backend() == "cpu" else wanted


def compile_steps(
    train_step: StepFunction,
    count: int,
    devices: Devices = ONE,
    *,
    episodes: int = 1,
    data: ArrayTree = WHOLE,
) -> StepFunction:
    """Compiles `count` steps into one call that reuses the state's buffers; metrics are `[count]` each.

    Args:
      train_step: a step; where several devices share it, that of each of them.
      count: of steps.
      devices: that share them.
      episodes: of a batch, which devices take whole.
      data: how the data lie on the devices, a `PartitionSpec` or a tree of them.
    """

    def steps(state: TrainState, data: ArrayTree) -> tuple[TrainState, dict[str, jax.Array]]:
        if count == 1:
            state, metrics = train_step(state, data)
            return state, jax.tree.map(lambda value: value[None], metrics)
        return jax.lax.scan(lambda carry, _: train_step(carry, data), state, length=count)

    if len(devices) > 1:
        steps = jax.shard_map(
            steps, mesh=devices.mesh(episodes), in_specs=(WHOLE, data), out_specs=WHOLE, check_vma=False
        )
    return jax.jit(steps, donate_argnums=0)
