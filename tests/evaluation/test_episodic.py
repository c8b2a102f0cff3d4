"""Few-shot accuracy over episodes: what is measured, and with which interval."""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fsljax.classification.episodes import sample
from fsljax.data.dataset import ImageDataset
from fsljax.data.samplers.episodes import Episodes
from fsljax.errors import UserError
from fsljax.evaluation import episodic
from fsljax.evaluation.episodic import Setting, episode_accuracies, mean_and_ci95, predict

DISTANCES = ("squared_euclidean", "cosine")
SETTING = Setting(way=4, shot=3, queries=2)
few_examples = settings(max_examples=15, deadline=None)


def dataset(counts: tuple[int, ...] = (6, 5, 7, 5, 8, 6), seed: int = 0) -> ImageDataset:
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)
    images = generator.integers(0, 256, (len(labels), 4, 4, 1)).astype(np.uint8)
    return ImageDataset(images, labels, tuple(f"class {index}" for index in range(len(counts))))


def clusters(data: ImageDataset, *, dim: int = 6, seed: int = 1) -> np.ndarray:
    """Embeddings that overlap enough for some queries to be wrong."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(data.num_classes, dim))
    return np.float32(centres[data.labels] + generator.normal(size=(len(data), dim)))


def reference(embeddings: np.ndarray, episodes: Episodes, shot: int, distance: str) -> np.ndarray:
    """One query at a time, in float64."""
    accuracies = []
    for of_episode in np.float64(embeddings)[episodes.images]:
        prototypes = of_episode[:, :shot].mean(axis=1)
        right = []
        for own, of_class in enumerate(of_episode[:, shot:]):
            for query in of_class:
                if distance == "squared_euclidean":
                    far = [np.sum((query - p) ** 2) for p in prototypes]
                else:
                    far = [1 - query @ p / np.linalg.norm(query) / np.linalg.norm(p) for p in prototypes]
                right.append(np.argmin(far) == own)
        accuracies.append(np.mean(right))
    return np.array(accuracies)


def accuracies(embeddings: np.ndarray, episodes: Episodes, distance: str = "squared_euclidean"):
    return episode_accuracies(embeddings, episodes, shot=SETTING.shot, distance=distance)


@pytest.fixture(scope="module")
def data() -> ImageDataset:
    return dataset()


@pytest.fixture(scope="module")
def episodes(data: ImageDataset) -> Episodes:
    return sample(jax.random.key(0), data, SETTING, 50)


def test_the_interval_is_1_96_standard_errors():
    values = np.array([0.5, 0.75, 1.0, 0.25])
    deviation = np.sqrt(np.sum((values - 0.625) ** 2) / 3)
    assert mean_and_ci95(values) == pytest.approx((0.625, 1.96 * deviation / 2))
    assert mean_and_ci95(np.full(10, 0.5, np.float32)) == (0.5, 0.0)


def test_95_of_100_intervals_cover_the_mean():
    drawn = np.random.default_rng(0).binomial(75, 0.8, size=(2000, 100)) / 75
    covered = [abs(mean - 0.8) <= ci95 for mean, ci95 in map(mean_and_ci95, drawn)]
    assert 0.93 < np.mean(covered) < 0.97


def test_nothing_is_known_of_the_interval_of_one_episode():
    mean, ci95 = mean_and_ci95(np.array([0.5]))
    assert mean == 0.5
    assert np.isnan(ci95)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_accuracies_equal_a_loop_over_queries(data: ImageDataset, episodes: Episodes, distance, scale: float):
    embeddings = clusters(data) * np.float32(scale)
    expected = reference(embeddings, episodes, SETTING.shot, distance)
    assert 0.4 < expected.mean() < 0.95
    ours = accuracies(embeddings, episodes, distance)
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def nearest_support(support: jax.Array, queries: jax.Array) -> jax.Array:
    """The class of the nearest of all supports."""
    squares = jnp.sum(jnp.square(queries[:, :, None, None] - support), axis=-1)
    return jnp.argmin(jnp.min(squares, axis=-1), axis=-1)


def test_another_rule_may_classify(data: ImageDataset, episodes: Episodes):
    embeddings = clusters(data)
    right = []
    for of_episode in np.float64(embeddings)[episodes.images]:
        support, queries = of_episode[:, : SETTING.shot], of_episode[:, SETTING.shot :]
        far = np.sum((queries[:, :, None, None] - support) ** 2, axis=-1).min(axis=-1)
        right.append(np.mean(far.argmin(axis=-1) == np.arange(SETTING.way)[:, None]))
    ours = episode_accuracies(embeddings, episodes, shot=SETTING.shot, classify=nearest_support)
    np.testing.assert_allclose(ours, right, atol=1e-6)
    assert (ours != accuracies(embeddings, episodes)).any()


@pytest.mark.parametrize("offset", [30.0, 1e4])
def test_a_large_common_offset_costs_no_accuracy(data: ImageDataset, episodes: Episodes, offset: float):
    """As x·p − ‖p‖²/2 scores lose their digits far from the origin, unless the points are moved there."""
    embeddings = clusters(data) + np.float32(offset)
    expected = reference(embeddings, episodes, SETTING.shot, "squared_euclidean")
    np.testing.assert_allclose(accuracies(embeddings, episodes), expected, atol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
def test_bfloat16_embeddings_are_compared_in_float32(data: ImageDataset, episodes: Episodes, distance: str):
    embeddings = jnp.asarray(clusters(data), jnp.bfloat16)
    expected = reference(np.asarray(embeddings, np.float32), episodes, SETTING.shot, distance)
    np.testing.assert_allclose(accuracies(embeddings, episodes, distance), expected, atol=1e-6)


def test_the_product_is_not_left_to_the_low_precision_of_accelerators():
    lowered = jax.jit(partial(predict, shot=1)).lower(np.zeros((3, 2, 5), np.float32)).as_text()
    assert "precision = [HIGHEST, HIGHEST]" in lowered


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("chunk", [1, 3, 7, 50, 64])
def test_the_last_chunk_may_be_partly_filled(
    data: ImageDataset, episodes: Episodes, distance: str, chunk: int, monkeypatch: pytest.MonkeyPatch
):
    embeddings = clusters(data)
    whole = accuracies(embeddings, episodes, distance)
    monkeypatch.setattr(episodic, "_FLOATS_A_CHUNK", chunk * episodes.images[0].size * embeddings.shape[1])
    chunked = accuracies(embeddings, episodes, distance)
    np.testing.assert_array_equal(chunked, whole)


@pytest.mark.parametrize("distance", DISTANCES)
def test_of_tied_classes_the_first_is_predicted_so_that_collapse_scores_as_a_guess(
    data: ImageDataset, episodes: Episodes, distance: str
):
    for value in (0.0, 1.0, 1e4):
        collapsed = np.full((len(data), 6), value, np.float32)
        np.testing.assert_array_equal(accuracies(collapsed, episodes, distance), np.full(50, 1 / SETTING.way))
    tied = np.repeat(np.eye(3, 5, dtype=np.float32)[[0, 1, 1]], 2, axis=0).reshape(3, 2, 5)
    predicted, right = predict(jnp.asarray(tied), shot=1, distance=distance)
    assert predicted.tolist() == [[0], [1], [1]]
    assert right.tolist() == [[True], [True], [False]]


class PredictTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(*DISTANCES)
    def test_predictions_are_the_nearest_prototypes(self, distance: str):
        classify = self.variant(jax.vmap(partial(predict, shot=2, distance=distance)))
        embeddings = np.float32(np.random.default_rng(0).normal(size=(20, 4, 5, 6)))
        predicted, right = classify(embeddings)
        chex.assert_shape([predicted, right], (20, 4, 3))
        for episode, ours in zip(embeddings, predicted, strict=True):
            prototypes, queries = episode[:, :2].mean(axis=1), episode[:, 2:]
            if distance == "cosine":
                prototypes /= np.linalg.norm(prototypes, axis=-1, keepdims=True)
                queries = queries / np.linalg.norm(queries, axis=-1, keepdims=True)
            far = ((queries[:, :, None] - prototypes) ** 2).sum(axis=-1)
            np.testing.assert_array_equal(ours, far.argmin(axis=-1))
        np.testing.assert_array_equal(right, predicted == np.arange(4)[:, None])


@few_examples
@given(seed=st.integers(0, 2**31), offset=st.floats(-100, 100, width=32))
def test_the_order_of_shots_queries_classes_and_the_place_do_not_matter(seed: int, offset: float):
    data, generator = dataset(), np.random.default_rng(seed)
    images = generator.permutation(len(data))[:20].reshape(1, 4, 5)
    embeddings = clusters(data, seed=seed)
    support, query = np.split(images, [SETTING.shot], axis=2)
    far = np.linalg.norm(embeddings[query][..., None, :] - embeddings[support].mean(axis=2)[0], axis=-1)
    first, second = np.partition(far, 1)[..., :2].reshape(-1, 2).T
    assume(np.min(second - first) > 1e-3)  # else rounding may decide
    shuffled = np.concatenate([support[:, :, ::-1], query[:, :, ::-1]], axis=2)
    plain = accuracies(embeddings, Episodes(images[..., 0], images))
    moved = accuracies(
        embeddings + np.float32(offset), Episodes(images[..., 0], shuffled[:, generator.permutation(4)])
    )
    np.testing.assert_allclose(moved, plain, atol=1e-6)


@pytest.mark.parametrize("shot", [0, 5, 6])
def test_shots_must_leave_support_and_queries(data: ImageDataset, episodes: Episodes, shot: int):
    with pytest.raises(
        ValueError, match=f"shot is {shot}; it must leave both support and queries out of 5 images"
    ):
        episode_accuracies(clusters(data), episodes, shot=shot)


def test_an_unknown_distance_is_refused(data: ImageDataset, episodes: Episodes):
    with pytest.raises(ValueError, match="'euclidean'; it can be 'squared_euclidean' or 'cosine'"):
        accuracies(clusters(data), episodes, "euclidean")


def test_a_setting_is_named_by_way_and_shot():
    assert Setting(20, 5, 15).name == "20way_5shot"


def test_the_key_of_a_setting_is_its_own():
    settings = [Setting(5, 1, 15), Setting(1, 5, 15), Setting(5, 15, 1), Setting(20, 1, 15)]
    keys = {tuple(jax.random.key_data(s.key(jax.random.key(0))).tolist()) for s in settings}
    assert len(keys) == len(settings)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("spread", [1e-1, 1e-3, 1e-5])
def test_tight_classes_far_apart_are_told_apart_as_in_float64(spread: float, distance: str, kind: type):
    """Two groups at ± 1, classes of both some spreads apart: products in float32 round to 6e-8."""
    data = dataset((9,) * 8)
    generator = np.random.default_rng(3)
    groups = np.where(np.arange(8) < 4, -1.0, 1.0)[:, None] * np.eye(6)[0]
    centres = groups + 3 * spread * generator.normal(size=(8, 6))
    embeddings = (centres[data.labels] + spread * generator.normal(size=(72, 6))).astype(kind)
    episodes = sample(jax.random.key(0), data, SETTING, 300)
    expected = reference(embeddings, episodes, SETTING.shot, distance)
    found = episode_accuracies(embeddings, episodes, shot=SETTING.shot, distance=distance)
    assert 0.7 < expected.mean() < 1
    # Of float32 embeddings, cosines of directions nearer than its rounding are left to chance.
    np.testing.assert_allclose(found, expected, atol=1e-7 if spread > 1e-5 or distance[0] == "s" else 0.2)


@pytest.mark.parametrize("distance", DISTANCES)
def test_very_short_embeddings_are_compared_as_others_are(data, episodes, distance: str):
    embeddings = clusters(data)
    expected = episode_accuracies(embeddings, episodes, shot=3, distance=distance)
    short = np.float32(embeddings) * np.float32(2.0**-100)
    np.testing.assert_allclose(episode_accuracies(short, episodes, shot=3, distance=distance), expected)


def test_an_offset_of_float64_costs_no_digits(data, episodes):
    embeddings = np.float64(clusters(data))
    expected = episode_accuracies(embeddings, episodes, shot=3)
    np.testing.assert_allclose(episode_accuracies(embeddings + 1e9, episodes, shot=3), expected)


@pytest.mark.parametrize(
    ("embeddings", "images", "message"),
    [
        (np.full((20, 8), np.nan), np.arange(20).reshape(1, 5, 4), "20 of the 20 embeddings"),
        (
            np.where(np.arange(20) == 7, np.inf, 0.0)[:, None],
            np.arange(20).reshape(1, 5, 4),
            "the first in row 7",
        ),
        (np.zeros((20, 8), complex), np.arange(20).reshape(1, 5, 4), "must be numbers"),
        (np.zeros((20, 8)).astype(str), np.arange(20).reshape(1, 5, 4), "must be numbers"),
        (np.zeros((19, 8)), np.arange(20).reshape(1, 5, 4), "rows 0 to 19, but there are 19"),
        (np.zeros((20, 8)), np.arange(20).reshape(1, 5, 4) - 1, "rows -1 to 18"),
        (np.zeros((20, 8)), np.arange(20.0).reshape(1, 5, 4), "must be whole numbers"),
    ],
)
def test_what_is_no_number_or_not_there_has_no_accuracy(embeddings, images, message: str):
    with pytest.raises(UserError, match=message):
        episode_accuracies(embeddings, Episodes(np.arange(5)[None], images), shot=1)


@pytest.mark.parametrize("values", [[], [0.5, np.nan], [np.inf, 1.0], ["a"], [[0.5]], [1j]])
def test_a_mean_of_what_is_no_number_is_refused(values: list):
    with pytest.raises(UserError, match="one finite number"):
        mean_and_ci95(np.array(values))
