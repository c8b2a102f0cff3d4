"""Episodes are drawn from a data set, or it is said why it cannot give them."""

from __future__ import annotations

import chex
import jax
import numpy as np
import pytest

from fsljax.classification.episodes import check_setting, sample
from fsljax.data.dataset import ImageDataset
from fsljax.data.samplers.episodes import Episodes
from fsljax.errors import UserError
from fsljax.evaluation.episodic import Setting

from .labelled_images import SETTING, dataset


@pytest.fixture(scope="module")
def data() -> ImageDataset:
    return dataset()


@pytest.fixture(scope="module")
def episodes(data: ImageDataset) -> Episodes:
    return sample(jax.random.key(0), data, SETTING, 50)


def test_sampled_episodes_hold_distinct_images_of_their_classes(data: ImageDataset, episodes: Episodes):
    assert isinstance(episodes.images, np.ndarray)
    assert episodes.classes.shape == (50, 4)
    assert episodes.images.shape == (50, 4, 5)
    assert all(len(set(classes)) == 4 for classes in episodes.classes)
    assert all(len(set(images.ravel())) == 20 for images in episodes.images)
    np.testing.assert_array_equal(
        data.labels[episodes.images], np.broadcast_to(episodes.classes[..., None], episodes.images.shape)
    )


def test_sampling_is_repeated_by_its_key_alone(data: ImageDataset, episodes: Episodes):
    chex.assert_trees_all_equal(sample(jax.random.key(0), data, SETTING, 50), episodes)
    assert np.any(sample(jax.random.key(1), data, SETTING, 50).images != episodes.images)


@pytest.mark.parametrize(
    ("setting", "where", "sentence"),
    [
        (Setting(0, 1, 1), "train", "config.train.way is 0; it must be 1 or more."),
        (Setting(2, 0, 1), "train", "config.train.shot is 0; it must be 1 or more."),
        (Setting(2, 1, -1), "validation", "config.validation.queries is -1; it must be 1 or more."),
        (Setting(1, 1, 1), "train", "config.train.way is 1; an episode needs at least two classes."),
        (
            Setting(7, 1, 1),
            "validation",
            "7-way episodes need 7 classes, but the some split has 6: "
            "lower config.validation.way to 6 or less, or give more classes.",
        ),
        (
            Setting(2, 2, 4),
            "train",
            "shot 2 + queries 4 need 6 images per class, but 'class 1' in the some split has 5: "
            "lower config.train.shot or config.train.queries, or give that class more images.",
        ),
        (
            Setting(7, 1, 1),
            "eval",
            "7-way episodes need 7 classes, but the some split has 6: "
            "lower config.eval.ways to 6 or less, or give more classes.",
        ),
        (
            Setting(2, 2, 4),
            "eval",
            "shot 2 + queries 4 need 6 images per class, but 'class 1' in the some split has 5: "
            "lower config.eval.shots or config.eval.queries, or give that class more images.",
        ),
    ],
)
def test_what_the_data_cannot_give_is_told_with_the_field_to_change(
    data: ImageDataset, setting: Setting, where: str, sentence: str
):
    with pytest.raises(UserError) as caught:
        check_setting(data, setting, part="some", where=where)
    assert str(caught.value) == sentence
    with pytest.raises(UserError):
        sample(jax.random.key(0), data, setting, 1)


def test_a_setting_that_takes_every_class_and_image_is_possible(data: ImageDataset):
    check_setting(data, Setting(6, 2, 3))
    drawn = sample(jax.random.key(0), data, Setting(6, 2, 3), 3)
    np.testing.assert_array_equal(np.sort(drawn.classes), np.tile(np.arange(6), (3, 1)))
