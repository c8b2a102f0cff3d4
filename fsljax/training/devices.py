"""How steps reach the device."""

from __future__ import annotations

from collections.abc import Callable

import jax
from chex import ArrayTree
from jax.tree_util import KeyPath

from fsljax.data.io.cache import usable_cache_folder
from fsljax.parallel.devices import DIVIDED, ONE, WHOLE, Devices
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


def spread(state: TrainState, devices: Devices) -> TrainState:
    """A state of one device on several: each holds all of it, but for what `state.divided` names."""
    if len(devices) == 1:
        return state

    def put(path: KeyPath, leaf: jax.Array) -> jax.Array:
        return devices.divide(leaf) if _rows_if_divided(state, path) else devices.replicate(leaf)

    spread: TrainState = jax.tree_util.tree_map_with_path(put, state)
    return spread


def collected(state: TrainState, devices: Devices) -> TrainState:
    """A state that `spread` put on several devices on one of this process."""
    if len(devices) == 1:
        return state

    def get(path: KeyPath, leaf: jax.Array) -> jax.Array:
        rows = _rows_if_divided(state, path)
        here: jax.Array = devices.local(leaf if rows is None else devices.whole(leaf))
        return here if rows is None else here[:rows]

    state = jax.tree_util.tree_map_with_path(get, state)
    return state


def how_spread(state: TrainState) -> ArrayTree:
    """How the arrays of a state lie on devices, a tree of `PartitionSpec`."""
    if not state.divided:
        return WHOLE
    return jax.tree_util.tree_map_with_path(
        lambda path, _: DIVIDED if _rows_if_divided(state, path) else WHOLE, state
    )


def _rows_if_divided(state: TrainState, path: KeyPath) -> int | None:
    names = [getattr(key, "key", getattr(key, "name", None)) for key in path]
    return next((rows for name, rows in state.divided if name in names), None)


def compile_steps(
    train_step: StepFunction,
    count: int,
    devices: Devices = ONE,
    *,
    episodes: int = 1,
    state: ArrayTree = WHOLE,
    data: ArrayTree = WHOLE,
) -> StepFunction:
    """Compiles `count` steps into one call that reuses the state's buffers; metrics are `[count]` each.

    Args:
      train_step: a step; where several devices share it, that of each of them.
      count: of steps.
      devices: that share them.
      episodes: of a batch, which devices take whole.
      state, data: how they lie on the devices, a `PartitionSpec` or a tree of them.
    """

    lies = state

    def steps(state: TrainState, data: ArrayTree) -> tuple[TrainState, dict[str, jax.Array]]:
        if count == 1:
            state, metrics = train_step(state, data)
            return state, jax.tree.map(lambda value: value[None], metrics)
        return jax.lax.scan(lambda carry, _: train_step(carry, data), state, length=count)

    if len(devices) > 1:
        steps = jax.shard_map(
            steps,
            mesh=devices.mesh(episodes),
            in_specs=(lies, data),
            out_specs=(lies, WHOLE),
            check_vma=False,
        )
    return jax.jit(steps, donate_argnums=0)
