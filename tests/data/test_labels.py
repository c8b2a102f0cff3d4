"""Labels that an application gives."""

from __future__ import annotations

import unicodedata

import pytest

from fsljax.data.labels import listed_labels, spelled_as
from fsljax.errors import UserError

NFC, NFD = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")


@pytest.mark.parametrize("labels", [{"a", "b"}, frozenset("ab"), {"a": 0, "b": 1}, {"a": 0, "b": 1}.items()])
def test_labels_without_an_order_are_refused(labels):
    with pytest.raises(
        UserError, match=r"labels are given as a \w+, which has no order: give a list, one for each"
    ):
        listed_labels(labels, 2)


@pytest.mark.parametrize("labels", [["a", "b"], ("a", "b"), iter("ab"), {"a": 0, "b": 1}.keys()])
def test_labels_in_an_order_are_taken(labels):
    assert listed_labels(labels, 2) == ["a", "b"]


def test_a_label_is_known_in_either_unicode_form():
    assert NFC != NFD
    assert spelled_as([NFD, "a", 3, NFC], [NFC]) == [NFC, "a", 3, NFC]
    assert spelled_as([NFC], [NFD]) == [NFD]
    assert spelled_as([NFD, NFC], []) == [NFD, NFD]
    assert spelled_as(["a", "b"], ["b"]) == ["a", "b"]
