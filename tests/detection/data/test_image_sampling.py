import jax
import numpy as np

from fsljax.detection.data.image_sampling import repeat_factors, weighted_rows

LABELS = [np.array(of_image, np.int32) for of_image in ([0], [0, 0, 1], [0], [], [0, 2, 1])]


def test_factors_are_those_of_the_rarest_class_in_an_image():
    # Class 0 is in 4 of 5 images, class 1 in 2, class 2 in 1.
    factors = repeat_factors(LABELS, 3, 0.8)
    np.testing.assert_allclose(factors, [1, np.sqrt(2), 1, 1, 2], rtol=1e-6)


def test_below_the_threshold_of_every_class_all_images_are_alike():
    np.testing.assert_array_equal(repeat_factors(LABELS, 3, 0.1), 1)


def test_images_come_as_often_as_their_factors_say():
    factors = np.array([1, 3, 2, 1, 5], np.float32)
    draw = jax.jit(lambda key: weighted_rows(key, factors, 4))
    rows = np.stack([draw(jax.random.key(number)) for number in range(1500)])
    share = np.bincount(rows.ravel(), minlength=5) / rows.size
    np.testing.assert_allclose(share, factors / factors.sum(), atol=0.015)


def test_a_batch_holds_no_image_twice_where_factors_are_alike():
    rows = weighted_rows(jax.random.key(0), np.ones(10, np.float32), 10)
    assert sorted(rows.tolist()) == list(range(10))


def test_every_row_is_one_of_the_images():
    factors = np.geomspace(1e-3, 1e3, 50).astype(np.float32)
    for number in range(50):
        rows = np.asarray(weighted_rows(jax.random.key(number), factors, 8))
        assert rows.min() >= 0
        assert rows.max() < 50
