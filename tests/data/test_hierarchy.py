"""Coarse classes keep the fine ones beside them."""

from __future__ import annotations

import numpy as np
import pytest

from fsljax.data import merge
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.data.hierarchy import choose_classes, groups, unite
from fsljax.errors import UserError

NAMES = tuple(
    f"{alphabet}/character{number}" for alphabet in ("Latin", "Greek", "Thai") for number in range(5)
)


def shared(names: tuple[str, ...] = NAMES) -> Splits:
    """Parts of 3, 1 and 2 images of each class, whose pixel is the number of their class."""

    def part(images: int) -> ImageDataset:
        labels = np.repeat(np.arange(len(names), dtype=np.int32), images)
        return ImageDataset(labels.astype(np.uint8)[:, None, None, None], labels, names)

    return Splits(part(3), part(1), part(2), ("a note",))


def parts_of(splits: Splits) -> tuple[ImageDataset, ImageDataset, ImageDataset]:
    return splits.train, splits.validation, splits.test


@pytest.mark.parametrize("how", ["pairs", "alphabets"])
def test_images_and_fine_labels_stay_and_parts_share_all_classes(how: str):
    before, after = shared(), unite(shared(), how, 0)
    assert after.notes == before.notes
    for old, new in zip(parts_of(before), parts_of(after), strict=True):
        np.testing.assert_array_equal(new.images, old.images)
        np.testing.assert_array_equal(new.fine_labels, old.labels)
        assert new.fine_class_names == NAMES
        assert new.class_names == after.train.class_names
        assert new.labels.dtype == np.int32
        assert set(new.labels) == set(range(new.num_classes))


def test_alphabets_are_the_names_before_the_stroke():
    train = unite(shared(), "alphabets", 0).train
    assert train.class_names == ("Latin", "Greek", "Thai")
    for label, fine in zip(train.labels, train.fine_labels, strict=True):
        assert NAMES[fine].startswith(train.class_names[label] + "/")


def test_pairs_are_two_classes_each_and_one_of_an_odd_number_stays_alone():
    train = unite(shared(), "pairs", 0).train
    members = {
        name: sorted(set(train.fine_labels[train.labels == label]))
        for label, name in enumerate(train.class_names)
    }
    assert sorted(map(len, members.values())) == [1] + [2] * 7
    assert sorted(fine for group in members.values() for fine in group) == list(range(15))
    for name, group in members.items():
        assert name == " + ".join(NAMES[fine] for fine in group)
    firsts = [group[0] for group in members.values()]
    assert firsts == sorted(firsts), "in the order of their first fine classes"


def test_the_seed_decides_the_pairs():
    first, again, other = (unite(shared(), "pairs", seed).train.class_names for seed in (0, 0, 1))
    assert first == again
    assert set(first) != set(other)


def test_pairs_do_not_follow_from_which_classes_are_chosen():
    """Were both by the same hashes, the pairs of chosen classes would be pairs of all classes."""
    names = tuple(f"class {number}" for number in range(100))
    all_pairs = set(unite(shared(names), "pairs", 0).train.class_names)
    few_pairs = set(unite(choose_classes(shared(names), 50, 0), "pairs", 0).train.class_names)
    assert len(few_pairs & all_pairs) < 20


def test_train_and_validation_are_merged_with_their_fine_labels():
    splits = unite(shared(), "pairs", 0)
    merged = merge(splits.train, splits.validation)
    assert merged.class_names == splits.train.class_names
    assert merged.fine_class_names == NAMES
    np.testing.assert_array_equal(
        merged.fine_labels, np.concatenate([splits.train.fine_labels, splits.validation.fine_labels])
    )
    np.testing.assert_array_equal(merged.images[:, 0, 0, 0], merged.fine_labels)


def test_one_class_that_is_left_is_refused():
    with pytest.raises(UserError, match="would merge all 2 classes into one"):
        unite(shared(("a", "b")), "pairs", 0)
    with pytest.raises(UserError, match="would merge all 3 classes into one"):
        unite(shared(("a/1", "a/2", "a/3")), "alphabets", 0)


def test_chosen_classes_are_numbered_anew_and_the_same_in_all_parts():
    splits = choose_classes(shared(), 4, 0)
    for part, images in zip(parts_of(splits), (3, 1, 2), strict=True):
        assert part.num_classes == 4
        assert part.class_names == splits.train.class_names
        np.testing.assert_array_equal(part.class_counts(), [images] * 4)
        assert [NAMES[pixel] for pixel in part.images[:, 0, 0, 0]] == [
            part.class_names[label] for label in part.labels
        ]
    assert [name for name in NAMES if name in splits.test.class_names] == list(splits.test.class_names)


def test_the_seed_decides_which_classes_are_chosen_and_fewer_are_among_more():
    names = [set(choose_classes(shared(), 4, seed).train.class_names) for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
    assert names[0] < set(choose_classes(shared(), 9, 0).train.class_names)
    assert choose_classes(shared(), 15, 0).train.class_names == NAMES


def test_more_classes_than_there_are_are_refused():
    with pytest.raises(UserError, match="max_classes is 16, but there are 15 classes"):
        choose_classes(shared(), 16, 0)


def test_a_group_is_an_alphabet_as_it_is_turned_and_mirrored_or_a_folder():
    names = [
        "Greek/character01",
        "Greek/character02/rot090",
        "Greek/mirrored/character02/rot090",
        "run01/class01",
        "birds/finches/zebra",
        "characters/a",
        "alone",
    ]
    assert groups(names) == [
        "Greek", "Greek/rot090", "Greek/mirrored/rot090", "run01", "birds/finches", "characters", "",
    ]  # fmt: skip
