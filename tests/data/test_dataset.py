import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fsljax.data.dataset import ImageDataset, Splits, merge, take_classes, take_rows
from fsljax.data.io.encoded_images import EncodedImages


def dataset(labels, names, size=2, start=0):
    """Images whose pixels all equal their number, counted from `start`."""
    numbers = np.arange(start, start + len(labels), dtype=np.uint8)
    images = np.broadcast_to(numbers[:, None, None, None], (len(labels), size, size, 1)).copy()
    return ImageDataset(images, np.array(labels, np.int32), tuple(names))


def test_counts():
    data = dataset([0, 2, 2, 1, 2], "abc")
    assert len(data) == 5
    assert data.num_classes == 3
    np.testing.assert_array_equal(data.class_counts(), [1, 1, 3])


def test_a_class_without_images_here_counts_zero():
    np.testing.assert_array_equal(dataset([0, 0], "abc").class_counts(), [2, 0, 0])


def test_fingerprint_is_that_of_the_content():
    data = dataset([0, 1, 1], "ab")
    again = dataset([0, 1, 1], "ab")
    assert data.fingerprint() == again.fingerprint()
    strided = np.repeat(data.images, 2, axis=2)[:, :, ::2]
    assert not strided.flags.c_contiguous
    assert ImageDataset(strided, data.labels, data.class_names).fingerprint() == data.fingerprint()


def test_fingerprint_changes_with_pixel_label_order_shape_and_type():
    data = dataset([0, 1, 1], "ab")
    pixel = data.images.copy()
    pixel[2, 1, 1, 0] ^= 1
    order = [1, 0, 2]
    others = [
        dataclasses.replace(data, images=pixel),
        dataclasses.replace(data, labels=np.array([0, 1, 0], np.int32)),
        dataclasses.replace(data, images=data.images[order], labels=data.labels[order]),
        dataclasses.replace(data, images=data.images.reshape(3, 4, 1, 1)),
        dataclasses.replace(data, labels=data.labels.astype(np.int64)),
    ]
    prints = [other.fingerprint() for other in [data, *others]]
    assert len(set(prints)) == len(prints)


def test_fingerprint_of_a_memory_map_is_that_of_the_array(tmp_path):
    data = dataset([0, 1, 1], "ab")
    np.save(tmp_path / "images.npy", data.images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert dataclasses.replace(data, images=mapped).fingerprint() == data.fingerprint()


def test_merge_of_different_classes_puts_them_one_after_another():
    merged = merge(dataset([0, 1], "ab"), dataset([0, 1, 1], "cd", start=2))
    assert merged.class_names == ("a", "b", "c", "d")
    np.testing.assert_array_equal(merged.labels, [0, 1, 2, 3, 3])
    np.testing.assert_array_equal(merged.images[:, 0, 0, 0], [0, 1, 2, 3, 4])
    assert merged.labels.dtype == np.int32


def test_merge_unites_classes_of_one_name():
    first, second = dataset([0, 1, 1], "ab"), dataset([0, 1, 2, 0], "bca", start=3)
    merged = merge(first, second)
    assert merged.class_names == ("a", "b", "c")
    names_before = [*"abb", *"bcab"]
    assert [merged.class_names[label] for label in merged.labels] == names_before
    np.testing.assert_array_equal(merged.class_counts(), [2, 4, 1])


def with_source(data, folder="here", content="v1"):
    source = EncodedImages(Path(folder), ("train",), np.arange(len(data)), 2, 1, 2, content)
    return dataclasses.replace(data, source=source)


def test_a_source_takes_the_place_of_the_pixels_in_the_fingerprint():
    decoded = with_source(dataset([0, 1, 1], "ab"))
    encoded = dataclasses.replace(decoded, images=decoded.source)
    assert encoded.fingerprint() == decoded.fingerprint() != dataset([0, 1, 1], "ab").fingerprint()
    assert with_source(decoded, content="v2").fingerprint() != decoded.fingerprint()
    for rows in ([1, 2], [2, 0]):
        taken = [take_rows(data, np.array(rows)) for data in (decoded, encoded)]
        assert taken[0].fingerprint() == taken[1].fingerprint() != decoded.fingerprint()
        np.testing.assert_array_equal(taken[0].source.records, rows)
    both = merge(decoded, take_rows(decoded, np.array([2])))
    np.testing.assert_array_equal(both.source.records, [0, 1, 2, 2])


def test_images_of_two_sources_have_none():
    data = dataset([0, 1, 1], "ab")
    assert merge(with_source(data), with_source(data, folder="there")).source is None
    assert merge(with_source(data), data).source is None


def test_merge_of_different_sizes_fails():
    with pytest.raises(ValueError, match="dimension"):
        merge(dataset([0], "a", size=2), dataset([0], "b", size=3))


def with_fine(data, labels, names):
    return dataclasses.replace(data, fine_labels=np.array(labels, np.int32), fine_class_names=tuple(names))


def test_there_are_no_fine_labels_unless_given():
    data = dataset([0, 1], "ab")
    assert data.fine_labels is None
    assert data.fine_class_names is None


def test_fine_labels_change_the_fingerprint():
    data = dataset([0, 1, 1], "ab")
    fine = [with_fine(data, labels, "xyz") for labels in ([0, 1, 2], [0, 2, 1])]
    assert len({other.fingerprint() for other in [data, *fine]}) == 3


def test_merge_unites_fine_classes_of_one_name():
    first = with_fine(dataset([0, 0, 1], "ab"), [0, 1, 2], ("x", "y", "z"))
    second = with_fine(dataset([0, 1, 1], "ba"), [1, 2, 0], ("w", "z", "x"))
    merged = merge(first, second)
    assert merged.fine_class_names == ("x", "y", "z", "w")
    assert [merged.fine_class_names[label] for label in merged.fine_labels] == [*"xyz", *"zxw"]
    assert [merged.class_names[label] for label in merged.labels] == [*"aab", *"baa"]
    assert merged.fine_labels.dtype == np.int32


def test_merge_of_parts_that_share_their_classes_keeps_their_numbers():
    merged = merge(dataset([0, 1, 2], "abc"), dataset([2, 0], "abc", start=3))
    assert merged.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(merged.labels, [0, 1, 2, 2, 0])


def test_fine_labels_of_one_data_set_alone_are_refused():
    data = dataset([0, 1], "ab")
    for pair in ((data, with_fine(data, [0, 1], "xy")), (with_fine(data, [0, 1], "xy"), data)):
        with pytest.raises(ValueError, match="has fine labels and the other has none"):
            merge(*pair)


def test_classes_that_are_taken_are_numbered_anew_and_fine_ones_are_not():
    data = with_fine(dataset([0, 1, 2, 1, 0], "abc"), [0, 1, 2, 3, 0], "wxyz")
    taken = take_classes(data, np.array([False, True, True]))
    assert taken.class_names == ("b", "c")
    np.testing.assert_array_equal(taken.labels, [0, 1, 0])
    np.testing.assert_array_equal(taken.images[:, 0, 0, 0], [1, 2, 3])
    np.testing.assert_array_equal(taken.fine_labels, [1, 2, 3])
    assert taken.fine_class_names == data.fine_class_names
    assert taken.labels.dtype == np.int32


@pytest.mark.parametrize("rows", [[1, 2, 3], [3, 1], [2, 2], []])
def test_rows_are_taken_in_their_order(rows):
    data = with_fine(dataset([0, 1, 2, 1, 0], "abc"), [0, 1, 2, 3, 0], "wxyz")
    taken = take_rows(data, np.array(rows, np.int64))
    np.testing.assert_array_equal(taken.images, data.images[rows])
    np.testing.assert_array_equal(taken.labels, data.labels[rows])
    np.testing.assert_array_equal(taken.fine_labels, data.fine_labels[rows])
    assert taken.class_names == data.class_names


def test_rows_in_a_row_stay_in_their_file(tmp_path):
    data = dataset([0, 1, 1, 0], "ab")
    np.save(tmp_path / "images.npy", data.images)
    mapped = dataclasses.replace(data, images=np.load(tmp_path / "images.npy", mmap_mode="r"))
    taken = take_rows(mapped, np.array([1, 2]))
    assert isinstance(taken.images, np.memmap)
    np.testing.assert_array_equal(taken.images, data.images[1:3])


def test_splits_have_no_notes_unless_given():
    data = dataset([0], "a")
    assert Splits(data, data, data).notes == ()
