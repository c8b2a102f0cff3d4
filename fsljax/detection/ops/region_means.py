"""Means of a feature map over regions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fsljax.detection.ops.boxes import widened

_POINTS = 14  # a side of a region, at which the map is interpolated


def region_means(stage: jax.Array, boxes: jax.Array, *, stride: int) -> jax.Array:
    """Mean of a feature map over each box, from bilinearly interpolated points on a regular grid.

    Like `roi_align` with one bin, except that points beyond the outermost cell centres take the value at the
    border. Interpolation weights are summed along each side first, so that it takes two matrix products per
    map.

    Args:
      stage: `[height, width, channel]`.
      boxes: `[n, 4]` in pixels; without gradient.
      stride: pixels per cell.

    Returns:
      `[n, channel]`.
    """
    boxes = jax.lax.stop_gradient(widened(boxes))
    rows = _weights(boxes[:, 0], boxes[:, 2], stage.shape[0], stride)
    columns = _weights(boxes[:, 1], boxes[:, 3], stage.shape[1], stride)
    return jnp.einsum("nh,nw,hwc->nc", rows, columns, stage)


def _weights(starts: jax.Array, ends: jax.Array, cells: int, stride: int) -> jax.Array:
    """Weights `[n, cells]`, which sum to 1."""
    shares = (jnp.arange(_POINTS) + 0.5) / _POINTS
    at = (starts[:, None] + (ends - starts)[:, None] * shares) / stride - 0.5
    at = jnp.clip(at, 0, cells - 1)
    return jnp.mean(jnp.maximum(0.0, 1 - jnp.abs(at[..., None] - jnp.arange(cells))), axis=1)
