"""Multinomial logistic regression with an L2 penalty, compiled once for data of about a size."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.classification.heads.common import folds

PENALTIES = (0.0003, 0.001, 0.003, 0.01, 0.03)
"""Strengths of the penalty that are tried, as of embeddings of length 1: 1 / (C · 100) at length 10."""
WITHOUT_CHOICE = 0.003
_ITERATIONS = 100
_FEWEST = 16  # rows and classes are filled up to powers of two, that few programs are compiled
_QUARTERS_FROM = 512
_MOST_OPERATIONS = 4e11  # that choosing may take: a few seconds


def powers(embeddings: np.ndarray) -> np.ndarray:
    """Square roots of embeddings; of negative values 0."""
    return np.sqrt(np.maximum(np.asarray(embeddings, np.float32), 0))


def fit_regression(
    rows: np.ndarray, labels: np.ndarray, *, penalty: float, used: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Weights `[dim, classes]` and bias `[classes]` that minimise Σ −log p + penalty · (‖W‖² + ‖b‖²) / 2.

    Args:
      rows: float32 `[n, dim]`, about of length 1.
      labels: int `[n]`, 0 … classes − 1.
      penalty: its strength.
      used: bool `[n]`; None: all.
    """
    basis, coordinates = _coordinates(rows)
    used = np.ones(len(rows), bool) if used is None else used
    found = _solved(coordinates, labels, used, np.array([penalty]))[0]
    weights = basis @ found
    return weights[:-1].astype(np.float32), weights[-1].astype(np.float32)


def likeliest_penalty(rows: np.ndarray, labels: np.ndarray) -> float:
    """That of `PENALTIES` under which embeddings that are left out by turns are the likeliest.

    A turn leaves out one embedding of each class, or more where there are many; a class with one embedding
    stays in. `WITHOUT_CHOICE` where no class has two.

    Args:
      rows, labels: as of `fit_regression`.
    """
    classes = int(labels.max()) + 1
    cost = 4.0 * _ITERATIONS * len(PENALTIES) * len(rows) * min(rows.shape) * classes
    parts = list(folds(labels, int(np.clip(_MOST_OPERATIONS / cost, 2, 5))))
    if not parts or classes < 2:
        return WITHOUT_CHOICE
    _, coordinates = _coordinates(rows)
    losses = np.zeros(len(PENALTIES))
    for left_out in parts:
        found = _solved(coordinates, labels, ~left_out, np.array(PENALTIES))
        logits = np.einsum("nr,prc->pnc", coordinates[left_out], found)
        highest = logits.max(axis=2, keepdims=True)
        log_sums = np.log(np.exp(logits - highest).sum(axis=2)) + highest[..., 0]
        own = logits[:, np.arange(left_out.sum()), labels[left_out]]
        losses += (log_sums - own).sum(axis=1)
    return PENALTIES[int(np.argmin(losses))]


def _coordinates(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A basis `[dim + 1, r]` of the rows, a 1 at their end, and their coordinates `[n, r]` in it.

    In it the squares of the rows have no mixed terms, so that each coordinate has a step size of its own.
    """
    wide = np.concatenate([np.asarray(rows, np.float64), np.ones((len(rows), 1))], axis=1)
    if len(rows) < wide.shape[1]:
        squares, sides = np.linalg.eigh(wide @ wide.T)
        kept = squares > 1e-9 * squares[-1]
        roots = np.sqrt(squares[kept])
        return wide.T @ (sides[:, kept] / roots), sides[:, kept] * roots
    _, basis = np.linalg.eigh(wide.T @ wide)
    return basis, wide @ basis


def _solved(
    coordinates: np.ndarray, labels: np.ndarray, used: np.ndarray, penalties: np.ndarray
) -> np.ndarray:
    """Coefficients `[p, r, classes]` of the rows `used`, bool `[n]`, for each penalty."""
    count, dims = coordinates.shape
    classes = int(labels.max()) + 1
    size, width, columns = (_filled_up(number) for number in (count, dims, classes))
    filled = np.zeros((size, width), np.float32)
    filled[:count, :dims] = coordinates
    targets = np.zeros((size, columns), np.float32)
    targets[np.arange(count), labels] = 1
    weights = np.zeros(size, np.float32)
    weights[:count] = used
    there = np.arange(columns) < classes
    found = _of_penalties(filled, targets, there, weights, penalties.astype(np.float32))
    return np.asarray(found, np.float64)[:, :dims, :classes]


def solved(
    coordinates: jax.Array, targets: jax.Array, there: jax.Array, used: jax.Array, penalty: jax.Array
) -> jax.Array:
    """Coefficients `[r, classes]`, by steps under a bound of the curvature (Böhning, 1992), accelerated.

    Args:
      coordinates: `[n, r]`, whose squares have no mixed terms.
      targets: `[n, classes]`, 1 at the own class.
      there: bool `[classes]`, those that exist.
      used: `[n]`, 1 or 0.
      penalty: its strength.
    """
    steps = 1 / (0.5 * jnp.sum(jnp.square(coordinates), axis=0) + penalty)[:, None]

    def gradient(coefficients: jax.Array) -> jax.Array:
        logits = jnp.where(there, jnp.matmul(coordinates, coefficients, precision="highest"), -1e30)
        excess = used[:, None] * (jax.nn.softmax(logits, axis=1) - targets)
        return jnp.matmul(coordinates.T, excess, precision="highest") + penalty * coefficients

    def step(_: int, carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        now, ahead, momentum = carry
        following = ahead - steps * gradient(ahead)
        turned = jnp.sum((ahead - following) * (following - now) / steps) > 0
        faster = jnp.where(turned, 1.0, (1 + jnp.sqrt(1 + 4 * jnp.square(momentum))) / 2)
        share = jnp.where(turned, 0.0, (momentum - 1) / faster)
        return following, following + share * (following - now), faster

    start = jnp.zeros((coordinates.shape[1], targets.shape[1]), coordinates.dtype)
    return jax.lax.fori_loop(0, _ITERATIONS, step, (start, start, jnp.ones((), coordinates.dtype)))[0]


_of_penalties = jax.jit(jax.vmap(solved, in_axes=(None, None, None, None, 0)))


def _filled_up(number: int) -> int:
    """A power of two; beyond, in steps of a quarter of one, so that less is computed in vain."""
    power = max(_FEWEST, 1 << (number - 1).bit_length())
    step = power // 8 if power > _QUARTERS_FROM else power
    return -(-number // step) * step
