"""Baselines on frozen features: nearest class mean, and multinomial logistic regression.

An embedding learned on top of frozen features should be compared with these baselines on the same features.
Features are first normalised to length 1. A class without an example is never predicted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fsljax.distances import normalize, squared_euclidean
from fsljax.errors import UserError
from fsljax.evaluation.arrays import checked_labels, checked_rows, in_blocks

_ROWS_A_BLOCK = 1024
_IMPOSSIBLE = -1e30  # a logit whose exponential is 0, where −inf would make gradients NaN

Array = jax.Array | np.ndarray


class LogisticRegression(NamedTuple):
    """Result of `fit_logistic_regression`.

    Attributes:
      weights: float32 `[dim, classes]`.
      bias: float32 `[classes]`.
      scale: length that features are normalised to.
      loss: final mean objective; see `fit_logistic_regression`.
      gradient: largest absolute component of its gradient at the end.
      iterations: number of L-BFGS iterations.
    """

    weights: np.ndarray
    bias: np.ndarray
    scale: float
    loss: float
    gradient: float
    iterations: int

    def predict(self, features: Array) -> np.ndarray:
        """Predicted classes, int32 `[n]`, of features `[n, dim]`."""
        rows = checked_rows(features, "features")
        if rows.shape[1] != len(self.weights):
            raise UserError(
                f"The features are {list(rows.shape)}; this regression was fitted on rows of "
                f"{len(self.weights)}: both must come from the same network."
            )
        return _in_blocks(partial(_most_likely, weights=self.weights, bias=self.bias, scale=self.scale), rows)


def nearest_class_mean(features: Array, labels: Array, queries: Array, *, num_classes: int) -> np.ndarray:
    """Class with the nearest mean, by squared Euclidean distance between normalised features.

    Args:
      features: `[n, dim]`, features of training examples.
      labels: `[n]`, their classes.
      queries: `[m, dim]`, features to classify.
      num_classes: number of classes.

    Returns:
      int32 `[m]`; ties go to the lower class.

    Raises:
      UserError: if the shapes do not match, a label is out of range, or a value is not finite.
    """
    features, labels = _training_set(features, labels, num_classes)
    queries = _of_same_network(queries, features)
    means = np.full((num_classes, features.shape[1]), np.inf, np.float32)
    unit = np.asarray(normalize(jnp.asarray(features)))
    for label in np.unique(labels):
        means[label] = unit[labels == label].mean(axis=0, dtype=np.float64)
    return _in_blocks(partial(_nearest, means=means), queries)


def fit_logistic_regression(
    features: Array,
    labels: Array,
    *,
    num_classes: int,
    c: float = 3.0,
    scale: float = 10.0,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
) -> LogisticRegression:
    """Multinomial logistic regression with an L2 penalty on the weights, by L-BFGS until convergence.

    Minimises 1/n Σ_i −log softmax(W x_i + b)[y_i] + ‖W‖² / (2 C n), the objective of scikit-learn's
    `LogisticRegression` divided by C n; x_i are the features normalised to length `scale`.

    Args:
      features: `[n, dim]`.
      labels: `[n]`, classes.
      num_classes: number of classes.
      c: the inverse strength of the penalty, above 0.
      scale: length of the features.
      tolerance: converged when no component of the gradient is larger in absolute value.
      max_iterations: maximum number of iterations.

    Raises:
      UserError: if the shapes do not match, a label is out of range, a value is not finite, fewer than two
        classes have examples, or `c` is not above 0.
    """
    features, labels = _training_set(features, labels, num_classes)
    present = np.bincount(labels, minlength=num_classes) > 0
    if present.sum() < 2:
        raise UserError("Logistic regression needs examples of at least two classes, but all are of one.")
    if not 0 < c < np.inf:
        raise UserError(f"The inverse penalty c is {c}; it must be above 0 and finite.")
    params, loss, gradient, iterations = _minimize(
        jnp.asarray(features), labels, present, 1 / (c * len(labels)), scale, tolerance, max_iterations
    )
    weights, bias = (np.asarray(part) for part in params)
    return LogisticRegression(weights, bias, scale, float(loss), float(gradient), int(iterations))


@partial(jax.jit, static_argnames="max_iterations")
def _minimize(
    features: jax.Array,
    labels: jax.Array,
    present: jax.Array,
    penalty: float,
    scale: float,
    tolerance: float,
    max_iterations: int,
) -> tuple[tuple[jax.Array, jax.Array], jax.Array, jax.Array, jax.Array]:
    features = scale * normalize(features)

    def objective(params: tuple[jax.Array, jax.Array]) -> jax.Array:
        weights, bias = params
        logits = jnp.where(present, _logits(features, weights, bias), _IMPOSSIBLE)
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.mean(cross_entropy) + penalty / 2 * jnp.sum(jnp.square(weights))

    optimizer = optax.lbfgs()
    value_and_gradient = optax.value_and_grad_from_state(objective)

    def largest(gradient: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jnp.max(jnp.stack([jnp.max(jnp.abs(part)) for part in gradient]))

    def step(carry: tuple) -> tuple:
        params, state, _, _, moved, iterations = carry
        value, gradient = value_and_gradient(params, state=state)
        updates, state = optimizer.update(
            gradient, state, params, value=value, grad=gradient, value_fn=objective
        )
        moved = largest(updates) > 0
        params = optax.apply_updates(params, updates)
        value, gradient = (optax.tree_utils.tree_get(state, name) for name in ("value", "grad"))
        return params, state, value, largest(gradient), moved, iterations + 1

    def unfinished(carry: tuple) -> jax.Array:
        _, _, _, gradient, moved, iterations = carry
        return (gradient > tolerance) & moved & (iterations < max_iterations)

    classes, dim = present.shape[0], features.shape[1]
    params = (jnp.zeros((dim, classes)), jnp.zeros(classes))
    start = (
        params,
        optimizer.init(params),
        jnp.float32(jnp.inf),
        jnp.float32(jnp.inf),
        jnp.array(True),
        jnp.int32(0),
    )
    params, _, loss, gradient, _, iterations = jax.lax.while_loop(unfinished, step, start)
    bias = jnp.where(present, params[1], _IMPOSSIBLE)
    return (params[0], bias), loss, gradient, iterations


def _logits(features: jax.Array, weights: jax.Array, bias: jax.Array) -> jax.Array:
    return jnp.matmul(features, weights, precision="highest") + bias


@jax.jit
def _most_likely(features: jax.Array, weights: jax.Array, bias: jax.Array, scale: float) -> jax.Array:
    return jnp.argmax(_logits(scale * normalize(features), weights, bias), axis=-1)


@jax.jit
def _nearest(queries: jax.Array, means: jax.Array) -> jax.Array:
    return jnp.argmin(squared_euclidean(normalize(queries), means), axis=-1)


def _in_blocks(compiled: Callable[..., jax.Array], rows: np.ndarray) -> np.ndarray:
    predictions = np.empty(len(rows), np.int32)
    for where, classes in in_blocks(compiled, rows, size=min(len(rows), _ROWS_A_BLOCK)):
        predictions[where] = classes
    return predictions


def _training_set(features: Array, labels: Array, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    features = checked_rows(features, "features")
    return features, checked_labels(labels, len(features), "labels", num_classes=num_classes)


def _of_same_network(queries: Array, features: np.ndarray) -> np.ndarray:
    queries = checked_rows(queries, "queries")
    if queries.shape[1] != features.shape[1]:
        raise UserError(
            f"The features are {list(features.shape)} and the queries {list(queries.shape)}: both must come "
            "from the same network."
        )
    return queries
