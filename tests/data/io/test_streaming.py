"""Streamed batches are those that an array in memory gives."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsljax.data.io.encoded_images import EncodedImages
from fsljax.data.io.streaming import fits, read, stream
from fsljax.errors import UserError

ROWS = np.random.default_rng(0).integers(0, 28, (9, 4))


@pytest.fixture(params=["array", "mapped file", "encoded"])
def source(request, pictures_folder: Path, pictures: np.ndarray, tmp_path: Path):
    if request.param == "array":
        return pictures
    if request.param == "mapped file":
        np.save(tmp_path / "pictures.npy", pictures)
        return np.load(tmp_path / "pictures.npy", mmap_mode="r")
    return encoded_pictures(pictures_folder)


def encoded_pictures(folder: Path) -> EncodedImages:
    resampling = int(Image.Resampling.BILINEAR)
    return EncodedImages(folder, ("train", "test"), np.arange(28), 6, 3, resampling, "")


@pytest.mark.parametrize("prefetch", [0, 1, 3, 20])
def test_batches_are_those_of_the_array_in_memory(source, pictures: np.ndarray, prefetch: int):
    batches = list(stream(source, ROWS, prefetch=prefetch))
    np.testing.assert_array_equal(np.stack(batches), pictures[ROWS])
    assert all(batch.dtype == np.uint8 and type(batch[...]) is np.ndarray for batch in batches)


@pytest.mark.parametrize("start", [1, 8, 9])
def test_a_run_goes_on_at_any_step(source, pictures: np.ndarray, start: int):
    batches = list(stream(source, ROWS, start=start))
    assert len(batches) == 9 - start
    for batch, rows in zip(batches, ROWS[start:], strict=True):
        np.testing.assert_array_equal(batch, pictures[rows])


def test_batches_may_differ_in_size(source, pictures: np.ndarray):
    rows = [np.arange(5), np.array([27]), np.arange(10, 20)]
    for batch, expected in zip(stream(source, rows), rows, strict=True):
        np.testing.assert_array_equal(batch, pictures[expected])


def test_rows_may_have_any_shape_and_occur_twice(source, pictures: np.ndarray):
    rows = [np.array([[3, 3, 27], [0, 3, 8]]), np.array([[[5]]])]
    for batch, expected in zip(stream(source, rows), rows, strict=True):
        np.testing.assert_array_equal(batch, pictures[expected])
        np.testing.assert_array_equal(read(source, expected), pictures[expected])


def test_a_stream_may_be_left_before_its_end(source, pictures: np.ndarray):
    batches = stream(source, ROWS)
    np.testing.assert_array_equal(next(batches), pictures[ROWS[0]])
    batches.close()
    assert list(batches) == []


def test_no_steps_give_no_batches(source):
    assert list(stream(source, ROWS[:0])) == []


def test_impossible_numbers_are_refused_at_once(source):
    with pytest.raises(ValueError, match="start is 10, but there are 9 steps"):
        stream(source, ROWS, start=10)
    with pytest.raises(ValueError, match="workers is -1"):
        stream(source, ROWS, workers=-1)


def test_an_image_that_is_not_there_is_an_error_of_its_batch(source):
    batches = stream(source, np.array([[0], [28]]), prefetch=2)
    next(batches)
    with pytest.raises(IndexError):
        next(batches)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.slow
def test_processes_give_the_same_batches(pictures_folder: Path, pictures: np.ndarray, workers: int):
    batches = list(stream(encoded_pictures(pictures_folder), ROWS, start=2, workers=workers, prefetch=1))
    np.testing.assert_array_equal(np.stack(batches), pictures[ROWS[2:]])


@pytest.mark.slow
def test_a_process_that_dies_is_told_in_a_sentence(pictures_folder: Path):
    batches = stream(encoded_pictures(pictures_folder), np.tile(ROWS, (100, 1)), workers=1, prefetch=1)
    next(batches)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    with pytest.raises(UserError) as caught:
        list(batches)
    assert str(caught.value).startswith(
        f"A worker process reading the images in {pictures_folder} ended unexpectedly"
    )
    assert "config.data.workers=0" in str(caught.value)
    assert not multiprocessing.active_children()


def test_tensorflow_is_not_loaded(pictures_folder: Path):
    program = (
        "import sys\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from fsljax.data.io.encoded_images import EncodedImages\n"
        "from fsljax.data.io.streaming import stream\n"
        f"images = EncodedImages(Path({str(pictures_folder)!r}), ('train',), np.arange(23), 6, 3, 2, '')\n"
        "print(sum(len(batch) for batch in stream(images, np.arange(8).reshape(2, 4))))\n"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["8", "False"]


def test_what_fits_is_told_by_the_size_of_the_decoded_images(source):
    size = 28 * 6 * 6 * 3
    assert source.nbytes == size
    assert fits(source, size / 1e9)
    assert not fits(source, (size - 1) / 1e9)
