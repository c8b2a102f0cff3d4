"""What methods of fine-grained classification share: defaults, checks, batches, and a task's parts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from fsljax import networks
from fsljax.classification.closed_set import (
    Part,
    Report,
    evaluate,
    evaluation_clusters,
    nearest_cluster_predictions,
)
from fsljax.classification.embedder import Embedder, build_embedder
from fsljax.config import check_at_least, check_seeds, check_shared, check_whole, get, plain, shared_config
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.errors import UserError
from fsljax.evaluation import linear_probe, nearest_cluster
from fsljax.training.method import Evaluation, TrainingData


class LabelledBatch(NamedTuple):
    """Positions of a batch's examples in the training set, int32 `[batch]`, and their classes `[batch]`."""

    rows: jax.Array
    labels: jax.Array


def default_config(method: str) -> ConfigDict:
    """Defaults of a method of classification; it adds its own."""
    config = shared_config()
    config.method = method
    config.data.split_by = "examples"
    config.train.update({"clusters": 12, "examples": 4})  # classes or clusters in a batch, examples of each
    config.eval = ConfigDict(
        {
            "clusters_per_class": 1,  # of the training set, for nearest-cluster classification
            "num_nearest": nearest_cluster.NUM_NEAREST,  # clusters that have a vote, L
            "neighbours": 1,  # that have a vote in nearest-neighbour classification
            "seed": 0,
        }
    )
    return config


def check(config: ConfigDict, *, unseen_classes: bool = False) -> None:
    """Raises a UserError for values that cannot work, whatever the data.

    Args:
      config: of the experiment.
      unseen_classes: the method can be tested on classes that it was not trained on.
    """
    check_shared(config)
    if config.data.split_by != "examples" and not unseen_classes:
        raise UserError(
            f"config.data.split_by is {config.data.split_by!r}, but {config.method} tests on classes that it "
            "was trained on: set --config.data.split_by=examples."
        )
    check_at_least(config, 2, "train.clusters")
    check_at_least(
        config, 1, "train.examples", "eval.clusters_per_class", "eval.num_nearest", "eval.neighbours"
    )
    check_seeds(config, "eval.seed")
    networks.check_head(config)
    check_whole(config, "network.embedding")
    if config.network.trainable != "head":
        for name in ("views", "feature_dropout"):
            if config.network[name]:
                raise UserError(
                    f"config.network.{name} is {config.network[name]}, but that is for features of a frozen "
                    "backbone: set --config.network.trainable=head, or leave it at 0."
                )
    elif not config.network.views and _augments(config):
        raise UserError(
            "config.augment asks for changed images, but a frozen backbone's features are those of plain "
            "ones: say how many changed views of each image to compute, --config.network.views=8."
        )
    networks.build(config)


def _augments(config: ConfigDict) -> bool:
    return plain(config.augment) != plain(shared_config().augment)


@dataclass(frozen=True)
class Task:
    """A data set whose classes are learned and tested, and the network that embeds it."""

    splits: Splits
    embedder: Embedder

    @property
    def config(self) -> ConfigDict:
        return self.embedder.config

    @cached_property
    def training_part(self) -> ImageDataset:
        return self.splits.training_part(self.config.data.train_on)

    def training_data(self, variables: dict[str, Any], index: Any) -> TrainingData:
        """What the network is given of the training part, with what batches are drawn from."""
        return TrainingData(self.embedder.inputs(variables, self.training_part, training=True), index)

    def part(self, variables: dict[str, Any], data: ImageDataset) -> Part:
        """A part and its embeddings."""
        inputs = self.embedder.inputs(variables, data, training=False)
        return Part(data, self.embedder.embed(variables, inputs))

    def validate(
        self, variables: dict[str, Any], predict: Callable[[Part], np.ndarray] | None = None
    ) -> dict[str, float]:
        """Accuracy on the validation part, by the training part's clusters unless another rule is given."""
        if self.config.data.train_on == "train_and_validation":
            return {}
        part = self.part(variables, self.splits.validation)
        if predict is None:
            found = evaluation_clusters(self.config, self.part(variables, self.splits.train))
            predicted = nearest_cluster_predictions(self.config, found, part)
        else:
            predicted = predict(part)
        return {"accuracy": float(np.mean(predicted == part.data.labels))}

    def evaluate(
        self,
        variables: dict[str, Any],
        *,
        published: dict[str, dict[str, dict[str, float]]] | None = None,
        predict: dict[str, Callable[[Part], np.ndarray]] | None = None,
        report: Report | None = None,
    ) -> Evaluation:
        """Figures on the test part.

        Args:
          variables: of the network.
          published: figures of others, `{data set: {setting: {source: value}}}`.
          predict: the method's own rules, `{setting: rule}`.
          report: what is shown instead of the training part's clusters.
        """
        test = self.part(variables, self.splits.test)
        return evaluate(
            self.config,
            self.part(variables, self.training_part),
            test,
            published=(published or {}).get(self.config.data.name, {}),
            predictions={setting: rule(test) for setting, rule in (predict or {}).items()},
            report=report,
        )

    def probes(self, variables: dict[str, Any]) -> dict[str, Callable[[Part], np.ndarray]]:
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


def build_task(config: ConfigDict, splits: Splits) -> Task:
    """The task of a config on its data.

    Raises:
      UserError: if the network cannot be built, or a class has no image to train on.
    """
    task = Task(splits, build_embedder(config, splits.test.images.shape[1:]))
    counts = task.training_part.class_counts()
    for name, part in (("validation", splits.validation), ("test", splits.test)):
        if not len(part) and (name == "test" or config.data.train_on == "train"):
            raise UserError(f"The {name} part has no image: divide the data otherwise, or give more.")
    if config.eval.neighbours > len(task.training_part):
        raise UserError(
            f"config.eval.neighbours is {config.eval.neighbours}, but there are {len(task.training_part)} "
            "training images: ask for that many at most."
        )
    if not counts.all():
        name = task.training_part.class_names[int(np.argmin(counts))]
        raise UserError(f"The class {name} has no image to train on: give it one, or leave the class out.")
    return task


def check_batch(config: ConfigDict, part: ImageDataset, *, distinct_classes: bool) -> None:
    """Raises a UserError if a batch takes more images, or more distinct classes, than there are."""
    train = config.train
    if distinct_classes and train.clusters > part.num_classes:
        raise UserError(
            f"config.train.clusters is {train.clusters}, but there are {part.num_classes} classes to train "
            "on: ask for that many at most."
        )
    if train.clusters * train.examples > len(part):
        raise UserError(
            f"config.train.clusters × config.train.examples is {train.clusters * train.examples}, but there "
            f"are {len(part)} images to train on: ask for fewer."
        )


def tell_of_small_classes(config: ConfigDict, part: ImageDataset, name: str) -> None:
    """Prints which classes have fewer images than the clusters that the field `name` asks for."""
    clusters = get(config, name)
    small = np.flatnonzero(part.class_counts() < clusters)
    if len(small):
        names = ", ".join(part.class_names[label] for label in small[:3])
        more = f" and {len(small) - 3} more" if len(small) > 3 else ""
        print(
            f"Classes with fewer images to train on than config.{name} = {clusters}, which get a cluster an "
            f"image: {names}{more}.",
            file=sys.stderr,
        )
