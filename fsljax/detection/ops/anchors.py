"""Anchors of a feature pyramid (Ren et al., 2015, https://arxiv.org/abs/1506.01497, section 3.1.1)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np


def corner_anchors(
    height: int,
    width: int,
    cells: Sequence[tuple[int, int]],
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[float],
) -> list[np.ndarray]:
    """Anchors of all levels as in torchvision: around the corners of cells, rounded to integers.

    A level's vertical stride is the image's height divided by its rows, rounded down; likewise horizontally.

    Args:
      height, width: size of the image in pixels.
      cells: rows and columns of each level.
      sizes: for each level, the square roots of its anchors' areas, in pixels, before they are rounded.
      ratios: height over width.

    Returns:
      float32 `[anchors of the level, 4]` for each level, ordered by row, column, ratio, size.
    """
    levels = []
    for (rows, columns), of_level in zip(cells, sizes, strict=True):
        roots = np.sqrt(np.asarray(ratios, np.float32))
        scales = np.asarray(of_level, np.float32)
        halves = [(root[:, None] * scales).reshape(-1) / 2 for root in (roots, 1 / roots)]
        half = np.round(np.stack(halves, axis=-1))
        corners = np.meshgrid(
            np.arange(rows) * (height // rows), np.arange(columns) * (width // columns), indexing="ij"
        )
        corner = np.stack(corners, axis=-1)[:, :, None].astype(np.float32)
        levels.append(np.concatenate([corner - half, corner + half], axis=-1).reshape(-1, 4))
    return levels


def pyramid_anchors(
    height: int,
    width: int,
    strides: Sequence[int],
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[float],
) -> np.ndarray:
    """Anchors of all levels, centred on the cells of their level.

    Args:
      height: height of the image in pixels.
      width: width of the image in pixels.
      strides: pixels per cell for each level; a level has ⌈height / stride⌉ × ⌈width / stride⌉ cells.
      sizes: for each level, the square roots of its anchors' areas, in pixels.
      ratios: height over width of the anchors, the same at every level.

    Returns:
      float32 `[anchors, 4]`, ordered by level, row, column, size, ratio; anchors at the borders extend beyond
      the image.

    Raises:
      ValueError: if there is not exactly one tuple of sizes per stride.
    """
    if len(strides) != len(sizes):
        raise ValueError(
            f"{len(strides)} strides but {len(sizes)} tuples of sizes; each level needs one of each."
        )
    levels = []
    for stride, of_level in zip(strides, sizes, strict=True):
        pairs = itertools.product(of_level, ratios)
        sides = np.array([(size * ratio**0.5, size / ratio**0.5) for size, ratio in pairs])
        rows = (np.arange(-(-height // stride)) + 0.5) * stride
        columns = (np.arange(-(-width // stride)) + 0.5) * stride
        centres = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)[:, :, None]
        boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=-1)
        levels.append(boxes.reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)
