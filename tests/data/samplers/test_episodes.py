"""Episodes: what is drawn, how evenly, and from where."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from fsljax.data.samplers.episodes import (
    ClassTable,
    class_table,
    draw_distinct,
    draw_episode,
    draw_episodes,
    draw_grouped_classes,
    groups_of,
)

COUNTS = np.array([4, 7, 3, 5, 3])
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), COUNTS))
SIZES = {"way": 3, "shot": 1, "queries": 2}
few_examples = settings(max_examples=25, deadline=None)

draw = jax.jit(draw_episodes, static_argnums=2, static_argnames=("way", "shot", "queries"))


def poisoned(table: ClassTable) -> ClassTable:
    """Beyond each class's count stands what no image has as its position."""
    beyond = np.arange(table.rows.shape[1]) >= table.counts[:, None]
    return table._replace(rows=np.where(beyond, -1_000_000, table.rows))


def assert_even(drawn: list, possible: int) -> None:
    """Pearson's χ² of equal frequencies lies within 5 standard deviations of its mean."""
    expected = len(drawn) / possible
    counts = Counter(drawn)
    assert len(counts) <= possible
    statistic = sum((n - expected) ** 2 / expected for n in counts.values())
    statistic += (possible - len(counts)) * expected
    assert abs(statistic - (possible - 1)) < 5 * np.sqrt(2 * (possible - 1))


def test_the_table_lists_the_images_of_each_class():
    table = class_table(LABELS)
    assert table.rows.dtype == table.counts.dtype == np.int32
    np.testing.assert_array_equal(table.counts, COUNTS)
    for label, (rows, count) in enumerate(zip(table.rows, table.counts, strict=True)):
        np.testing.assert_array_equal(rows[:count], np.flatnonzero(label == LABELS))


def test_a_class_without_images_has_an_empty_row():
    table = class_table(np.array([2, 0, 2]))
    assert table.counts.tolist() == [1, 0, 2]
    assert table.rows[2].tolist() == [0, 2]


class DrawTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters((1, 1), (5, 1), (5, 5), (40, 17))
    def test_integers_are_distinct_and_below_the_limit(self, limit: int, count: int):
        draw_each = self.variant(jax.vmap(lambda key: draw_distinct(key, limit, count)))
        drawn = np.asarray(draw_each(jax.random.split(jax.random.key(0), 50)))
        assert drawn.dtype == np.int32
        assert drawn.shape == (50, count)
        assert drawn.min() >= 0
        assert drawn.max() < limit
        assert all(len(set(each)) == count for each in drawn.tolist())

    @chex.variants(with_jit=True, without_jit=True)
    def test_a_traced_limit_draws_what_a_python_number_draws(self):
        key = jax.random.key(3)
        traced = self.variant(lambda limit: draw_distinct(key, limit, 3))(jnp.int32(9))
        np.testing.assert_array_equal(traced, draw_distinct(key, 9, 3))

    @chex.variants(with_jit=True, without_jit=True)
    def test_episodes_hold_distinct_images_of_distinct_classes_and_nothing_beyond_a_count(self):
        table = poisoned(class_table(LABELS))
        of_variant = self.variant(lambda key, table: draw_episodes(key, table, 200, **SIZES))
        classes, images = map(np.asarray, of_variant(jax.random.key(0), table))
        assert classes.dtype == images.dtype == np.int32
        assert classes.shape == (200, 3)
        assert images.shape == (200, 3, 3)
        assert all(len(set(each)) == 3 for each in classes.tolist())
        assert all(len(set(each)) == 9 for each in images.reshape(200, -1).tolist())
        assert images.min() >= 0
        np.testing.assert_array_equal(LABELS[images], np.broadcast_to(classes[..., None], images.shape))
        assert set(images.ravel().tolist()) == set(range(len(LABELS))), "every image has its turn"

    @chex.variants(with_jit=True, without_jit=True)
    def test_many_episodes_are_single_episodes_of_split_keys(self):
        table, key = class_table(LABELS), jax.random.key(4)
        draw_one = self.variant(lambda key: draw_episode(key, table, **SIZES))
        looped = [draw_one(each) for each in jax.random.split(key, 5)]
        chex.assert_trees_all_equal(
            draw(key, table, 5, **SIZES), jax.tree.map(lambda *parts: np.stack(parts), *looped)
        )


def test_every_ordered_selection_is_equally_likely():
    keys = jax.random.split(jax.random.key(0), 24_000)
    drawn = jax.jit(jax.vmap(lambda key: draw_distinct(key, 4, 3)))(keys)
    selections = list(map(tuple, np.asarray(drawn).tolist()))
    assert set(selections) == set(permutations(range(4), 3))
    assert_even(selections, possible=24)


def test_every_image_of_a_ragged_table_is_equally_likely_to_be_support_and_to_be_query():
    table = class_table(LABELS)
    classes, images = map(np.asarray, draw(jax.random.key(1), table, 20_000, way=2, shot=1, queries=1))
    assert_even(list(map(tuple, classes.tolist())), possible=5 * 4)
    for label, count in enumerate(COUNTS):
        pairs = list(map(tuple, images[classes == label].tolist()))
        assert_even(pairs, possible=count * (count - 1))


def test_the_images_of_one_class_tell_nothing_of_those_of_another():
    table = class_table(np.repeat([0, 1], 3))
    images = np.asarray(draw(jax.random.key(2), table, 9_000, way=2, shot=1, queries=1).images)
    assert_even(list(map(tuple, np.sort(images[:, :, 0], axis=1).tolist())), possible=9)


@few_examples
@given(seed=st.integers(0, 2**31))
def test_a_wider_table_of_the_same_images_changes_nothing(seed: int):
    """What is drawn depends on counts, not on how far the rows are filled up."""
    table = class_table(LABELS)
    wider = table._replace(rows=np.pad(table.rows, ((0, 0), (0, 4)), constant_values=-1))
    key = jax.random.key(seed)
    chex.assert_trees_all_equal(draw(key, wider, 5, **SIZES), draw(key, table, 5, **SIZES))


@few_examples
@given(seed=st.integers(0, 2**31))
def test_renumbered_images_are_drawn_in_the_same_places(seed: int):
    table, key = class_table(LABELS), jax.random.key(seed)
    numbers = np.random.default_rng(seed).permutation(len(LABELS)).astype(np.int32)
    renumbered = draw(key, table._replace(rows=numbers[table.rows]), 5, **SIZES)
    expected = draw(key, table, 5, **SIZES)
    chex.assert_trees_all_equal(renumbered, expected._replace(images=numbers[expected.images]))


def test_the_key_alone_decides():
    table = class_table(LABELS)
    first, again, other = (draw(jax.random.key(k), table, 5, **SIZES) for k in (0, 0, 1))
    chex.assert_trees_all_equal(first, again)
    assert np.any(first.images != other.images)
    assert len({episode.tobytes() for episode in np.asarray(first.images)}) == 5


def test_a_table_on_the_device_gives_the_same_as_one_of_numpy_arrays():
    table, key = class_table(LABELS), jax.random.key(0)
    on_device = jax.tree.map(jnp.asarray, table)
    chex.assert_trees_all_equal(draw_episodes(key, table, 5, **SIZES), draw(key, on_device, 5, **SIZES))


def test_more_than_there_are_is_refused():
    table, key = class_table(LABELS), jax.random.key(0)
    with pytest.raises(ValueError, match="4 distinct integers below 3"):
        draw_distinct(key, 3, 4)
    with pytest.raises(ValueError, match="6 distinct integers below 5"):
        draw_episodes(key, table, 2, way=6, shot=1, queries=1)
    with pytest.raises(ValueError, match=r"shot 3 \+ queries 5 exceed the largest class, 7 images"):
        jax.jit(lambda key: draw_episode(key, table, way=2, shot=3, queries=5))(key)


def test_one_limit_is_taken():
    with pytest.raises(AssertionError, match="rank"):
        draw_distinct(jax.random.key(0), jnp.array([3, 4]), 2)


GROUP_LABELS = np.array([0, 1, 0, 2, 1, 0, 1, 2, 1, 0])  # 4, 4 and 2 classes


def grouped(share: float, count: int = 4_000) -> np.ndarray:
    """Drawn classes `[count, 3]` of ten in three groups, of which the third is too small."""
    groups = groups_of(GROUP_LABELS, way=3, share=share)
    beyond = np.arange(groups.members.shape[1]) >= groups.counts[:, None]
    groups = groups._replace(members=np.where(beyond, -1_000_000, groups.members))
    keys = jax.random.split(jax.random.key(7), count)
    return np.asarray(jax.jit(jax.vmap(lambda key: draw_grouped_classes(key, groups, 10, 3)))(keys))


def test_classes_within_groups_are_of_one_that_is_large_enough_and_every_selection_is_as_likely():
    drawn = grouped(1.0)
    assert (np.ptp(GROUP_LABELS[drawn], axis=1) == 0).all()
    assert set(GROUP_LABELS[drawn[:, 0]]) == {0, 1}
    assert_even([tuple(row) for row in drawn.tolist()], 2 * 24)


def test_larger_groups_are_drawn_more_often():
    groups = groups_of(np.repeat([0, 1], [3, 9]), way=2)
    keys = jax.random.split(jax.random.key(3), 4_000)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: draw_grouped_classes(key, groups, 12, 2)))(keys))
    assert_even(drawn.reshape(-1).tolist(), 12)


def test_a_share_of_episodes_is_within_groups_and_the_rest_is_of_all_classes():
    drawn = grouped(0.5)
    distinct = np.array([len(set(row)) for row in drawn.tolist()])
    assert (distinct == 3).all()
    within = np.mean(np.ptp(GROUP_LABELS[drawn], axis=1) == 0)
    # Of 120 selections among all, 8 are within a group.
    assert abs(within - (0.5 + 0.5 * 8 / 120)) < 5 * 0.5 / np.sqrt(len(drawn))
    assert set(grouped(0.0).reshape(-1).tolist()) == set(range(10))


def test_groups_that_are_all_too_small_are_refused():
    with pytest.raises(ValueError, match="No group has 5 classes; the largest has 4"):
        groups_of(GROUP_LABELS, way=5)


def test_without_groups_episodes_are_what_they_were():
    table, key = class_table(LABELS), jax.random.key(1)
    groups = groups_of(np.zeros(5, np.int32), way=3)
    within = draw_episodes(key, table, 20, **SIZES, groups=groups)
    assert within.images.shape == draw(key, table, 20, **SIZES).images.shape
    np.testing.assert_array_equal(LABELS[np.asarray(within.images)], within.classes[..., None].repeat(3, -1))
