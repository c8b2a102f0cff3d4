"""Sections of configs that several methods of classification share."""

from __future__ import annotations

from dataclasses import dataclass

from fsljax.config import Data, Experiment, Train, field, section, seed
from fsljax.config.fields import MOST_IN_A_STEP, MOST_ROUNDS
from fsljax.evaluation.nearest_cluster import NUM_NEAREST

WITHIN_ALPHABET = "share of episodes whose classes are all of one alphabet, or of one GROUP/ in their names"


@dataclass(frozen=True)
class FewShotValidation:
    """Episodes of the validation part, always the same ones; they choose the best checkpoint."""

    way: int = field(5, "classes of an episode", least=2, cap=MOST_IN_A_STEP)
    shot: int = field(1, "support images of a class", least=1, cap=MOST_IN_A_STEP)
    queries: int = field(15, "of a class", least=1, cap=MOST_IN_A_STEP)
    episodes: int = field(1000, "whose mean accuracy is taken", least=1, cap=MOST_ROUNDS)
    within_alphabet: float = field(0.0, WITHIN_ALPHABET, least=0, most=1)


@dataclass(frozen=True)
class FewShotEval:
    """Episodes of classes that were never trained."""

    ways: tuple[int, ...] = field(
        (5, 20), "classes of an episode; each with each shot", least=2, cap=MOST_IN_A_STEP, empty=False
    )
    shots: tuple[int, ...] = field(
        (1, 5), "support images of a class", least=1, cap=MOST_IN_A_STEP, empty=False
    )
    queries: int = field(15, "of a class", least=1, cap=MOST_IN_A_STEP)
    episodes: int = field(10_000, "of each way and shot", least=1, cap=MOST_ROUNDS)
    read_episodes: str = field("", "a file written by an earlier run")
    write_episodes: str = field("", "a file for later runs, or for others")
    seed: int = seed(0, "of the episodes")


@dataclass(frozen=True)
class EpisodicTrain(Train):
    """Episodes of training."""

    way: int = field(60, "classes of an episode", least=2, cap=MOST_IN_A_STEP)
    shot: int = field(1, "support images of a class", least=1, cap=MOST_IN_A_STEP)
    queries: int = field(5, "of a class", least=1, cap=MOST_IN_A_STEP)
    episodes_per_step: int = field(1, "whose losses are meaned", least=1, cap=MOST_IN_A_STEP)
    support_turns: int = field(1, "choices of support and query in a step's images; 1: as published", least=1)
    within_alphabet: float = field(0.0, WITHIN_ALPHABET, least=0, most=1)


@dataclass(frozen=True)
class ClosedSetTrain(Train):
    """Batches of a closed set of classes."""

    clusters: int = field(12, "classes or clusters in a batch", least=2, cap=MOST_IN_A_STEP)
    examples: int = field(4, "of each", least=1, cap=MOST_IN_A_STEP)


@dataclass(frozen=True)
class ClosedSetEval:
    """Classes that were trained on, told apart by what the training part's embeddings say."""

    clusters_per_class: int = field(
        1, "of the training set, for nearest-cluster classification", least=1, cap=MOST_IN_A_STEP
    )
    num_nearest: int = field(NUM_NEAREST, "clusters that have a vote, L", least=1)
    neighbours: int = field(1, "that have a vote in nearest-neighbour classification", least=1)
    metrics: tuple[str, ...] = field(
        ("retrieval", "nmi"),
        "of the test part's embeddings: modules of fsljax.evaluation.metrics, or dotted names of your own",
    )
    seed: int = seed(0, "of k-means")


@dataclass(frozen=True)
class ClosedSet(Experiment):
    """What configs of methods hold that are tested on the classes they were trained on."""

    data: Data = section(Data, split_by="examples")
    train: ClosedSetTrain = section(ClosedSetTrain)
    eval: ClosedSetEval = section(ClosedSetEval, free=True)
