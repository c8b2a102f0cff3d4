"""Draws batches on the device: shuffled examples, or examples of randomly chosen classes."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fsljax.data.samplers.episodes import ClassTable, draw_distinct


def shuffled_rows(key: jax.Array, step: jax.Array | int, count: int, batch: int) -> jax.Array:
    """The batch of a step, int32 `[batch]`: every example once per epoch, reshuffled for each epoch.

    An incomplete batch at the end of an epoch is skipped.
    """
    batches = count // batch
    # Far from the numbers of steps, with which the same key is folded.
    order = jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, 2**31), step // batches), count)
    return jax.lax.dynamic_slice(order, (step % batches * batch,), (batch,))


def draw_classes(
    key: jax.Array, table: ClassTable, *, classes: int, examples: int
) -> tuple[jax.Array, jax.Array]:
    """Distinct classes `[classes]` and rows `[classes, examples]` of each: distinct if it has enough."""
    class_key, distinct_key, any_key = jax.random.split(key, 3)
    chosen = draw_distinct(class_key, len(table.counts), classes)
    counts = jnp.asarray(table.counts)[chosen]
    distinct = jax.vmap(lambda k, limit: draw_distinct(k, limit, examples))(
        jax.random.split(distinct_key, classes), counts
    )
    any_member = jax.random.randint(any_key, (classes, examples), 0, counts[:, None])
    columns = jnp.where(counts[:, None] >= examples, distinct, any_member)
    return chosen, jnp.asarray(table.rows)[chosen[:, None], columns]
