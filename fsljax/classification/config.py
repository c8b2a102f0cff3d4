"""Config sections shared by several classification methods."""

from __future__ import annotations

from dataclasses import dataclass

from fsljax.config import Data, Experiment, Train, field, section, seed
from fsljax.config.fields import MOST_IN_A_STEP, MOST_ROUNDS
from fsljax.evaluation.nearest_cluster import NUM_NEAREST

WITHIN_ALPHABET = (
    "fraction of episodes whose classes all come from one alphabet, or share a GROUP/ in their names"
)


@dataclass(frozen=True)
class FewShotValidation:
    """Fixed episodes of the validation split, by which the best checkpoint is chosen."""

    way: int = field(5, "classes per episode", least=2, cap=MOST_IN_A_STEP)
    shot: int = field(1, "support images per class", least=1, cap=MOST_IN_A_STEP)
    queries: int = field(15, "query images per class", least=1, cap=MOST_IN_A_STEP)
    episodes: int = field(
        1000, "number of episodes over which accuracy is averaged", least=1, cap=MOST_ROUNDS
    )
    within_alphabet: float = field(0.0, WITHIN_ALPHABET, least=0, most=1)


@dataclass(frozen=True)
class FewShotEval:
    """Test episodes of classes that were not trained on."""

    ways: tuple[int, ...] = field(
        (5, 20),
        "classes per episode; each is combined with each of shots",
        least=2,
        cap=MOST_IN_A_STEP,
        empty=False,
    )
    shots: tuple[int, ...] = field(
        (1, 5), "support images per class", least=1, cap=MOST_IN_A_STEP, empty=False
    )
    queries: int = field(15, "query images per class", least=1, cap=MOST_IN_A_STEP)
    episodes: int = field(10_000, "number of episodes for each way and shot", least=1, cap=MOST_ROUNDS)
    read_episodes: str = field("", "file of episodes to read, written by an earlier run")
    write_episodes: str = field("", "file to write the episodes to, for later runs")
    seed: int = seed(0, "seed for drawing episodes")


@dataclass(frozen=True)
class EpisodicTrain(Train):
    """Training episodes."""

    way: int = field(60, "classes per episode", least=2, cap=MOST_IN_A_STEP)
    shot: int = field(1, "support images per class", least=1, cap=MOST_IN_A_STEP)
    queries: int = field(5, "query images per class", least=1, cap=MOST_IN_A_STEP)
    episodes_per_step: int = field(
        1, "episodes over which the loss of a step is averaged", least=1, cap=MOST_IN_A_STEP
    )
    support_turns: int = field(
        1, "different choices of support and query among a step's images; 1: as published", least=1
    )
    within_alphabet: float = field(0.0, WITHIN_ALPHABET, least=0, most=1)


@dataclass(frozen=True)
class ClosedSetTrain(Train):
    """Training batches of a closed set of classes."""

    clusters: int = field(12, "classes or clusters per batch", least=2, cap=MOST_IN_A_STEP)
    examples: int = field(4, "examples of each class or cluster", least=1, cap=MOST_IN_A_STEP)


@dataclass(frozen=True)
class ClosedSetEval:
    """Classification of the trained classes from the embeddings of the training split."""

    clusters_per_class: int = field(
        1,
        "clusters per class of the training set, for nearest-cluster classification",
        least=1,
        cap=MOST_IN_A_STEP,
    )
    num_nearest: int = field(NUM_NEAREST, "number of nearest clusters that vote, L", least=1)
    neighbours: int = field(1, "number of neighbours that vote in nearest-neighbour classification", least=1)
    metrics: tuple[str, ...] = field(
        ("retrieval", "nmi"),
        "metrics of the test embeddings: modules of fsljax.evaluation.metrics, or dotted names of your own",
    )
    seed: int = seed(0, "seed of k-means")


@dataclass(frozen=True)
class ClosedSet(Experiment):
    """The config of methods that are tested on the classes they were trained on."""

    data: Data = section(Data, split_by="examples")
    train: ClosedSetTrain = section(ClosedSetTrain)
    eval: ClosedSetEval = section(ClosedSetEval, free=True)
