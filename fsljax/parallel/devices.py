"""The devices of a run, of one process or several, and arrays that lie on them."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fsljax.errors import UserError
from fsljax.parallel.shares import AXES

UNASKED = -1
"""As a number of devices: all accelerators, or one CPU device of each process."""

_ROWS = "rows"  # another axis than those of a step: what is mapped over it is each device's own business

WHOLE, DIVIDED = PartitionSpec(), PartitionSpec(AXES)
"""How arrays lie on the devices of a step: all of each on all of them, or the rows divided."""

Tree = TypeVar("Tree")


@dataclass(frozen=True)
class Devices:
    """Devices over which work is divided, those of a process together.

    With one device every array stays as it is, and programs are those of one device.
    """

    every: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.every)

    def mesh(self, episodes: int = 1) -> Mesh:
        """The mesh of a step: as many devices apart as episodes allow, the others share each episode."""
        return Mesh(np.array(self.every).reshape(-1, self.along(episodes)), AXES)

    def along(self, episodes: int) -> int:
        """Devices that share each of a number of episodes."""
        return len(self) // math.gcd(episodes, len(self))

    def fewer(self) -> Iterator[Devices]:
        """These devices, and ever fewer of them, as many of each process."""
        of_process: dict[int, list[Any]] = {}
        for device in self.every:
            of_process.setdefault(getattr(device, "process_index", 0), []).append(device)
        for each in range(len(self) // len(of_process), 0, -1):
            yield Devices(tuple(device for some in of_process.values() for device in some[:each]))

    def replicate(self, tree: Tree) -> Tree:
        """Arrays, from the host or from one device, whole on every device."""
        if len(self) == 1:
            return tree
        sharding = NamedSharding(self.mesh(), WHOLE)
        whole: Tree = jax.tree.map(partial(_put, sharding), tree)
        return whole

    def local(self, tree: Tree) -> Tree:
        """Arrays that lie whole on every device as arrays of one device of this process."""
        if len(self) == 1:
            return tree
        here: Tree = jax.tree.map(lambda array: array.addressable_data(0), tree)
        return here

    def divide(self, array: jax.Array) -> jax.Array:
        """An array, from one device, with its rows divided; those that are missing for that are zeros."""
        rows = np.asarray(array)
        size = -(-len(rows) // len(self))
        filled = np.zeros((size * len(self), *rows.shape[1:]), rows.dtype)
        filled[: len(rows)] = rows
        return jax.make_array_from_callback(
            filled.shape, NamedSharding(self.mesh(), DIVIDED), lambda index: filled[index]
        )

    def whole(self, array: jax.Array) -> jax.Array:
        """An array with its rows divided, whole on every device."""
        gathered: jax.Array = _gather(NamedSharding(self.mesh(), WHOLE))(array)
        return gathered

    def share(self, count: int, episodes: int = 1) -> np.ndarray:
        """Positions int `[n]` of the rows of this process's devices, in their order, among those of a batch.

        Args:
          count: rows of the batch.
          episodes: of it; see `fsljax.parallel.shares.share`.
        """
        if len(self) == 1:
            return np.arange(count)
        across, along = self.mesh(episodes).devices.shape
        blocks = np.arange(count).reshape(across, episodes // across, along, -1)
        of_devices = np.moveaxis(blocks, 2, 1).reshape(len(self), -1)
        here = jax.process_index()
        return of_devices[[device.process_index == here for device in self.every]].reshape(-1)

    def put_rows(self, own: np.ndarray) -> jax.Array | np.ndarray:
        """Rows of this process, as many for each of its devices, as a part of an array of all processes.

        Args:
          own: `[n, …]`, in the order of `share`.
        """
        if len(self) == 1:
            return own
        sharding = NamedSharding(self.mesh(), DIVIDED)
        processes = len({device.process_index for device in self.every})
        shape = (len(own) * processes, *own.shape[1:])
        return jax.make_array_from_process_local_data(sharding, np.asarray(own), shape)

    def over_rows(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a function of rows, which each device applies to its own.

        Args:
          function: of a tree and of arrays `[n, …]`; its results are arrays `[n, …]`, row by row.

        Returns:
          a function of the tree and of arrays as `put_rows` or the host has them; results lie on one device
          of this process, with the rows of all. All processes must call it alike, in the same order.
        """
        if len(self) == 1:
            return jax.jit(function)
        mesh = Mesh(np.array(self.every), (_ROWS,))
        rows = PartitionSpec(_ROWS)
        mapped = jax.shard_map(function, mesh=mesh, in_specs=(WHOLE, rows), out_specs=rows, check_vma=False)
        compiled = jax.jit(mapped, out_shardings=NamedSharding(mesh, WHOLE))
        return lambda tree, *arrays: self.local(compiled(self.replicate(tree), *arrays))


ONE = Devices((None,))
"""The device that JAX computes on where nothing else is said."""


def chosen(count: int) -> Devices:
    """The devices that `config.mesh.devices` asks for.

    Args:
      count: of all processes; 0: all there are; `UNASKED`: all accelerators, or one CPU of each process.

    Raises:
      UserError: there are fewer, or the processes cannot have equally many.
    """
    processes = jax.process_count()
    of_process: dict[int, list[jax.Device]] = {}
    for device in jax.devices():
        of_process.setdefault(device.process_index, []).append(device)
    least = min(map(len, of_process.values()))
    if count == UNASKED:
        each = 1 if jax.default_backend() == "cpu" else least
    elif count == 0:
        each = least
    else:
        if count % processes:
            raise UserError(
                f"config.mesh.devices is {count}, which {processes} processes cannot share equally: give a "
                f"multiple of {processes}, or 0 for all."
            )
        each = count // processes
    if each > least:
        whose = "of each process" if processes > 1 else "here"
        there = "is 1 device" if least == 1 else f"are {least} devices"
        virtual = (
            " XLA_FLAGS=--xla_force_host_platform_device_count=N sets how many a CPU has."
            if jax.default_backend() == "cpu"
            else ""
        )
        raise UserError(
            f"config.mesh.devices is {count}, but there {there} {whose}: set it to {least * processes} at "
            f"most, or to 0 for all of them.{virtual}"
        )
    return Devices(tuple(device for number in sorted(of_process) for device in of_process[number][:each]))


def prepare(count: int, processes: int = 1) -> None:
    """Makes as many devices of a CPU as are asked for; once JAX has begun to compute, there are those it has.

    Args:
      count: as of `chosen`.
      processes: of the run.
    """
    forced = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if count > 1 and not forced:
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", max(1, count // processes))


@cache
def _gather(whole: NamedSharding) -> Callable[[jax.Array], jax.Array]:
    """One function for each sharding: a new one at every checkpoint would be compiled again."""
    return jax.jit(lambda rows: rows, out_shardings=whole)


def _put(sharding: NamedSharding, leaf: Any) -> Any:
    if jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key):
        data = _put(sharding, jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
        return leaf
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    value = np.asarray(leaf)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])
