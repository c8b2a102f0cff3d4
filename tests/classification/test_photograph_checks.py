"""What is measured and looked for in a pool of photographs, on embeddings that are made up."""

from __future__ import annotations

import numpy as np
import pytest

from fsljax.classification.photographs import few_shot, heads
from fsljax.classification.photographs.checks import duplicates, mislabelled
from fsljax.classification.photographs.pool import Pool, pool_of
from fsljax.data.dataset import ImageDataset


def part(counts: list[int], seed: int) -> ImageDataset:
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 4, 4, 3), np.uint8)
    files = np.array([f"{label}/{seed}_{number}.jpg" for number, label in enumerate(labels)])
    return ImageDataset(images, labels, tuple(f"class {label}" for label in range(len(counts))), files=files)


def pool(counts: list[int], held_out: list[int], *, spread: float = 0.3, dim: int = 32) -> Pool:
    """Classes round centres of their own."""
    made, _ = pool_of(part(counts, 1), part(held_out, 2))
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(len(counts), dim))
    noise = spread * generator.normal(size=(len(made.labels), dim))
    return made.embedded(np.float32(centres[made.labels] + noise))


def test_a_pool_is_sorted_by_class_and_its_pictures_follow():
    enrolled, held_out = part([3, 2, 1], 1), part([1, 1, 0], 2)
    made, order = pool_of(enrolled, held_out)
    assert made.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 2]
    assert made.held_out.tolist() == [False] * 3 + [True] + [False] * 2 + [True, False]
    images = np.concatenate([enrolled.images, held_out.images])
    np.testing.assert_array_equal(made.images[np.arange(8)], images[order])
    np.testing.assert_array_equal(made.images[:2], images[order][:2])
    np.testing.assert_array_equal(made.images.at(np.array([6, 0]))[0], images[order][6])
    assert made.files[3] == held_out.files[0]


def settings_of(of: Pool, apart: bool = False, ways: tuple = (5, 0), shots: tuple = (1, 5)) -> tuple:
    possible, sentences = few_shot.possible_settings(
        of, ways=ways, shots=shots, queries=15, episodes=20, all_way_episodes=10, apart=apart
    )
    return [(one.setting.name, one.setting.queries, one.episodes) for one in possible], sentences


def test_settings_are_those_that_the_photographs_can_give():
    wide = pool([20] * 8, [2] * 8)
    assert settings_of(wide) == (
        [("5way_1shot", 15, 20), ("8way_1shot", 15, 10), ("5way_5shot", 15, 20), ("8way_5shot", 15, 10)],
        [],
    )
    assert settings_of(wide, apart=True)[0][0] == ("5way_1shot", 2, 20)  # those that are held out
    settings, sentences = settings_of(pool([2, 7, 7, 1], [0, 1, 1, 0]))
    assert settings == [("3way_1shot", 1, 10), ("2way_5shot", 3, 10)]
    assert [words.partition(" episodes")[0] for words in sentences[:2]] == ["1-shot", "5-shot"]
    assert "skipped: class 3" in sentences[0] and "skipped: class 0, class 3" in sentences[1]
    settings, sentences = settings_of(pool([1, 1], [0, 0]))
    assert settings == [] and sentences[0].startswith("No 1-shot episodes")


@pytest.mark.parametrize("apart", [False, True])
def test_an_episode_has_distinct_photographs_of_distinct_classes(apart: bool):
    of = pool([5, 6, 7, 8], [2, 2, 2, 3])
    possible = few_shot.possible_settings(
        of, ways=(3,), shots=(2,), queries=15, episodes=30, all_way_episodes=30, apart=apart
    )[0][0]
    drawn = few_shot.draw(of, possible, seed=0, apart=apart)
    again = few_shot.draw(of, possible, seed=0, apart=apart)
    np.testing.assert_array_equal(drawn.images, again.images)
    assert drawn.images.shape == (30, 3, 4 if apart else 7)
    for classes, images in zip(np.asarray(drawn.classes), np.asarray(drawn.images), strict=True):
        assert len(set(classes.tolist())) == 3 and len(np.unique(images)) == images.size
        np.testing.assert_array_equal(of.labels[images], np.repeat(classes[:, None], images.shape[1], 1))
        if apart:
            assert not of.held_out[images[:, :2]].any() and of.held_out[images[:, 2:]].all()


def test_a_photograph_under_a_wrong_class_is_found_and_no_other():
    of = pool([10] * 6, [2] * 6)
    wrong = of.labels.copy()
    order = np.arange(len(wrong))
    wrong[14], wrong[30] = 3, 0  # of the classes 1 and 2
    order = np.argsort(wrong, kind="stable")
    mixed = Pool(of.embeddings[order], wrong[order], of.held_out[order], of.class_names, of.files[order],
                 of.images.at(order))  # fmt: skip
    told = heads.cross_validated(mixed, "centered", distance="cosine")
    found = mislabelled(told.predictions, told.probabilities(mixed.labels), mixed.labels, least=0.8)
    assert {(order[one.row], one.predicted) for one in found} == {(14, 1), (30, 2)}
    assert told.figures(mixed.labels)["accuracy"] == pytest.approx(1 - 2 / 72)


def test_copies_in_two_classes_are_found_and_copies_in_one_are_not():
    of = pool([6, 6], [1, 1])
    embeddings = of.embeddings.copy()
    embeddings[9] = 2 * embeddings[2]  # of the other class, and longer
    embeddings[1] = embeddings[0]  # of the same
    digests = of.images.digests()
    digests[12] = digests[4]
    found = duplicates(embeddings, of.labels, digests, least=0.999)
    assert [pair[:3] for pair in found] == [(4, 12, True), (2, 9, False)]


def test_the_best_head_is_that_with_the_highest_accuracy_and_none_where_nothing_was_told():
    of = pool([4] * 3, [1] * 3)
    right = heads.Told(of.labels, np.ones(15, bool), np.zeros((15, 3), np.float32))
    wrong = right._replace(predictions=(of.labels + 1) % 3)
    assert heads.best_of({"a": wrong, "b": right, "c": right}, of.labels) == "b"
    assert heads.best_of({"a": right._replace(told=np.zeros(15, bool))}, of.labels) is None


def test_the_unknown_are_told_as_well_as_the_classes_are_apart():
    options = {"divisions": 6, "false_accept": 0.1, "seed": 0, "distance": "cosine"}
    apart = heads.unknown_figures(pool([8] * 12, [2] * 12), ("prototype",), **options)["prototype"]
    alike = heads.unknown_figures(pool([8] * 12, [2] * 12, spread=30.0), ("prototype",), **options)[
        "prototype"
    ]
    assert apart["auroc"] > 0.99 and abs(alike["auroc"] - 0.5) < 0.15
    assert apart["true_accept"] > 0.9 and 0.02 < apart["false_accept"] < 0.3
    assert apart["examples"] == 6 * (12 + 60)
    assert heads.unknown_figures(pool([8] * 3, [2] * 3), ("prototype",), **options) == {}
    assert heads.unknown_figures(pool([8] * 4, [0] * 4), ("prototype",), **options) == {}
