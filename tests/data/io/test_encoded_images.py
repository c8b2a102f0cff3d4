"""Images decoded as they are read, against the same images decoded by TFDS itself."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from PIL.Image import Resampling

from fsljax.data.io.decode import fit_image
from fsljax.data.io.encoded_images import EncodedImages
from fsljax.data.io.fitting import Fitting
from fsljax.errors import UserError


@pytest.fixture
def encoded(pictures_folder: Path) -> EncodedImages:
    return EncodedImages(
        pictures_folder, ("train", "test"), np.arange(28), 6, 3, int(Image.Resampling.BILINEAR), "v1"
    )


def test_every_image_is_that_of_its_record(encoded: EncodedImages, pictures: np.ndarray):
    np.testing.assert_array_equal(np.asarray(encoded), pictures)
    np.testing.assert_array_equal(np.asarray(encoded, np.float32), pictures.astype(np.float32))


@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        np.int64(25),
        slice(20, 26),
        slice(None, None, -5),
        [3, 3, 27, 0],
        np.array([[3, 3, 27], [0, -1, 8]]),
        np.array([], np.int64),
        np.arange(28) % 4 == 1,
    ],
    ids=str,
)
def test_indices_mean_what_they_mean_in_an_array(encoded: EncodedImages, pictures: np.ndarray, index):
    images = encoded[index]
    np.testing.assert_array_equal(images, pictures[index])
    assert images.dtype == np.uint8
    assert images.shape == pictures[index].shape


def test_an_index_that_is_not_there_is_refused(encoded: EncodedImages):
    with pytest.raises(IndexError):
        encoded[28]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_nothing(encoded: EncodedImages, pictures: np.ndarray, threads: int):
    np.testing.assert_array_equal(encoded.read([5, 1, 26], threads=threads), pictures[[5, 1, 26]])


def test_shape_and_size_are_those_of_the_decoded_images(encoded: EncodedImages, pictures: np.ndarray):
    for name in ("shape", "dtype", "ndim", "size", "nbytes"):
        assert getattr(encoded, name) == getattr(pictures, name), name
    assert len(encoded) == len(pictures)


def test_images_are_resized_and_made_grey(encoded: EncodedImages, pictures: np.ndarray):
    small = dataclasses.replace(encoded, image_size=3, channels=1)
    expected = [Image.fromarray(p).convert("L").resize((3, 3), Image.Resampling.BILINEAR) for p in pictures]
    np.testing.assert_array_equal(small[:][..., 0], np.stack([np.asarray(image) for image in expected]))


def test_a_crop_is_taken_of_the_whole_image(encoded: EncodedImages, pictures_folder: Path):
    cropped = dataclasses.replace(encoded, crop=0.5)
    fitting = Fitting(Resampling(encoded.resampling), crop=0.5)
    for row, example in enumerate(tfds.builder_from_directory(pictures_folder).as_data_source("train")):
        image = Image.fromarray(example["image"])
        expected = fit_image(image, image_size=encoded.image_size, **fitting._asdict())
        np.testing.assert_array_equal(cropped[row], expected)
    assert cropped.fingerprint() != encoded.fingerprint() and not cropped.is_like(encoded)


def test_what_is_taken_and_joined_stays_encoded(encoded: EncodedImages, pictures: np.ndarray):
    joined = encoded.take(np.array([24, 2])).joined(encoded.take(np.array([7])))
    assert isinstance(joined, EncodedImages)
    np.testing.assert_array_equal(np.asarray(joined), pictures[[24, 2, 7]])


def test_images_of_different_sizes_are_not_joined(encoded: EncodedImages):
    with pytest.raises(ValueError, match="different data sets or sizes"):
        encoded.joined(dataclasses.replace(encoded, image_size=5))


def test_a_copy_in_another_process_opens_the_files_anew(encoded: EncodedImages, pictures: np.ndarray):
    assert (encoded[3] == pictures[3]).all()  # the files are open now
    copy = pickle.loads(pickle.dumps(encoded))
    np.testing.assert_array_equal(copy[[3, 25]], pictures[[3, 25]])


def test_the_fingerprint_changes_with_all_that_changes_the_images(encoded: EncodedImages):
    others = [
        encoded,
        encoded.take(np.arange(27)),
        encoded.take(np.roll(np.arange(28), 1)),
        dataclasses.replace(encoded, content="v2"),
        dataclasses.replace(encoded, image_size=5),
        dataclasses.replace(encoded, channels=1),
        dataclasses.replace(encoded, resampling=int(Image.Resampling.BICUBIC)),
    ]
    prints = [other.fingerprint() for other in others]
    assert len(set(prints)) == len(prints)
    assert dataclasses.replace(encoded, folder=Path("elsewhere")).fingerprint() == prints[0]


def test_an_image_that_cannot_be_decoded_is_named(encoded: EncodedImages, tmp_path: Path):
    copy = tmp_path / "pictures"
    shutil.copytree(encoded.folder, copy)
    stored = dataclasses.replace(encoded, folder=copy)
    intact = stored[23]
    file = next(copy.glob("*test.array_record*"))
    content = file.read_bytes()
    # The picture's own header, not those of the record file around it.
    file.write_bytes(content.replace(b"IHDR", b"XHDR"))
    damaged = dataclasses.replace(encoded, folder=copy)
    if file.read_bytes() == content:
        pytest.fail("the pictures are stored in another form: damage them otherwise")
    with pytest.raises(UserError, match=rf"^Image 0 of {file} cannot be read: .* Copy the data set again\.$"):
        damaged[23]
    assert intact.shape == (6, 6, 3)


def test_files_that_are_gone_are_an_error_in_words(encoded: EncodedImages, tmp_path: Path):
    copy = tmp_path / "pictures"
    shutil.copytree(encoded.folder, copy)
    next(copy.glob("*test.array_record*")).unlink()
    with pytest.raises(UserError, match=rf"^The data set in {copy} cannot be opened: "):
        dataclasses.replace(encoded, folder=copy)[0]
