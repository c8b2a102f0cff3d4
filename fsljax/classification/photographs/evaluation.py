"""All that is measured and looked for in a pool of photographs, as figures, sentences and sections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fsljax.classification.heads import HEADS
from fsljax.classification.heads.kept import arrays_of
from fsljax.classification.photographs import few_shot, heads, words
from fsljax.classification.photographs.checks import Duplicate, Mislabelled, duplicates, mislabelled
from fsljax.classification.photographs.pool import Pool
from fsljax.classification.photographs.sections import (
    duplicates_section,
    mislabelled_section,
    sentences_section,
)
from fsljax.classification.report import confused_pairs_section
from fsljax.config import field, seed
from fsljax.config.fields import MOST_IN_A_STEP, MOST_ROUNDS
from fsljax.data.dataset import ImageDataset, spread_classes
from fsljax.parallel.devices import ONE, Devices
from fsljax.reporting.sections import Section, embedding_map_section
from fsljax.training.method import Evaluation, Learned

_CLASSES_ON_MAP = 20
_POINTS_ON_MAP = 600
_DIMENSIONS_ON_MAP = 64


@dataclass(frozen=True)
class PhotographEval:
    """How heads are compared, and which photographs are reported as suspicious."""

    heads: tuple[str, ...] = field(HEADS, "heads to compare", choices=HEADS, empty=False)
    ways: tuple[int, ...] = field((5, 0), "classes per episode; 0: all", least=0, cap=MOST_IN_A_STEP)
    shots: tuple[int, ...] = field((1, 5), "support photographs per class", least=1, cap=MOST_IN_A_STEP)
    queries: int = field(15, "query photographs per class, if available", least=1, cap=MOST_IN_A_STEP)
    episodes: int = field(600, "number of episodes for each way and shot", least=1, cap=MOST_ROUNDS)
    all_way_episodes: int = field(150, "number of episodes of all classes", least=1, cap=MOST_ROUNDS)
    divisions: int = field(
        10, "random divisions of the classes into known and unknown ones; 0: none", least=0, cap=1_000
    )
    false_accept: float = field(
        0.05, "fraction of unknown photographs that may be accepted as known", above=0, below=1
    )
    mislabelled: float = field(
        0.8,
        "minimum probability of another class for a photograph to be reported as mislabelled",
        above=0,
        most=1,
    )
    duplicate: float = field(
        0.99,
        "minimum cosine similarity of features for photographs of two classes to be duplicates",
        above=0,
        most=1,
    )
    seed: int = seed(0, "seed of episodes and divisions")


def evaluate(
    options: PhotographEval,
    plain: Pool,
    trained: Pool | None,
    *,
    distance: str,
    devices: Devices = ONE,
) -> Evaluation:
    """Figures of every head, the best of them, and what the user should look at.

    Args:
      options: of the evaluation.
      plain: the photographs with the features of the network.
      trained: with the embeddings that were trained on those that are not held out; None: there are none.
      distance: of the head `prototype`.
      devices: that share episodes.
    """
    labels = plain.labels
    sentences: list[str] = []
    told = {name: heads.cross_validated(plain, name, distance=distance) for name in options.heads}
    best = heads.best_of(told, labels)
    test, correct = _held_out(options, plain, distance, "")
    if trained is not None:
        figures, right = _held_out(options, trained, distance, "_trained")
        test, correct = test | figures, correct | right
    for name in told:
        if crossed := told[name].figures(labels):
            test[f"cross_validated_{name}"] = crossed
    sentences += _episodes(options, plain, trained, test, devices)
    test.update(_unknown(options, plain, distance, sentences))
    if not plain.held_out.any():
        sentences.append(
            "No class has two photographs, so nothing can be held out and no head can be chosen."
        )
    chosen = best or ("centered" if "centered" in options.heads else options.heads[0])
    sentences.append(words.on_best(chosen, told[chosen].figures(labels), test))
    learned = plain
    if trained is not None:
        learned, chosen = trained, _best_trained(options, test, chosen)
        sentences.append(words.on_trained(chosen, best, test))
    shown = told[best or chosen]
    suspects = mislabelled(shown.predictions, shown.probabilities(labels), labels, least=options.mislabelled)
    twins = duplicates(plain.embeddings, labels, plain.images.digests(), least=options.duplicate)
    sentences += words.to_look_at(plain, suspects, twins)
    rows = _on_map(plain)
    return Evaluation(
        test=_in_order(test, chosen),
        published={},
        sections=[
            sentences_section(sentences),
            *_sections(learned, plain, shown, suspects, twins, rows),
        ],
        embeddings=learned.embeddings[rows],
        shown=ImageDataset(plain.images[rows], labels[rows], plain.class_names),
        correct=correct,
        learned=_learned(learned, chosen, distance),
        remarks=tuple(sentences),
        more={"best_head": chosen, **_found(plain, suspects, twins)},
    )


def _learned(pool: Pool, name: str, distance: str) -> Learned:
    """The classifier of all photographs."""
    head = pool.head(name, np.ones(len(pool.labels), bool), distance=distance, named=True)
    return Learned([str(label) for label in head.labels], arrays_of(head, f"{name}:{distance}"))


def _held_out(
    options: PhotographEval, pool: Pool, distance: str, suffix: str
) -> tuple[dict[str, dict[str, float]], dict[str, np.ndarray]]:
    """Figures on the held-out photographs, and which of them each head named rightly."""
    if not pool.held_out.any():
        return {}, {}
    wanted = pool.labels[pool.held_out]
    correct = {
        f"held_out_{name}{suffix}": heads.held_out_predictions(pool, name, distance=distance) == wanted
        for name in options.heads
    }
    return {setting: heads.accuracy(right) for setting, right in correct.items()}, correct


def _episodes(
    options: PhotographEval,
    plain: Pool,
    trained: Pool | None,
    test: dict[str, dict[str, float]],
    devices: Devices,
) -> list[str]:
    """Adds the figures of episodes; returns sentences on those that there cannot be."""
    apart = trained is not None  # what was trained on is known too well to be named
    possible, sentences = few_shot.possible_settings(
        plain,
        ways=options.ways,
        shots=options.shots,
        queries=options.queries,
        episodes=options.episodes,
        all_way_episodes=options.all_way_episodes,
        apart=apart,
    )
    drawn = [(one.setting, few_shot.draw(plain, one, seed=options.seed, apart=apart)) for one in possible]
    test.update(few_shot.figures(plain, drawn, options.heads, devices))
    if trained is not None:
        figures = few_shot.figures(trained, drawn, options.heads, devices)
        test.update({f"{setting}_trained": values for setting, values in figures.items()})
    return sentences


def _unknown(
    options: PhotographEval, pool: Pool, distance: str, sentences: list[str]
) -> dict[str, dict[str, float]]:
    found = heads.unknown_figures(
        pool,
        options.heads,
        divisions=options.divisions,
        false_accept=options.false_accept,
        seed=options.seed,
        distance=distance,
    )
    if options.divisions and not found:
        sentences.append(
            "The detection of unknown photographs cannot be measured: it needs at least four classes and a "
            "held-out photograph."
        )
    return {f"unknown_{name}": figures for name, figures in found.items()}


def _best_trained(options: PhotographEval, test: dict[str, dict[str, float]], otherwise: str) -> str:
    """By the held-out photographs: the others were trained on."""
    accuracies = {
        name: test[f"held_out_{name}_trained"]["accuracy"]
        for name in options.heads
        if f"held_out_{name}_trained" in test
    }
    return max(accuracies, key=lambda name: accuracies[name]) if accuracies else otherwise


def _found(pool: Pool, suspects: list[Mislabelled], twins: list[Duplicate]) -> dict[str, Any]:
    """For `results.json`."""
    return {
        "mislabelled": [
            {
                "file": str(pool.files[one.row]),
                "class": pool.class_names[pool.labels[one.row]],
                "looks_like": pool.class_names[one.predicted],
                "probability": round(one.probability, 4),
            }
            for one in suspects
        ],
        "duplicates": [
            {
                "files": [str(pool.files[row]) for row in pair[:2]],
                "classes": [pool.class_names[pool.labels[row]] for row in pair[:2]],
                "exact": pair.exact,
                "cosine": round(pair.cosine, 4),
            }
            for pair in twins
        ],
    }


def _sections(
    learned: Pool,
    plain: Pool,
    told: heads.Told,
    suspects: list[Mislabelled],
    twins: list[Duplicate],
    on_map: np.ndarray,
) -> list[Section]:
    rows = np.flatnonzero(told.told)
    labels, images = plain.labels, plain.images
    confused = (
        [confused_pairs_section(labels[rows], told.predictions[rows], plain.class_names, images.at(rows))]
        if len(rows)
        else []
    )
    return [
        *confused,
        mislabelled_section(plain, suspects),
        duplicates_section(plain, twins),
        embedding_map_section(
            _few_dimensions(learned.embeddings[on_map]),
            labels[on_map],
            plain.class_names,
            images.at(on_map),
            classes_seen=True,
        ),
    ]


def _on_map(pool: Pool) -> np.ndarray:
    """Photographs of a few classes spread over all, thinned out."""
    rows = np.flatnonzero(np.isin(pool.labels, spread_classes(pool.classes, _CLASSES_ON_MAP)))
    step = -(-len(rows) // _POINTS_ON_MAP)
    chosen: np.ndarray = rows[::step]
    return chosen


def _few_dimensions(embeddings: np.ndarray) -> np.ndarray:
    """The coordinates `[n, few]` in which embeddings differ most: a map of thousands takes long."""
    wide = embeddings.astype(np.float64)
    wide -= wide.mean(axis=0)
    if len(wide) >= wide.shape[1]:
        return embeddings
    squares, sides = np.linalg.eigh(wide @ wide.T)
    few: np.ndarray = (sides * np.sqrt(np.maximum(squares, 0)))[:, : -_DIMENSIONS_ON_MAP - 1 : -1]
    return few


def _in_order(test: dict[str, dict[str, float]], best: str) -> dict[str, dict[str, float]]:
    """The best head's accuracy on the held-out photographs first."""
    first = [name for name in (f"held_out_{best}_trained", f"held_out_{best}") if name in test]
    return {name: test[name] for name in [*first, *(name for name in test if name not in first)]}
