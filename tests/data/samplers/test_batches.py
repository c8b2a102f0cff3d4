"""What a step's batch holds, for the methods that don't draw episodes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.data.samplers.batches import draw_classes, shuffled_rows
from fsljax.data.samplers.episodes import class_table


def test_every_example_passes_once_before_any_comes_again():
    key = jax.random.key(0)
    rows = [np.asarray(shuffled_rows(key, jnp.int32(step), 20, 4)) for step in range(10)]
    first, second = np.concatenate(rows[:5]), np.concatenate(rows[5:])
    assert sorted(first) == sorted(second) == list(range(20))
    assert not np.array_equal(first, second)


def test_classes_of_a_batch_are_distinct_and_so_are_their_examples_where_there_are_enough():
    labels = np.repeat(np.arange(5), [1, 2, 3, 4, 5])
    for seed in range(20):
        classes, rows = draw_classes(jax.random.key(seed), class_table(labels), classes=4, examples=3)
        assert len(set(classes.tolist())) == 4
        for label, members in zip(classes, rows, strict=True):
            assert (labels[members] == label).all()
            if label >= 2:
                assert len(set(members.tolist())) == 3
