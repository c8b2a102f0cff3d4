"""Every row passes once, and every batch has one size."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.data.batches import batches_of, embed_in_batches, fill_rows


def test_rows_are_repeated_from_the_first():
    rows = np.array([[1, 10], [2, 20]], np.uint8)
    filled = fill_rows(rows, 5)
    assert filled.tolist() == [[1, 10], [2, 20], [1, 10], [2, 20], [1, 10]]
    assert filled.dtype == np.uint8
    np.testing.assert_array_equal(fill_rows(rows, 2), rows)


@pytest.mark.parametrize("count", [0, 4])
def test_nothing_and_too_much_cannot_be_filled_up(count: int):
    with pytest.raises(ValueError, match=f"{count} rows cannot be padded to 3"):
        fill_rows(np.zeros((count, 2)), 3)


@pytest.mark.parametrize(("count", "size"), [(7, 3), (6, 3), (2, 5), (1, 1), (0, 4)])
def test_real_positions_of_all_batches_are_all_positions_in_order(count: int, size: int):
    batches = list(batches_of(count, size))
    assert [position for rows, real in batches for position in rows[:real]] == list(range(count))
    assert all(len(rows) == size for rows, _ in batches)


def test_the_last_batch_goes_on_from_the_beginning():
    rows, real = list(batches_of(7, 3))[-1]
    assert (rows.tolist(), real) == ([6, 0, 1], 1)
    rows, real = next(batches_of(2, 5))
    assert (rows.tolist(), real) == ([0, 1, 0, 1, 0], 2)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 24])
def test_images_are_embedded_in_batches_of_one_shape(count: int):
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 1)).astype(np.uint8)
    shapes = []

    @jax.jit
    def embed(batch: jax.Array) -> jax.Array:
        shapes.append(batch.shape)
        flat = batch.reshape(len(batch), -1).astype(jnp.float32)
        return jnp.stack([flat.sum(axis=1), flat[:, 0]], axis=1)

    ours = embed_in_batches(embed, images, batch=8)
    assert shapes == [(8, 4, 4, 1)], "one compilation"
    assert ours.dtype == np.float32
    flat = np.float32(images.reshape(count, -1))
    np.testing.assert_allclose(ours, np.stack([flat.sum(axis=1), flat[:, 0]], axis=1))


def test_embeddings_of_another_type_come_as_float32():
    images = np.full((3, 4, 4, 1), 5, np.uint8)
    ours = embed_in_batches(lambda batch: jnp.asarray(batch[:, 0, 0], jnp.bfloat16), images, batch=2)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, np.full((3, 1), 5))
