import dataclasses

import numpy as np
import pytest

from fsljax.data.dataset import ImageDataset, Splits, merge


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


def test_merge_of_different_sizes_fails():
    with pytest.raises(ValueError, match="dimension"):
        merge(dataset([0], "a", size=2), dataset([0], "b", size=3))


def test_splits_have_no_notes_unless_given():
    data = dataset([0], "a")
    assert Splits(data, data, data).notes == ()
