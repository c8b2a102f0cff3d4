"""What a compiled step sends between devices: read from its text, and done again by itself."""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from fsljax.parallel.devices import Devices

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8,
         "f64": 8}  # fmt: skip
_INSTRUCTION = re.compile(rf"^\s*(?:ROOT )?%?\S+ = (.*?) ({'|'.join(KINDS)})(?:-start)?\((.*)$", re.M)
_ARRAY = re.compile(rf"\b({'|'.join(SIZES)})\[([\d,]*)\]")


class Collective(NamedTuple):
    """An instruction of a compiled program.

    Attributes:
      kind: one of `KINDS`.
      arrays: dtypes and shapes of what a device has in hand when it is over; of a reduce-scatter, before.
    """

    kind: str
    arrays: tuple[tuple[str, tuple[int, ...]], ...]

    def bytes(self) -> int:
        return sum(SIZES[kind] * math.prod(shape) for kind, shape in self.arrays)


def read(text: str, devices: int) -> list[Collective]:
    """The collectives of a program for CPUs, in their order.

    Args:
      text: of the compiled program.
      devices: that each of them joins.
    """
    found = []
    for result, kind, rest in _INSTRUCTION.findall(text):
        arrays = [
            (dtype, tuple(map(int, filter(None, shape.split(",")))))
            for dtype, shape in _ARRAY.findall(result)
        ]
        if kind == "reduce-scatter":
            arrays = [(dtype, (shape[0] * devices, *shape[1:])) for dtype, shape in arrays]
        assert kind == "all-reduce" or "dimensions={0}" in rest, f"{kind} along another axis"
        found.append(Collective(kind, tuple(arrays)))
    return found


def told(found: list[Collective]) -> str:
    """How many of each kind, and their bytes."""
    counts = collections.Counter(one.kind for one in found)
    sizes = {kind: sum(one.bytes() for one in found if one.kind == kind) for kind in counts}
    return ", ".join(f"{count} {kind} {sizes[kind]:,} B" for kind, count in counts.items()) or "none"


def alone(found: list[Collective], devices: Devices, *, flat: bool = False) -> Callable[[], object]:
    """The same collectives, on the same devices, with nothing between them; compiled.

    Args:
      found: as `read` gives them.
      devices: of the step.
      flat: one buffer for all arrays of an all-reduce.
    """
    import jax
    import jax.numpy as jnp

    from fsljax.parallel.devices import WHOLE
    from fsljax.parallel.shares import AXES

    names = {"pred": "bool", "bf16": "bfloat16", "f16": "float16", "f32": "float32", "f64": "float64"}
    names |= {f"s{bits}": f"int{bits}" for bits in (8, 32, 64)}
    names |= {f"u{bits}": f"uint{bits}" for bits in (8, 32, 64)}

    def given(one: Collective) -> list[Any]:
        rows = len(devices) if one.kind == "all-gather" else 1
        shapes = [
            (names[dtype], (shape[0] // rows, *shape[1:]) if shape else shape) for dtype, shape in one.arrays
        ]
        if flat and one.kind == "all-reduce":
            kinds = {dtype for dtype, _ in shapes}
            shapes = [(kind, (sum(math.prod(s) for k, s in shapes if k == kind),)) for kind in kinds]
        return [jnp.ones(shape, dtype) for dtype, shape in shapes]

    def all_of_them(inputs: list[list[Any]]) -> list[Any]:
        results: list[Any] = []
        last: Any = jnp.zeros(())
        for one, arrays in zip(found, inputs, strict=True):
            ready, _ = jax.lax.optimization_barrier((arrays, last))  # one after another
            if one.kind == "all-reduce":
                last = jax.lax.psum(ready, AXES)
            elif one.kind == "all-gather":
                last = [jax.lax.all_gather(array, AXES, tiled=True) for array in ready]
            else:
                last = [jax.lax.psum_scatter(array, AXES, tiled=True) for array in ready]
            results.append(last)
        return results

    mapped = jax.shard_map(
        all_of_them, mesh=devices.mesh(), in_specs=(WHOLE,), out_specs=WHOLE, check_vma=False
    )
    inputs = devices.replicate([given(one) for one in found])
    compiled = jax.jit(mapped).lower(inputs).compile()
    return lambda: jax.block_until_ready(compiled(inputs))
