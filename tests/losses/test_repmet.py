"""The RepMet losses, against their equations in float64."""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from fsljax.losses import RepMetOutput, repmet_loss
from fsljax.losses.repmet import VERSIONS

BATCH, CLASSES, K, DIM = 10, 5, 3, 4
FORMS = [("v1", False), ("v2", False), ("margin", False), ("margin", True)]


def problem(seed: int = 0, *, scale: float = 1.0, offset: float = 0.0, classes: int = CLASSES, k: int = K):
    """Embeddings, labels and representatives about a common offset; all lengths in units of `scale`."""
    generator = np.random.default_rng(seed)
    representatives = generator.normal(size=(classes, k, DIM))
    labels = generator.integers(0, classes, BATCH)
    embeddings = representatives[labels, generator.integers(0, k, BATCH)]
    embeddings = embeddings + generator.normal(size=(BATCH, DIM))
    return (
        np.float32(scale * (offset + embeddings)),
        labels,
        np.float32(scale * (offset + representatives)),
    )


def log_of_sum(logs: list[float]) -> float:
    largest = max(logs)
    return largest + np.log(sum(np.exp(log - largest) for log in logs))


def reference(
    embeddings, labels, representatives, *, sigma=0.5, alpha=1.0, version="v1", squared=False
) -> RepMetOutput:
    """The equations, one example at a time, in float64."""
    rows, centres = np.float64(embeddings), np.float64(representatives)
    classes = range(len(centres))
    losses, posteriors, background = [], [], []
    for row, label in zip(rows, labels, strict=True):
        squares = [[(row - centre) @ (row - centre) for centre in centres[i]] for i in classes]
        logs = [[-square / (2 * sigma**2) for square in squares[i]] for i in classes]
        others = [log for i in classes if i != label for log in logs[i]]
        if version == "v1":
            value = -(max(logs[label]) - log_of_sum(others))
        elif version == "v2":
            value = -(log_of_sum(logs[label]) - log_of_sum(logs[label] + others))
        else:
            nearest = min(squares[label]), min(square for i in classes if i != label for square in squares[i])
            value = np.subtract(*(nearest if squared else np.sqrt(nearest)))
        losses.append(max(0.0, value + alpha))
        every = log_of_sum([log for i in classes for log in logs[i]])
        posteriors.append([np.exp(log_of_sum(logs[i]) - every) for i in classes])
        background.append(1 - np.exp(max(log for i in classes for log in logs[i])))
    return RepMetOutput(np.mean(losses), np.array(losses), np.array(posteriors), np.array(background))


class RepMetTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.product(form=FORMS, scale=(1e-3, 1.0, 1e3), offset=(0.0, 100.0))
    def test_the_output_equals_the_equations(self, form: tuple[str, bool], scale: float, offset: float):
        options = {"version": form[0], "squared": form[1], "sigma": 0.7 * scale, "alpha": 0.5}
        arrays = problem(scale=scale, offset=offset)
        ours = self.variant(partial(repmet_loss, **options))(*arrays)
        expected = jax.tree.map(np.float32, reference(*arrays, **options))
        chex.assert_trees_all_close(ours, expected, rtol=1e-5, atol=1e-6)

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.product(version=VERSIONS)
    def test_under_vmap_it_equals_a_loop(self, version: str):
        problems = [problem(seed) for seed in range(3)]
        loss = partial(repmet_loss, version=version)
        looped = jax.tree.map(lambda *parts: np.stack(parts), *(loss(*one) for one in problems))
        stacked = [np.stack(parts) for parts in zip(*problems, strict=True)]
        chex.assert_trees_all_close(self.variant(jax.vmap(loss))(*stacked), looped, rtol=1e-5, atol=1e-6)

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.product(version=VERSIONS)
    def test_bfloat16_embeddings_are_compared_in_float32(self, version: str):
        embeddings, labels, representatives = problem(offset=3.0)
        narrow = jnp.asarray(embeddings, jnp.bfloat16)
        ours = self.variant(partial(repmet_loss, version=version))(narrow, labels, representatives)
        assert {part.dtype for part in ours} == {jnp.dtype(jnp.float32)}
        wide = reference(np.asarray(narrow, np.float32), labels, representatives, version=version)
        chex.assert_trees_all_close(ours, jax.tree.map(np.float32, wide), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("version", "squared"), FORMS)
@pytest.mark.parametrize("sigma_follows", [True, False])
def test_random_problems_of_all_scales_and_offsets(version: str, squared: bool, sigma_follows: bool):
    options = {"version": version, "squared": squared}

    def loss_of(embeddings, representatives, labels, sigma):
        return repmet_loss(embeddings, labels, representatives, sigma=sigma, **options).loss

    compiled = jax.jit(jax.value_and_grad(loss_of, argnums=(0, 1, 3)))
    generator = np.random.default_rng(sum(map(ord, version)))
    for seed in range(500):
        scale = 10 ** generator.uniform(-3, 3)
        sigma = np.float32(scale * 10 ** generator.uniform(-1, 1) if sigma_follows else 0.5)
        offset = generator.uniform(-100, 100) * float(sigma) / scale
        embeddings, labels, representatives = problem(seed, scale=scale, offset=offset)
        loss, gradients = compiled(embeddings, representatives, labels, sigma)
        expected = reference(embeddings, labels, representatives, sigma=float(sigma), **options)
        np.testing.assert_allclose(loss, expected.loss, rtol=1e-5, atol=1e-6)
        assert all(np.isfinite(gradient).all() for gradient in gradients)


def gradients_of(arrays, **options):
    embeddings, labels, representatives = arrays
    return value_and_gradients(embeddings, representatives, labels, tuple(options.items()))


@partial(jax.jit, static_argnums=3)
def value_and_gradients(embeddings, representatives, labels, options):
    return jax.value_and_grad(
        lambda e, r: repmet_loss(e, labels, r, **dict(options)).loss, argnums=(0, 1)
    )(embeddings, representatives)  # fmt: skip


@pytest.mark.parametrize(("version", "squared"), FORMS)
@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_gradients_are_those_of_finite_differences(version: str, squared: bool, offset: float):
    arrays = problem(offset=offset)
    options = {"version": version, "squared": squared, "alpha": 0.7}
    _, ours = gradients_of(arrays, **options)
    for place, gradient in zip((0, 2), ours, strict=True):
        expected = np.zeros(arrays[place].shape)
        for index in np.ndindex(expected.shape):
            values = []
            for change in (1e-6, -1e-6):
                moved = [np.float64(arrays[0]), arrays[1], np.float64(arrays[2])]
                moved[place][index] += change
                values.append(reference(*moved, **options).loss)
            expected[index] = (values[0] - values[1]) / 2e-6
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=2e-5)


def test_the_gradient_of_a_learned_sigma_is_that_of_finite_differences():
    arrays = problem()
    ours = jax.grad(lambda sigma: repmet_loss(*arrays, sigma=sigma, version="v2").loss)(0.8)
    above, below = (reference(*arrays, sigma=0.8 + change, version="v2").loss for change in (1e-6, -1e-6))
    np.testing.assert_allclose(ours, (above - below) / 2e-6, rtol=1e-3)


@given(seed=st.integers(0, 1000), version=st.sampled_from(VERSIONS))
@settings(max_examples=20, deadline=None)
def test_the_order_of_examples_classes_and_representatives_does_not_matter(seed: int, version: str):
    generator = np.random.default_rng(seed)
    embeddings, labels, representatives = problem(seed)
    examples, classes, within = map(generator.permutation, (BATCH, CLASSES, K))
    shuffled = repmet_loss(
        embeddings[examples],
        np.argsort(classes)[labels[examples]],
        representatives[classes][:, within],
        version=version,
    )
    expected = repmet_loss(embeddings, labels, representatives, version=version)
    np.testing.assert_allclose(shuffled.example_losses, expected.example_losses[examples], rtol=1e-4)
    np.testing.assert_allclose(
        shuffled.posteriors, expected.posteriors[examples][:, classes], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(("version", "squared"), FORMS)
@pytest.mark.parametrize("value", [0.0, 0.1, 1e4, 1e5 + 1 / 3])
def test_where_all_points_coincide_the_loss_is_finite_and_nothing_moves(
    version: str, squared: bool, value: float
):
    arrays = (
        np.full((BATCH, DIM), value, np.float32),
        np.zeros(BATCH, int),
        np.full((CLASSES, K, DIM), value, np.float32),
    )
    loss, gradients = gradients_of(arrays, version=version, squared=squared)
    others = (CLASSES - 1) * K
    expected = {"v1": 1 + np.log(others), "v2": 1 + np.log(CLASSES), "margin": 1.0}
    np.testing.assert_allclose(loss, expected[version], rtol=1e-6)
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(("version", "squared"), FORMS)
def test_far_points_have_a_large_finite_loss(version: str, squared: bool):
    embeddings, labels, representatives = problem(scale=1e4)
    embeddings = representatives[(labels + 1) % CLASSES, 0]  # at those of another class
    arrays = (embeddings, labels, representatives)
    output = repmet_loss(*arrays, version=version, squared=squared)
    expected = reference(*arrays, version=version, squared=squared)
    np.testing.assert_allclose(output.example_losses, expected.example_losses, rtol=1e-5)
    assert output.example_losses.min() > 1e3
    assert all(np.isfinite(gradient).all() for gradient in gradients_of(arrays, version=version)[1])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("classes", "k"), [(2, 1), (2, 3), (5, 1), (40, 1)])
def test_one_representative_two_classes_and_classes_without_an_example(version: str, classes: int, k: int):
    arrays = problem(classes=classes, k=k)
    loss, gradients = gradients_of(arrays, version=version)
    np.testing.assert_allclose(loss, reference(*arrays, version=version).loss, rtol=1e-5, atol=1e-6)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_v2_is_the_cross_entropy_of_the_soft_posterior():
    embeddings, labels, representatives = problem()
    output = repmet_loss(embeddings, labels, representatives, version="v2", alpha=0.0)
    own_posteriors = output.posteriors[np.arange(BATCH), labels]
    np.testing.assert_allclose(output.example_losses, -np.log(own_posteriors), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(output.posteriors.sum(axis=1), 1, rtol=1e-5)


def test_background_keeps_its_digits_where_it_is_small():
    representatives = np.zeros((2, 1, 1), np.float32)
    representatives[1] = 5
    output = repmet_loss(np.float32([[1e-5]]), np.array([0]), representatives, sigma=1.0)
    np.testing.assert_allclose(output.background, [5e-11], rtol=1e-5)
    far = repmet_loss(np.float32([[1e4]]), np.array([0]), representatives, sigma=1.0)
    assert far.background[0] == 1


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_outside_the_classes_is_refused_or_makes_the_loss_nan(version: str, label: int):
    embeddings, labels, representatives = problem()
    labels[3] = label
    with pytest.raises(ValueError, match=f"The labels lie from .* must be 0 to {CLASSES - 1}"):
        repmet_loss(embeddings, labels, representatives, version=version)
    traced = jax.jit(partial(repmet_loss, version=version))(embeddings, labels, representatives)
    assert np.isnan(traced.example_losses).tolist() == [place == 3 for place in range(BATCH)]


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        (((3, 4), (3,), (5, 2, 6)), "as many dimensions"),
        (((3, 4), (2,), (5, 2, 4)), r"must be \[batch, dim\], \[batch\]"),
        (((3, 4), (3,), (5, 4)), r"must be \[batch, dim\], \[batch\] and \[classes, k, dim\]"),
        (((3, 4), (3,), (5, 0, 4)), "one or more of each"),
        (((3, 4), (3,), (0, 2, 4)), "one or more of each"),
        (((0, 4), (0,), (5, 2, 4)), "one or more of each"),
        (((3, 4), (3,), (1, 2, 4)), "two classes"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_in_words(shapes: tuple, sentence: str):
    embeddings, labels, representatives = shapes
    arrays = jnp.zeros(embeddings), jnp.zeros(labels, int), jnp.zeros(representatives)
    for loss in (repmet_loss, jax.jit(repmet_loss)):
        with pytest.raises(AssertionError, match=sentence):
            loss(*arrays)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"version": "v3"}, "version is 'v3'; it can be 'v1', 'v2', 'margin'"),
        ({"sigma": 0.0}, "sigma is 0.0; it must be above 0"),
        ({"sigma": float("nan")}, "sigma is nan"),
        ({"version": "v2", "squared": True}, "squared is for the version 'margin'"),
    ],
)
def test_options_that_do_not_exist_are_refused(options: dict, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        repmet_loss(*problem(), **options)
