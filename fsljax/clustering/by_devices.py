"""k-means by several devices: of classes that they share, and of points that are divided over them."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

from fsljax.clustering.compiled import SomeClasses, in_order, kmeans_in, kmeans_of_some
from fsljax.clustering.precision import Found, scale_of, too_coarse, traced
from fsljax.clustering.spaces import coordinate_space
from fsljax.distances import float64
from fsljax.parallel.devices import WHOLE, Devices

Array = jax.Array | np.ndarray


def kmeans_of_classes_by_devices(
    devices: Devices,
    key: jax.Array,
    points: Array,
    labels: Array,
    initial: Array | None,
    max_iterations: int,
    tolerance: float,
    *,
    classes: int,
    k: int,
    restarts: int,
    size: int,
) -> Found:
    """`kmeans_of_classes`, whose classes the devices share.

    Each takes as many, the last of them some again, and is sent the points of these.
    """
    points, labels = np.asarray(points), np.asarray(labels)
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=classes)
    starts = np.cumsum(counts) - counts
    each = -(-classes // len(devices))
    shared = np.minimum(np.arange(each * len(devices)), classes - 1).reshape(len(devices), each)
    firsts, lasts = starts[shared[:, 0]], (starts + counts)[shared[:, -1]]
    most = int((lasts - firsts).max())
    rows = np.minimum(firsts[:, None] + np.arange(most), len(points) - 1)
    own_classes, own_rows = devices.share(shared.size), devices.share(rows.size)
    numbers = shared.reshape(-1)[own_classes]
    given = (
        numbers.astype(np.int32),
        (starts[shared] - firsts[:, None]).reshape(-1)[own_classes].astype(np.int32),
        counts[numbers].astype(np.int32),
        None if initial is None else np.asarray(initial)[numbers],
        points[order[rows.reshape(-1)[own_rows]]],
    )
    found = _share_of_classes(devices, classes, k, restarts, size)(
        (key, jnp.asarray(max_iterations), jnp.asarray(tolerance)), jax.tree.map(devices.put_rows, given)
    )
    assignments = in_order(found.assignments, labels, order, starts)
    return Found(*(part[:classes] for part in found))._replace(assignments=assignments)


@cache
def _share_of_classes(devices: Devices, classes: int, k: int, restarts: int, size: int) -> Any:
    def of_device(given: Any, own: Any) -> Found:
        (key, max_iterations, tolerance), (numbers, starts, counts, initial, points) = given, own
        some = SomeClasses(jax.random.split(key, classes)[numbers], starts, counts, initial)
        return kmeans_of_some(
            points, None, some, max_iterations, tolerance, k=k, restarts=restarts, size=size
        )

    return devices.over_rows(of_device)


def divided_axes(points: Array) -> tuple[str, ...]:
    """The axes of the mesh of devices over which the rows of points `[n, dim]` are divided; (): they are not.

    Raises:
      ValueError: if points that lie with several processes are divided in another way.
    """
    if traced(points) or not isinstance(points, jax.Array) or points.is_fully_replicated:
        return ()
    sharding = points.sharding
    if isinstance(sharding, NamedSharding):
        rows, dimensions = (*sharding.spec, None, None)[:2]
        if rows and not dimensions:
            return rows if isinstance(rows, tuple) else (rows,)
    if not points.is_fully_addressable:
        raise ValueError(
            f"The points lie with several processes as {sharding}: let a NamedSharding divide their rows."
        )
    return ()


def kmeans_of_divided(
    key: jax.Array,
    points: Array,
    mask: Array | None,
    initial: Array | None,
    max_iterations: int,
    tolerance: float,
    *,
    axes: tuple[str, ...],
    k: int,
    restarts: int,
) -> Found:
    """k-means of points `[n, dim]` whose rows are divided over axes of a mesh, with a mask `[n]` or None.

    No device gets another's points, but for those that clusters begin at: they exchange the sums and counts
    of clusters, and a distance and a cluster's number of each point. Assignments are divided as the points,
    the rest lies whole on all devices. Points that float32 holds badly are treated as in `precise`.

    Raises:
      ValueError: if points are whole numbers that float32 would round.
    """
    if np.dtype(points.dtype).kind in "iu" and np.dtype(points.dtype).itemsize > 2:
        raise ValueError(f"The divided points are {points.dtype}: give floating-point numbers.")
    assert isinstance(points, jax.Array) and isinstance(points.sharding, NamedSharding)  # see `divided_axes`
    sharding = points.sharding
    devices = Devices(tuple(sharding.mesh.devices.flat))
    if mask is not None:
        rows = Spec(axes)  # type: ignore[no-untyped-call]
        mask = _laid(mask, NamedSharding(sharding.mesh, rows))
    key = devices.replicate(key)

    def run(points: jax.Array, initial: np.ndarray | None) -> Found:
        given = devices.replicate((initial, jnp.asarray(max_iterations), jnp.asarray(tolerance)))
        found: Found = _of_divided(
            key, points, mask, *given, mesh=sharding.mesh, axes=axes, k=k, restarts=restarts
        )
        return found

    low, high = map(float, _extremes(points, mask))
    scale = scale_of(high - low)
    rounding = max(-low, high) * scale * float(np.finfo(np.float32).eps)
    start = None if initial is None else np.asarray(initial)
    if scale != 1:
        start = None if start is None else np.asarray(start, np.float64) * scale
    found = run(_scaled(points, scale, jnp.float32) if scale != 1 else points, start)
    if too_coarse(found, points.size, rounding):
        with float64():
            start = None if start is None else np.asarray(start, np.float64)
            found = run(_scaled(points, scale, jnp.float64), start)
    elif scale == 1:
        return found
    centroids = np.asarray(np.asarray(found.centroids, np.float64) / scale, np.float32)
    with float64():
        inertia = float(_inertia(points, mask, devices.replicate(centroids), found.assignments))
    return found._replace(
        centroids=devices.replicate(centroids), inertia=devices.replicate(np.asarray(inertia, np.float32))
    )


@partial(jax.jit, static_argnames=("mesh", "axes", "k", "restarts"))
def _of_divided(
    key: jax.Array,
    points: jax.Array,
    mask: jax.Array | None,
    initial: jax.Array | None,
    max_iterations: jax.Array,
    tolerance: jax.Array,
    *,
    mesh: Mesh,
    axes: tuple[str, ...],
    k: int,
    restarts: int,
) -> Found:
    def of_device(
        key: jax.Array,
        points: jax.Array,
        mask: jax.Array | None,
        initial: jax.Array | None,
        max_iterations: jax.Array,
        tolerance: jax.Array,
    ) -> Found:
        space = coordinate_space(points, mask, axes)
        return kmeans_in(space, key, points, mask, initial, max_iterations, tolerance, k=k, restarts=restarts)

    rows: Any = Spec(axes)  # type: ignore[no-untyped-call]
    whole: Any = WHOLE
    found: Found = jax.shard_map(
        of_device,
        mesh=mesh,
        in_specs=(whole, rows, rows, whole, whole, whole),
        out_specs=Found(*(whole,) * 6)._replace(assignments=rows),
        check_vma=False,
    )(key, points, mask, initial, max_iterations, tolerance)
    return found


def first_not_finite(points: Array) -> int | None:
    """The first of divided points that is NaN or infinite; None: none is."""
    row = int(_first_not_finite(points))
    return row if row < len(points) else None


@jax.jit
def _first_not_finite(points: jax.Array) -> jax.Array:
    bad = ~jnp.all(jnp.isfinite(points), axis=1)
    return jnp.min(jnp.where(bad, jnp.arange(len(points)), len(points)))


@jax.jit
def _extremes(points: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    counted = jnp.bool_(True) if mask is None else mask[:, None]
    return jnp.min(points, initial=jnp.inf, where=counted), jnp.max(points, initial=-jnp.inf, where=counted)


def _scaled(points: jax.Array, scale: float, kind: Any) -> jax.Array:
    """Points times a power of two, divided as they are."""
    with float64():
        scaled: jax.Array = jax.jit(
            lambda points, scale: (points.astype(jnp.float64) * scale).astype(kind),
            out_shardings=points.sharding,
        )(points, scale)
        return scaled


@jax.jit
def _inertia(
    points: jax.Array, mask: jax.Array | None, centroids: jax.Array, assignments: jax.Array
) -> jax.Array:
    """The sum of squared differences, in float64."""
    own = centroids.astype(jnp.float64)[assignments]
    distances = jnp.sum(jnp.square(points.astype(jnp.float64) - own), axis=1)
    return jnp.sum(distances if mask is None else jnp.where(mask, distances, 0))


def _laid(mask: Array, sharding: NamedSharding) -> jax.Array:
    if isinstance(mask, jax.Array) and (mask.sharding == sharding or not mask.is_fully_addressable):
        return mask
    values = np.asarray(mask)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])
