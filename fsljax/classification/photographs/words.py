"""What an evaluation of photographs found, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fsljax.classification.photographs.checks import Duplicate, Mislabelled
from fsljax.classification.photographs.pool import Pool
from fsljax.errors import first_few
from fsljax.reporting.tables import per_cent

Figures = Mapping[str, float]


def on_best(name: str, figures: Figures, test: Mapping[str, Figures]) -> str:
    """Which head is the best, by its figures in cross-validation, and what it does with the unknown."""
    if not figures:
        return f"best head: {name} (the default: no class has two photographs to choose a head with)"
    shares = (
        f"{per_cent(figures['accuracy'], figures['ci95'])} % of photographs classified correctly in "
        "cross-validation"
    )
    unknown = test.get(f"unknown_{name}")
    if unknown is None:
        return f"best head: {name} ({shares})"
    return (
        f"best head: {name} ({shares}; when {per_cent(unknown['true_accept'])} % of known photographs are "
        f"accepted, so are {per_cent(unknown['false_accept'])} % of unknown ones)"
    )


def on_trained(name: str, plain: str | None, test: Mapping[str, Figures]) -> str:
    """What training an embedding changed; `plain` is the best head without."""
    ours, theirs = test.get(f"held_out_{name}_trained"), test.get(f"held_out_{plain}")
    if ours is None or theirs is None:
        return f"saved with the trained embedding: {name}"
    sentence = (
        f"saved with the trained embedding: {name} ({per_cent(ours['accuracy'], ours['ci95'])} % of the "
        f"held-out photographs; without training {plain} "
        f"{per_cent(theirs['accuracy'], theirs['ci95'])} %)"
    )
    if ours["accuracy"] < theirs["accuracy"]:
        sentence += ": the features are better without training, leave out config.train.steps"
    return sentence


def to_look_at(pool: Pool, suspects: Sequence[Mislabelled], twins: Sequence[Duplicate]) -> list[str]:
    """Photographs that the user should look at, by the names of their files."""
    sentences = []
    if suspects:
        named = [
            f"{pool.files[one.row]} (like {pool.class_names[one.predicted]}, {100 * one.probability:.0f} %)"
            for one in suspects
        ]
        sentences.append(f"photographs that look mislabelled ({len(named):,}): {first_few(named)}")
    if twins:
        named = [f"{pool.files[pair.first]} and {pool.files[pair.second]}" for pair in twins]
        sentences.append(f"the same photograph in two classes ({len(named):,}): {first_few(named)}")
    return sentences
