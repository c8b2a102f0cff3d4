"""Labels are whole numbers: a float or a truth value that passes for one would be another class."""

from __future__ import annotations

import numpy as np
import pytest

from fsljax.losses import magnet_loss, repmet_loss, triplet_loss

EMBEDDINGS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
LABELS = np.array([0, 1, 1, 0, 0, 1])
LOSSES = {
    "magnet": lambda labels: magnet_loss(EMBEDDINGS.reshape(3, 2, 3), labels[:3]).loss,
    "triplet": lambda labels: triplet_loss(EMBEDDINGS, labels).loss,
    "repmet": lambda labels: repmet_loss(EMBEDDINGS, labels, np.eye(3, dtype=np.float32)[:, None]).loss,
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_labels_are_whole_numbers_of_any_width(loss):
    for kind in (np.uint8, np.int16, np.int64):
        np.testing.assert_array_equal(loss(LABELS.astype(kind)), loss(LABELS))
    for kind in (np.float32, np.float64, bool):
        with pytest.raises(AssertionError):
            loss(LABELS.astype(kind))
