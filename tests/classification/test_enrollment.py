"""Enrolled classes as a classifier keeps them, against their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from fsljax.api import Classifier
from fsljax.classification.heads import Prototypes, Representatives
from fsljax.errors import UserError
from fsljax.methods import protonet
from fsljax.training.checkpoints import Model

SIGMA = 1.5
LABELS = ["a", "b", "a", 3, "a", 3, "a"]


def embeddings(count: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


def squares_to_classes(rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Squared distances to the nearest point of "a", "b" and 3, in float64."""
    squares = ((np.float64(rows)[:, None] - points) ** 2).sum(-1)
    return np.stack(
        [squares[:, [own == label for own in LABELS]].min(axis=1) for label in ("a", "b", 3)], axis=1
    )


def test_every_embedding_is_a_representative_of_its_class():
    known, points, rows = Representatives(sigma=SIGMA), embeddings(), embeddings(20, seed=1)
    known.add(LABELS[:3], points[:3])
    known.add(LABELS[3:], points[3:])
    assert known.labels == ["a", "b", 3]
    p = np.exp(-((np.float64(rows)[:, None] - points) ** 2).sum(-1) / (2 * 1.5**2))
    of_class = np.stack(
        [p[:, [own == label for own in LABELS]].sum(axis=1) for label in known.labels], axis=1
    )
    found = known.compare(rows)
    np.testing.assert_allclose(
        found.probabilities, of_class / of_class.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-6
    )
    assert found.predictions.tolist() == of_class.argmax(axis=1).tolist()
    squares = squares_to_classes(rows, points)
    np.testing.assert_allclose(found.nearest, squares.min(axis=1), rtol=1e-4)
    np.testing.assert_allclose(known.background(rows), 1 - p.max(axis=1), atol=1e-5)
    between = np.stack(
        [
            squares_to_classes(points[[own == label for own in LABELS]], points).min(axis=0)
            for label in known.labels
        ]
    )
    np.fill_diagonal(between, np.inf)
    assert known.radius() == pytest.approx(0.5 * between.min(axis=1).mean(), rel=1e-4)


def test_more_embeddings_than_representatives_are_clustered_and_fewer_kept():
    known, points = Representatives(sigma=SIGMA, per_class=1), embeddings()
    known.add(LABELS, points)
    plain = Prototypes("squared_euclidean", 2 * 1.5**2)
    plain.add(LABELS, points)
    rows = embeddings(20, seed=1)
    np.testing.assert_allclose(
        known.compare(rows).probabilities, plain.compare(rows).probabilities, rtol=1e-3, atol=1e-6
    )
    several = Representatives(sigma=SIGMA, per_class=3)
    several.add(LABELS, points)
    assert several.arrays()["representatives_counts"].tolist() == [3, 1, 2]


def test_fine_tuning_moves_representatives_alone_towards_their_own_and_is_kept():
    known, points = Representatives(sigma=SIGMA, per_class=1), embeddings()
    known.add(LABELS, points)
    before = known.compare(points).probabilities[np.arange(7), [0, 1, 0, 2, 0, 2, 0]]
    supports = known.arrays()["supports"]
    known.fine_tune(20, 0.1)
    after = known.compare(points).probabilities[np.arange(7), [0, 1, 0, 2, 0, 2, 0]]
    assert np.log(after).mean() > np.log(before).mean() + 0.05
    np.testing.assert_array_equal(known.arrays()["supports"], supports)
    again = Representatives(sigma=SIGMA)
    again.restore(known.labels, known.arrays())
    np.testing.assert_array_equal(again.compare(points).probabilities, known.compare(points).probabilities)
    assert again.per_class == 1


def test_ragged_classes_are_fine_tuned_as_if_each_were_alone_with_its_own():
    """What fills up the table of representatives has no share in the loss and does not move."""
    known, points = Representatives(sigma=SIGMA), embeddings()
    known.add(LABELS, points)
    known.fine_tune(1, 0.1)
    p = np.exp(-((np.float64(points)[:, None] - points) ** 2).sum(-1) / (2 * 1.5**2))
    own = np.array([[a == b for b in LABELS] for a in LABELS])
    pull = np.where(own, p, 0) / np.where(own, p, 0).sum(axis=1, keepdims=True) - p / p.sum(
        axis=1, keepdims=True
    )
    moved = points + 0.1 * (pull[..., None] * (np.float64(points)[:, None] - points)).sum(axis=0)
    found = known.arrays()["representatives"]
    order = [place for label in ("a", "b", 3) for place in range(7) if LABELS[place] == label]
    np.testing.assert_allclose(found, moved[order], rtol=1e-4, atol=1e-5)


def test_a_damaged_table_is_refused():
    known = Representatives(sigma=SIGMA)
    known.add(LABELS, embeddings())
    arrays = known.arrays()
    with pytest.raises(ValueError, match="supports and their counts differ"):
        Representatives(sigma=SIGMA).restore(known.labels, arrays | {"supports": arrays["supports"][:-1]})


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.enroll(np.zeros((2, 28, 28)), ["a", "b"], fine_tune_steps=3),
        lambda c: c.background(np.zeros((2, 28, 28))),
        lambda c: Classifier(c._network._stored, c._network.model, representatives=2),
    ],
)
def test_prototypes_have_no_representatives(call):
    config = protonet.default_config()
    with pytest.raises(UserError, match="trained with 'protonet', whose classes have no representatives"):
        call(Classifier(config, Model(0, {"params": {}})))
