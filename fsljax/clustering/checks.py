"""What k-means asks of what it is given."""

from __future__ import annotations

import numbers
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.clustering.precision import Array, traced


def check_numbers(k: int, max_iterations: int, tolerance: float, restarts: int) -> None:
    for name, number in (("clusters", k), ("max_iterations", max_iterations), ("num_restarts", restarts)):
        if traced(number):
            continue
        whole = isinstance(number, numbers.Integral | jax.Array | np.ndarray) and not isinstance(number, bool)
        if not whole or number < 1:
            raise ValueError(f"k-means is asked for {name} = {number}; it takes a whole number, 1 or more.")
    if not traced(tolerance) and not tolerance >= 0:
        raise ValueError(f"k-means has tolerance {tolerance}; it must be 0 or more.")


def check_labels(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Raises for impossible labels; returns the points of each class."""
    if labels.dtype.kind not in "iu":
        raise ValueError(f"The labels are {labels.dtype}; they must be whole numbers from 0.")
    if len(labels) and (labels.min() < 0 or labels.max() >= num_classes):
        raise ValueError(
            f"Labels go from {labels.min()} to {labels.max()}; of {num_classes} classes they must be "
            f"0 … {num_classes - 1}."
        )
    counts: np.ndarray = np.bincount(labels, minlength=num_classes)
    if not counts.all():
        raise ValueError(f"Class {int(np.argmin(counts))} has no point: every class needs one at least.")
    return counts


def warn_of_small_classes(counts: np.ndarray, clusters: int) -> None:
    small = np.flatnonzero(counts < clusters)
    if len(small):
        named = ", ".join(map(str, small[:5])) + (" …" if len(small) > 5 else "")
        warnings.warn(
            f"{len(small)} of {len(counts)} classes have fewer points than clusters_per_class = {clusters}, "
            f"and get as many clusters as they have points: {named}.",
            stacklevel=3,
        )


def checked_points(points: Array) -> Array:
    if not (jnp.issubdtype(points.dtype, jnp.floating) or np.dtype(points.dtype).kind in "biuf"):
        raise ValueError(f"The points are {points.dtype}; k-means needs finite numbers.")
    return points


def checked_mask(mask: Array | None) -> Array | None:
    """A mask as booleans; whatever else it holds is no share of a point."""
    if mask is None or mask.dtype == bool:
        return mask
    if not traced(mask) and not ((mask == 0) | (mask == 1)).all():
        raise ValueError("The mask holds other numbers than 0 and 1: give True for each point that counts.")
    return mask.astype(bool)
