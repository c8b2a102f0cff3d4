"""The heads as rules of an episode: they name queries by a support, compiled with the episode.

Each names what the head of its name would, were the support enrolled: on unit-length means (`prototype`), on
centred ones (`centered`), by RepMet's posteriors with the σ that is the likeliest for the support
(`representatives`). `logistic` differs in one thing: its penalty is not chosen in every episode anew, which
takes twenty-five regressions, but that which the head takes for one embedding a class.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.classification.heads.posteriors import SIGMA_WITHOUT_CHOICE, SIGMAS
from fsljax.classification.heads.regression import WITHOUT_CHOICE, solved
from fsljax.distances import normalize
from fsljax.evaluation.episodic import Classify

_SMALLEST_SHARE = 1e-6  # of the largest eigenvalue: float32 knows no smaller ones


def prototype(support: jax.Array, queries: jax.Array) -> jax.Array:
    """Classes int32 `[way, queries]` by the cosine to the mean of each class's unit-length embeddings.

    Args:
      support: `[way, shot, dim]`.
      queries: `[way, queries, dim]`.
    """
    means = normalize(jnp.mean(normalize(support), axis=1))
    return jnp.argmax(_products(queries, means), axis=-1)


def centered(support: jax.Array, queries: jax.Array) -> jax.Array:
    """The same by the nearest mean, once the mean of all unit-length embeddings is taken off."""
    support, queries = _centred(support, queries)
    means = jnp.mean(support, axis=1)
    return jnp.argmax(_products(queries, means) - 0.5 * jnp.sum(jnp.square(means), axis=-1), axis=-1)


def representatives(support: jax.Array, queries: jax.Array) -> jax.Array:
    """The same by Σ_j exp(−D_ij² / 2σ²) over the centred embeddings j of each class i."""
    support, queries = _centred(support, queries)
    way, shot, dim = support.shape
    sigma = _likeliest_sigma(support) if shot > 1 else SIGMA_WITHOUT_CHOICE
    squares = jnp.maximum(2 - 2 * _products(queries, support.reshape(way * shot, dim)), 0)
    logits = (-squares / (2 * sigma**2)).reshape(*queries.shape[:2], way, shot)
    return jnp.argmax(jax.nn.logsumexp(logits, axis=-1), axis=-1)


def logistic(support: jax.Array, queries: jax.Array) -> jax.Array:
    """The same by multinomial logistic regression on centred roots of the embeddings.

    Roots are taken where the support has no negative value.
    """
    roots = jnp.all(support >= 0)

    def powered(rows: jax.Array) -> jax.Array:
        return jnp.where(roots, jnp.sqrt(jnp.maximum(rows, 0)), rows)

    support, queries = _centred(powered(support), powered(queries))
    way, shot, dim = support.shape
    rows = _with_one(support.reshape(way * shot, dim))
    squares, sides = jnp.linalg.eigh(jnp.matmul(rows, rows.T, precision="highest"))
    kept = squares > _SMALLEST_SHARE * squares[-1]
    lengths = jnp.sqrt(jnp.where(kept, squares, 1.0))
    basis = jnp.matmul(rows.T, jnp.where(kept, sides / lengths, 0), precision="highest")
    targets = jnp.repeat(jnp.eye(way), shot, axis=0)
    coefficients = solved(
        jnp.where(kept, sides * lengths, 0),
        targets,
        jnp.ones(way, bool),
        jnp.ones(way * shot),
        jnp.float32(WITHOUT_CHOICE),
    )
    weights = jnp.matmul(basis, coefficients, precision="highest")
    return jnp.argmax(_products(_with_one(queries), weights.T), axis=-1)


RULES: Mapping[str, Classify] = MappingProxyType(
    {"prototype": prototype, "centered": centered, "logistic": logistic, "representatives": representatives}
)
"""The rule of each of `fsljax.classification.heads.HEADS`."""


def _products(queries: jax.Array, rows: jax.Array) -> jax.Array:
    return jnp.einsum("wqd,rd->wqr", queries, rows, precision="highest")


def _centred(support: jax.Array, queries: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean = jnp.mean(normalize(support), axis=(0, 1))
    return normalize(normalize(support) - mean), normalize(normalize(queries) - mean)


def _with_one(rows: jax.Array) -> jax.Array:
    return jnp.concatenate([rows, jnp.ones((*rows.shape[:-1], 1), rows.dtype)], axis=-1)


def _likeliest_sigma(support: jax.Array) -> jax.Array:
    """The σ under which the embeddings of a support are the likeliest, each left out."""
    way, shot, dim = support.shape
    rows, labels = support.reshape(way * shot, dim), np.repeat(np.arange(way), shot)
    squares = jnp.maximum(2 - 2 * jnp.matmul(rows, rows.T, precision="highest"), 0)
    squares = jnp.where(jnp.eye(way * shot, dtype=bool), jnp.inf, squares)
    own = jnp.where(labels[:, None] == labels, squares, jnp.inf)

    def loss(sigma: jax.Array) -> jax.Array:
        scale = -1 / (2 * sigma**2)
        return jnp.mean(jax.nn.logsumexp(squares * scale, axis=1) - jax.nn.logsumexp(own * scale, axis=1))

    sigmas = jnp.asarray(SIGMAS, jnp.float32)
    return sigmas[jnp.argmin(jax.vmap(loss)(sigmas))]
