"""The rules of episodes say what the heads say that are made of the same support."""

from __future__ import annotations

import numpy as np
import pytest

from fsljax.classification.heads import HEADS, new_head
from fsljax.classification.heads.episodes import RULES
from fsljax.classification.heads.logistic import Logistic
from fsljax.classification.heads.refitted import Refitted
from fsljax.classification.heads.regression import WITHOUT_CHOICE

WAY, QUERIES, DIM = 6, 40, 24


def episode(shot: int, *, negative: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A support `[way, shot, dim]` and queries `[way, queries, dim]` of classes that overlap."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(WAY, 1, DIM))
    support = centres + 1.3 * generator.normal(size=(WAY, shot, DIM))
    queries = centres + 1.3 * generator.normal(size=(WAY, QUERIES, DIM))
    support, queries = support.astype(np.float32), queries.astype(np.float32)
    return (support, queries) if negative else (np.maximum(support, 0), np.maximum(queries, 0))


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("shot", [1, 5])
@pytest.mark.parametrize("name", HEADS)
def test_a_rule_names_queries_as_its_head_does(name: str, shot: int, negative: bool):
    support, queries = episode(shot, negative=negative)
    head = Refitted(Logistic(WITHOUT_CHOICE)) if name == "logistic" else new_head(name)
    head.add(np.repeat(np.arange(WAY), shot).tolist(), support.reshape(-1, DIM))
    wanted = head.compare(queries.reshape(-1, DIM)).predictions.reshape(WAY, QUERIES)
    named = np.asarray(RULES[name](support, queries))
    assert named.shape == wanted.shape
    assert np.mean(named == wanted) >= 0.99  # float32 against float64 where two classes are level
    assert 0.3 < np.mean(named == np.arange(WAY)[:, None]) < 1  # else anything agreed


def test_the_rules_differ():
    support, queries = episode(5, negative=False)
    named = {name: np.asarray(rule(support, queries)) for name, rule in RULES.items()}
    assert set(named) == set(HEADS)
    assert len({answers.tobytes() for answers in named.values()}) == len(HEADS)
