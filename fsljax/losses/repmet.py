"""The RepMet losses (Karlinsky et al., 2019, https://arxiv.org/abs/1806.04728)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.distances import squared_euclidean

VERSIONS = ("v1", "v2", "margin")
LOG_ERROR = 1e-4
"""By how much log p_ij may be off, for the sake of speed."""


class RepMetOutput(NamedTuple):
    """Result of `repmet_loss`.

    Attributes:
      loss: `[]`, mean over the batch.
      example_losses: `[batch]`, 0 where the hinge is inactive.
      posteriors: `[batch, classes]`, soft: each class's share of the sum of all p_ij.
      background: `[batch]`, 1 − max p_ij, the probability of belonging to none of the classes.
    """

    loss: jax.Array
    example_losses: jax.Array
    posteriors: jax.Array
    background: jax.Array


def repmet_loss(
    embeddings: jax.Array,
    labels: jax.Array,
    representatives: jax.Array,
    *,
    sigma: float | jax.Array = 0.5,
    alpha: float = 1.0,
    version: str = "v1",
    squared: bool = False,
    exact: bool = True,
) -> RepMetOutput:
    """RepMet loss of a batch against k representatives per class.

    With D_ij the distance of an embedding E of class c to representative j of class i, and
    p_ij = exp(−D_ij²/2σ²) (equation 1), the loss of an example is

    - "v1": [ −log( max_j p_cj / Σ_{i≠c} Σ_j p_ij ) + α ]₊ , as in the Magnet loss;
    - "v2": [ −log( Σ_j p_cj / Σ_i Σ_j p_ij ) + α ]₊ , cross-entropy of the soft posterior (equation 3); the
      ratio is at most 1, so with α ≥ 0 the hinge is always active;
    - "margin": [ min_j D_cj − min_{i≠c, j} D_ij + α ]₊ (equation 4).

    All are computed in log space: an example far from every representative has a large but finite loss.
    Where an embedding coincides with a representative, the gradient of its distance is 0.

    Args:
      embeddings: `[batch, dim]`.
      labels: int `[batch]`, 0 … classes − 1. When traced, an out-of-range label makes the loss NaN.
      representatives: `[classes, k, dim]`, two classes or more; gradients flow to them too.
      sigma: σ, above 0, a number or `[]`; "margin" uses it for posteriors and background only.
      alpha: α, in units of 2σ², or of the distance for "margin".
      version: "v1", "v2" or "margin".
      squared: "margin" compares squared distances.
      exact: take every distance from differences. Otherwise "v1" and "v2" take them from products, which is
        several times faster, if all log p_ij are then off by less than `LOG_ERROR` or 64 roundings.

    Returns:
      A `RepMetOutput`, float32 (float64 if an input is).

    Raises:
      AssertionError: if shapes don't agree, labels are not integers, there are no examples, no
        representatives, or fewer than two classes.
      ValueError: if `version` is none of these, `squared` is set for a version other than "margin", `sigma`
        is not above 0, or (for concrete, untraced labels) a label is out of range.
    """
    _check(embeddings, labels, representatives, sigma, version, squared)
    kind = jnp.promote_types(jnp.result_type(embeddings, representatives), jnp.float32)
    embeddings, representatives = jnp.asarray(embeddings, kind), jnp.asarray(representatives, kind)
    classes, k, dim = representatives.shape
    labels = jnp.asarray(labels, jnp.int32)
    labels = jnp.where(labels < 0, classes, labels)  # no class's, where it would be the last one's
    flat = representatives.reshape(classes * k, dim)
    exact = exact or version == "margin"
    squares = distances_for(embeddings, flat, sigma, exact=exact).reshape(-1, classes, k)
    nearest = jnp.min(squares, axis=(1, 2))
    logs = log_posteriors(squares, sigma, relative_to=jax.lax.stop_gradient(nearest)[:, None, None])
    others = jnp.arange(classes) != labels[:, None]
    own_squares = _of_own_class(squares, labels)
    if version == "v1":
        gaps = log_posteriors(squares, sigma, relative_to=jnp.min(own_squares, axis=1)[:, None, None])
        ratios = jax.nn.logsumexp(jnp.where(others[..., None], gaps, -jnp.inf), axis=(1, 2))
    elif version == "v2":
        own_class = jax.nn.logsumexp(_of_own_class(logs, labels), axis=1)
        other_classes = jax.nn.logsumexp(jnp.where(others[..., None], logs, -jnp.inf), axis=(1, 2))
        ratios = jax.nn.softplus(other_classes - own_class)
    else:
        own_nearest = labels * k + jnp.argmin(own_squares, axis=1)
        foreign = jnp.where(others[..., None], squares, jnp.inf).reshape(-1, classes * k)
        near, far = (
            jnp.sum(jnp.square(embeddings - jnp.take(flat, chosen, axis=0)), axis=-1)
            for chosen in (own_nearest, jnp.argmin(foreign, axis=1))
        )
        ratios = near - far if squared else root(near) - root(far)
    losses = jnp.where(labels < classes, jax.nn.relu(ratios + alpha), jnp.nan)
    return RepMetOutput(
        loss=jnp.mean(losses),
        example_losses=losses,
        posteriors=jax.nn.softmax(jax.nn.logsumexp(logs, axis=2), axis=1),
        background=-jnp.expm1(log_posteriors(nearest, sigma)),
    )


def log_posteriors(
    squares: jax.Array, sigma: float | jax.Array, *, relative_to: jax.Array | None = None
) -> jax.Array:
    """log p_ij = −D_ij²/2σ² (equation 1), or by how much it is above that of other distances.

    Args:
      squares: `[…]`, squared distances of embeddings to representatives.
      sigma: σ above 0.
      relative_to: `[…]`, squared distances whose log p is taken off. It is done before anything is scaled:
        far from everything, differences keep their digits.

    Returns:
      `[…]`.
    """
    scale = 0.5 / jnp.square(jnp.asarray(sigma, squares.dtype))
    return (-squares if relative_to is None else relative_to - squares) * scale


def distances_for(
    embeddings: jax.Array, representatives: jax.Array, sigma: float | jax.Array, *, exact: bool
) -> jax.Array:
    """Squared distances as exact as log p_ij needs them.

    Args:
      embeddings: `[batch, dim]`.
      representatives: `[m, dim]`.
      sigma: σ.
      exact: all are taken from differences. "margin" needs that: it takes roots, which a small error of a
        small distance changes most.

    Returns:
      `[batch, m]`.
    """
    if exact:
        return squared_distances(embeddings, representatives)
    error = 2 * jnp.square(jnp.asarray(sigma, embeddings.dtype)) * LOG_ERROR
    return squared_distances(embeddings, representatives, jax.lax.stop_gradient(error))


@jax.custom_jvp
def squared_distances(x: jax.Array, y: jax.Array, error: jax.Array | float = 0.0) -> jax.Array:
    """`squared_euclidean`, from products about one of the points where they are exact enough.

    With x and y taken from y_0, ‖x‖² + ‖y‖² − 2x·y is off by a few roundings of ‖x‖² + ‖y‖²: by less than
    six, measured with 1 to 4,096 dimensions; sixteen are assumed. The sum over differences passes over
    `[n, m, dim]` numbers, and its derivative, as written, three times; the gradient is always that of
    products.

    Args:
      x: `[n, dim]`.
      y: `[m, dim]`.
      error: by how much a squared distance may be off, if it is by more than 64 roundings of itself; 0: all
        are taken from differences.

    Returns:
      `[n, m]`, 0 or above.
    """
    if isinstance(error, float) and not error:
        return squared_euclidean(x, y)
    from_x, from_y = x - y[:1], y - y[:1]
    lengths = jnp.sum(jnp.square(from_x), axis=1)[:, None] + jnp.sum(jnp.square(from_y), axis=1)
    squares = jnp.maximum(lengths - 2 * _product(from_x, from_y), 0)
    rounding = float(np.finfo(squares.dtype).eps)
    is_exact = 16 * rounding * lengths <= jnp.maximum(error, 64 * rounding * squares)
    chosen: jax.Array = jax.lax.cond(jnp.all(is_exact), lambda: squares, lambda: squared_euclidean(x, y))
    return chosen


@squared_distances.defjvp
def _squared_distances_jvp(
    primals: tuple[jax.Array, jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x, y, _), (dx, dy, _) = primals, tangents
    x, y = x - y[:1], y - y[:1]
    diagonal_terms = jnp.sum(x * dx, axis=1)[:, None] + jnp.sum(y * dy, axis=1)
    return squared_distances(*primals), 2 * (diagonal_terms - _product(x, dy) - _product(dx, y))


def _product(rows: jax.Array, others: jax.Array) -> jax.Array:
    # What accelerators take for a float32 product otherwise has 8 or 11 bits.
    return jnp.matmul(rows, others.T, precision="highest")


def _of_own_class(values: jax.Array, labels: jax.Array) -> jax.Array:
    """`[batch, k]` of `[batch, classes, k]`; NaN for a label beyond the classes."""
    return jnp.take_along_axis(values, labels[:, None, None], axis=1, mode="fill")[:, 0]


def root(squares: jax.Array) -> jax.Array:
    """Square roots whose gradient at 0 is 0, not infinite."""
    zero = squares == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squares)))


def _check(
    embeddings: jax.Array,
    labels: jax.Array,
    representatives: jax.Array,
    sigma: float | jax.Array,
    version: str,
    squared: bool,
) -> None:
    shapes = [list(np.shape(array)) for array in (embeddings, labels, representatives)]
    given_shapes = "The embeddings are {}, the labels {} and the representatives {}".format(*shapes)
    if [len(shape) for shape in shapes] != [2, 1, 3] or shapes[0][0] != shapes[1][0]:
        raise AssertionError(f"{given_shapes}; they must be [batch, dim], [batch] and [classes, k, dim].")
    if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise AssertionError(f"The labels are {jnp.result_type(labels)}; they must be whole numbers.")
    if shapes[0][1] != shapes[2][2]:
        raise AssertionError(f"{given_shapes}: embeddings and representatives must have as many dimensions.")
    if 0 in shapes[0] or 0 in shapes[2]:
        raise AssertionError(f"{given_shapes}; there must be one or more of each.")
    if shapes[2][0] < 2:
        raise AssertionError(f"{given_shapes}: at least two classes are needed.")
    if version not in VERSIONS:
        raise ValueError(f"version is {version!r}; it can be {', '.join(map(repr, VERSIONS))}.")
    if squared and version != "margin":
        raise ValueError(
            f"squared is for the version 'margin'; {version!r} takes squared distances as it is."
        )
    if isinstance(sigma, int | float) and not sigma > 0:
        raise ValueError(f"sigma is {sigma}; it must be above 0.")
    if not isinstance(labels, jax.core.Tracer):
        known = np.asarray(labels)
        if known.min() < 0 or known.max() >= shapes[2][0]:
            raise ValueError(
                f"The labels lie from {known.min()} to {known.max()}; they must be 0 to {shapes[2][0] - 1}."
            )
