"""What methods share that are tested on the classes they were trained on: checks, and a task's parts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import numpy as np
from chex import ArrayTree

from fsljax import networks
from fsljax.classification.closed_set import (
    Report,
    evaluate,
    evaluation_clusters,
    find_clusters,
    nearest_cluster_predictions,
)
from fsljax.classification.config import ClosedSet
from fsljax.classification.embedder import Embedder, Part, build_embedder, check_network
from fsljax.classification.heads import Head
from fsljax.clustering import KMeansResult
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.errors import UserError
from fsljax.evaluation import linear_probe, metrics
from fsljax.networks.variables import Variables
from fsljax.training.method import Evaluation, TrainingData


class LabelledBatch(NamedTuple):
    """Positions of a batch's examples in the training set, int32 `[batch]`, and their classes `[batch]`."""

    rows: jax.Array
    labels: jax.Array


def check_closed_set(config: ClosedSet, *, unseen_classes: bool = False) -> None:
    """Raises a UserError for fields that cannot go together, whatever the data.

    Args:
      config: of the experiment.
      unseen_classes: the method can be tested on classes that it was not trained on.
    """
    if config.data.split_by != "examples" and not unseen_classes:
        raise UserError(
            f"config.data.split_by is {config.data.split_by!r}, but {config.method} tests on classes that it "
            "was trained on: set --config.data.split_by=examples."
        )
    networks.check_head(config)
    check_network(config)
    metrics.check(config.eval.metrics)


@dataclass(frozen=True)
class Task:
    """A data set whose classes are learned and tested, and the network that embeds it."""

    config: ClosedSet
    splits: Splits
    embedder: Embedder

    @cached_property
    def training_part(self) -> ImageDataset:
        return self.splits.training_part(self.config.data.train_on)

    def training_data(self, variables: Variables, index: ArrayTree) -> TrainingData:
        """What the network is given of the training part, with what batches are drawn from."""
        return TrainingData(self.embedder.inputs(variables, self.training_part, training=True), index)

    def part(self, variables: Variables, data: ImageDataset) -> Part:
        """A part and its embeddings."""
        return self.embedder.part(variables, data)

    def find_clusters(self, key: jax.Array, embeddings: np.ndarray, clusters_per_class: int) -> KMeansResult:
        """k-means of embeddings `[n, dim]` of the training part, class by class."""
        part = Part(self.training_part, embeddings, self.embedder.devices)
        return find_clusters(key, part, clusters_per_class)

    def validate(
        self, variables: Variables, predict: Callable[[Part], np.ndarray] | None = None
    ) -> dict[str, float]:
        """Accuracy on the validation part, by the training part's clusters unless another rule is given."""
        if self.config.data.train_on == "train_and_validation":
            return {}
        part = self.part(variables, self.splits.validation)
        if predict is None:
            clusters = evaluation_clusters(self.config, self.part(variables, self.splits.train))
            predicted = nearest_cluster_predictions(self.config, clusters, part)
        else:
            predicted = predict(part)
        return {"accuracy": float(np.mean(predicted == part.data.labels))}

    def evaluate(
        self,
        variables: Variables,
        *,
        published: dict[str, dict[str, dict[str, float]]] | None = None,
        predict: Mapping[str, Callable[[Part], np.ndarray]] | None = None,
        report: Report | None = None,
        head: Callable[[Part], tuple[Head, str]] | None = None,
    ) -> Evaluation:
        """Figures on the test part.

        Args:
          variables: of the network.
          published: figures of others, `{data set: {setting: {source: value}}}`.
          predict: the method's own rules, `{setting: rule}`.
          report: what is shown instead of the training part's clusters.
          head: makes the method's own rule, with its kind, of the training part; None: the part's clusters.
        """
        train, test = (self.part(variables, data) for data in (self.training_part, self.splits.test))
        return evaluate(
            self.config,
            train,
            test,
            published=(published or {}).get(self.config.data.name, {}),
            predictions={setting: rule(test) for setting, rule in (predict or {}).items()},
            report=report,
            head=None if head is None else head(train),
        )

    def probes(self, variables: Variables) -> dict[str, Callable[[Part], np.ndarray]]:
        """What the frozen backbone's features do without a network on top: `{setting: rule}`."""

        def features(data: ImageDataset) -> np.ndarray:
            return self.embedder.inputs(variables, data, training=False)[:, 0]

        train, labels = features(self.training_part), self.training_part.labels
        classes = self.training_part.num_classes
        regression = linear_probe.fit_logistic_regression(train, labels, num_classes=classes)
        return {
            "logistic_regression": lambda part: regression.predict(features(part.data)),
            "nearest_class_mean": lambda part: linear_probe.nearest_class_mean(
                train, labels, features(part.data), num_classes=classes
            ),
        }


def build_task(config: ClosedSet, splits: Splits) -> Task:
    """The task of a config on its data.

    Raises:
      UserError: if the network cannot be built, or a class has no image to train on.
    """
    task = Task(config, splits, build_embedder(config, splits.test.images.shape[1:]))
    counts = task.training_part.class_counts()
    for name, part in (("validation", splits.validation), ("test", splits.test)):
        if not len(part) and (name == "test" or config.data.train_on == "train"):
            raise UserError(f"The {name} split has no images: split the data differently, or give more.")
    if config.eval.neighbours > len(task.training_part):
        raise UserError(
            f"config.eval.neighbours is {config.eval.neighbours}, but there are {len(task.training_part)} "
            "training images: ask for at most that many."
        )
    if not counts.all():
        name = task.training_part.class_names[int(np.argmin(counts))]
        raise UserError(
            f"The class {name} has no training images: give it at least one, or remove the class."
        )
    return task


def check_batch(config: ClosedSet, part: ImageDataset, *, distinct_classes: bool) -> None:
    """Raises a UserError if a batch takes more images, or more distinct classes, than there are."""
    train = config.train
    if distinct_classes and train.clusters > part.num_classes:
        raise UserError(
            f"config.train.clusters is {train.clusters}, but there are {part.num_classes} classes to train "
            "on: ask for at most that many."
        )
    if train.clusters * train.examples > len(part):
        raise UserError(
            f"config.train.clusters × config.train.examples is {train.clusters * train.examples}, but there "
            f"are {len(part)} images to train on: ask for fewer."
        )


def warn_of_small_classes(part: ImageDataset, clusters: int, name: str) -> None:
    """Prints which classes have fewer images than the clusters that the field `name` asks for."""
    small = np.flatnonzero(part.class_counts() < clusters)
    if len(small):
        names = ", ".join(part.class_names[label] for label in small[:3])
        more = f" and {len(small) - 3} more" if len(small) > 3 else ""
        print(
            f"Classes with fewer training images than config.{name} = {clusters}, which get one cluster per "
            f"image: {names}{more}.",
            file=sys.stderr,
        )


def check_labels(part: ImageDataset) -> None:
    """Raises a UserError for a label beyond the classes: compiled code would make a loss of NaN of it."""
    if len(part) and (part.labels.min() < 0 or part.labels.max() >= part.num_classes):
        raise UserError(
            f"The image labels range from {part.labels.min()} to {part.labels.max()}; they must be 0 to "
            f"{part.num_classes - 1}."
        )
