import jax.numpy as jnp
import numpy as np

from fsljax.detection.ops.region_means import region_means
from fsljax.detection.ops.roi_align import roi_align


def test_it_is_roi_align_of_one_bin():
    stage = jnp.asarray(np.random.default_rng(0).normal(size=(6, 9, 4)), jnp.float32)
    boxes = jnp.array([[20.0, 30.0, 70.0, 100.0], [17.0, 16.0, 33.0, 40.0], [16.0, 16.0, 80.0, 128.0]])
    expected = roi_align(
        [stage], boxes, strides=(16,), output_size=1, samples=14, canonical_size=1e4, canonical_level=0
    )
    np.testing.assert_allclose(region_means(stage, boxes, stride=16), expected[:, 0, 0], atol=1e-5)


def test_beyond_the_outermost_cells_lies_the_border():
    stage = jnp.arange(4.0).reshape(2, 2, 1)
    corners = jnp.array([[0.0, 0.0, 1.0, 1.0], [63.0, 63.0, 64.0, 64.0]])
    np.testing.assert_allclose(region_means(stage, corners, stride=32)[:, 0], [0.0, 3.0], atol=1e-6)


def test_a_constant_map_has_its_value_as_every_mean():
    boxes = jnp.array([[-5.0, -5.0, 500.0, 500.0], [3.0, 4.0, 3.0, 4.0]])
    np.testing.assert_allclose(region_means(jnp.full((3, 3, 2), 0.25), boxes, stride=8), 0.25, rtol=1e-6)
