"""Embeddings in two dimensions, for maps: principal components and exact t-SNE."""

from __future__ import annotations

import numpy as np


def principal_components(points: np.ndarray, dimensions: int = 2) -> np.ndarray:
    """Coordinates of points `[n, dim]` along their directions of greatest variance, `[n, dimensions]`.

    Signs are fixed so that the same points give the same map; missing directions are zero.
    """
    points = np.asarray(points, np.float64)
    centred = points - points.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:dimensions]
    largest = np.abs(directions).argmax(1)
    directions = directions * np.sign(directions[np.arange(len(directions)), largest])[:, None]
    coordinates = np.zeros((len(points), dimensions))
    coordinates[:, : len(directions)] = centred @ directions.T
    return coordinates


def tsne(points: np.ndarray, *, perplexity: float = 20.0, iterations: int = 500, seed: int = 0) -> np.ndarray:
    """Exact t-SNE (van der Maaten and Hinton 2008) of points `[n, dim]` → `[n, 2]`, deterministic.

    Time and memory grow with n²: meant for some hundred points. Starts from the principal components;
    the seed only separates points that coincide.
    """
    count = len(points)
    if count < 5:
        return principal_components(points)
    affinities = _affinities(principal_components(points, 50), min(perplexity, (count - 1) / 3))
    generator = np.random.default_rng(seed)
    layout = principal_components(points)
    layout = 1e-2 * layout / (layout.std() + 1e-12) + 1e-4 * generator.standard_normal((count, 2))
    velocity, gains = np.zeros_like(layout), np.ones_like(layout)
    learning_rate = max(count / 48, 20.0)
    for iteration in range(iterations):
        early = iteration < iterations // 4
        kernel = 1 / (1 + _squared_distances(layout))
        np.fill_diagonal(kernel, 0)
        force = ((12 if early else 1) * affinities - kernel / kernel.sum()) * kernel
        gradient = 4 * (force.sum(1)[:, None] * layout - force @ layout)
        gains = np.where(np.sign(gradient) != np.sign(velocity), gains + 0.2, gains * 0.8).clip(0.01)
        velocity = (0.5 if early else 0.8) * velocity - learning_rate * gains * gradient
        layout = layout + velocity
        layout -= layout.mean(0)
    return layout


def _squared_distances(points: np.ndarray) -> np.ndarray:
    norms = (points**2).sum(1)
    return np.maximum(norms[:, None] + norms - 2 * points @ points.T, 0)


def _affinities(points: np.ndarray, perplexity: float) -> np.ndarray:
    """Symmetric neighbour probabilities `[n, n]`; each row's width is found by bisection on its entropy."""
    distances = _squared_distances(points)
    np.fill_diagonal(distances, np.inf)
    distances -= distances.min(1, keepdims=True)
    scale = np.median(distances[np.isfinite(distances)]) or 1.0
    low, high = np.full((len(points), 1), -20.0), np.full((len(points), 1), 20.0)
    finite = np.where(np.isfinite(distances), distances, 0)
    for _ in range(40):
        precision = np.exp((low + high) / 2) / scale
        weights = np.exp(-distances * precision)
        total = weights.sum(1, keepdims=True)
        entropy = np.log(total) + precision * (finite * weights).sum(1, keepdims=True) / total
        too_wide = entropy > np.log(perplexity)
        low, high = np.where(too_wide, (low + high) / 2, low), np.where(too_wide, high, (low + high) / 2)
    probabilities = weights / total
    return np.maximum((probabilities + probabilities.T) / (2 * len(points)), 1e-12)
