import hashlib
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsljax.data.class_split import check_fractions, part_sizes, split_classes
from fsljax.errors import UserError

USUAL = (0.64, 0.16, 0.2)


@given(
    st.sets(st.text(max_size=8), min_size=6, max_size=60),
    st.tuples(*[st.integers(1, 20)] * 3),
    st.integers(-5, 5),
    st.integers(1, 2),
)
def test_each_name_is_in_one_part_and_each_part_has_enough(names, weights, seed, at_least):
    fractions = [weight / sum(weights) for weight in weights]
    parts = split_classes(names, fractions, seed, at_least=at_least)
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert all(len(part) >= at_least and list(part) == sorted(part) for part in parts)


@given(st.integers(60, 5000), st.tuples(*[st.integers(1, 20)] * 3))
def test_sizes_are_within_one_of_their_shares(total, weights):
    fractions = [weight / sum(weights) for weight in weights]
    sizes = part_sizes(total, fractions)
    assert sum(sizes) == total
    for size, fraction in zip(sizes, fractions, strict=True):
        assert abs(size - total * fraction) < 1 + 1e-5


@pytest.mark.parametrize(
    ("total", "fractions", "sizes"),
    [
        (200, USUAL, (128, 32, 40)),
        (100, USUAL, (64, 16, 20)),
        (10, USUAL, (6, 2, 2)),
        (3, USUAL, (1, 1, 1)),
        (7, (0.8, 0.0, 0.2), (6, 0, 1)),
        (5, (1, 0, 0), (5, 0, 0)),
        (4, (0.0, 0.5, 0.5), (0, 2, 2)),
    ],
)
def test_sizes_by_largest_remainder(total, fractions, sizes):
    assert part_sizes(total, fractions) == sizes


def test_at_least_is_taken_from_the_largest_part():
    assert part_sizes(6, USUAL) == (4, 1, 1)
    assert part_sizes(6, USUAL, at_least=2) == (2, 2, 2)
    assert part_sizes(50, (0.98, 0.01, 0.01), at_least=5) == (40, 5, 5)


def test_the_rule_is_the_order_of_hashes():
    names = [f"class{i}" for i in range(20)]
    ordered = sorted(names, key=lambda name: hashlib.sha256(f"3/{name}".encode()).digest())
    train, validation, test = split_classes(names, (0.5, 0.2, 0.3), 3)
    assert set(test) == set(ordered[:6])
    assert set(validation) == set(ordered[6:10])
    assert set(train) == set(ordered[10:])


def test_neither_order_nor_repetition_of_names_matters_but_the_seed_does():
    names = [f"class{i}" for i in range(30)]
    first = split_classes(names, USUAL, 0)
    assert split_classes([*reversed(names), *names], USUAL, 0) == first
    assert split_classes(names, USUAL, 1) != first


def test_both_unicode_forms_of_a_name_fall_into_the_same_part():
    composed = [f"é{i}" for i in range(40)]
    decomposed = [unicodedata.normalize("NFD", name) for name in composed]
    for one, other in zip(
        split_classes(composed, USUAL, 0), split_classes(decomposed, USUAL, 0), strict=True
    ):
        assert sorted(one) == sorted(unicodedata.normalize("NFC", name) for name in other)


def test_names_that_are_no_valid_unicode_are_divided():
    assert sum(map(len, split_classes(["\udce9a", "b", "c"], USUAL, 0))) == 3


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.5), (0.5, 0.3, 0.3), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5), ()]
)
def test_fractions_must_be_three_shares(fractions):
    with pytest.raises(UserError, match="sum to 1"):
        check_fractions(fractions)
    with pytest.raises(UserError, match="sum to 1"):
        split_classes(["a", "b", "c"], fractions, 0)


def test_too_few_names():
    with pytest.raises(UserError, match="2 cannot be split into 3 parts"):
        split_classes(["a", "b"], USUAL, 0)
    with pytest.raises(UserError, match="6 are needed"):
        split_classes("abcde", USUAL, 0, at_least=2)
