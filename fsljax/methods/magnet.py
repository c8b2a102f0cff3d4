"""Magnet loss (Rippel, Paluri, Dollár and Bourdev, 2016): classification with clusters pushed apart."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from chex import ArrayTree
from ml_collections import ConfigDict

from fsljax.classification.config import ClosedSet, ClosedSetTrain
from fsljax.classification.task import Task, build_task, check_closed_set, warn_of_small_classes
from fsljax.config import config_dict, field, section
from fsljax.data.dataset import Splits
from fsljax.data.samplers.neighbourhoods import (
    Neighbourhood,
    draw_neighbourhood,
    empty_index,
    refreshed,
    with_losses,
)
from fsljax.errors import UserError
from fsljax.losses import MagnetOutput, magnet_loss
from fsljax.networks.variables import Params, Variables
from fsljax.parallel import shares
from fsljax.training.method import Evaluation, TrainingData
from fsljax.training.state import TrainState

# Accuracy: the paper's table 1.
PUBLISHED = {
    "oxford_flowers102": {"nearest_cluster": {"Rippel et al. 2016": 0.914}},
    "oxford_iiit_pet": {"nearest_cluster": {"Rippel et al. 2016": 0.894}},
    "stanford_dogs": {"nearest_cluster": {"Rippel et al. 2016": 0.751}},
}

_REFRESH = 2  # folded into a step's key; what it is split into are the numbers before


@dataclass(frozen=True)
class Loss:
    """The Magnet loss."""

    alpha: float = field(1.0, "margin, in units of 2σ²", least=0)


@dataclass(frozen=True)
class MagnetTrain(ClosedSetTrain):
    """Neighbourhoods of clusters."""

    clusters_per_class: int = field(3, "number of k-means clusters per class, k", least=1, cap=10_000)
    refresh_every: int = field(100, "steps between clusterings of the whole training set", least=1)


@dataclass(frozen=True)
class Config(ClosedSet):
    """A Magnet network."""

    method: str = field("magnet", "method: a module of fsljax.methods")
    loss: Loss = section(Loss)
    train: MagnetTrain = section(MagnetTrain)


def default_config() -> ConfigDict:
    """Defaults of the Magnet loss."""
    return config_dict(Config())


def check(config: Config) -> None:
    """Raises a UserError for fields that contradict each other, whatever the data."""
    check_closed_set(config)
    if config.train.examples < 2:
        raise UserError(
            f"config.train.examples is {config.train.examples}: a cluster of one example has no variance, "
            "so use 2 or more."
        )


@dataclass(frozen=True)
class Magnet:
    """A Magnet network on a data set; see `fsljax.training.method.Method`."""

    config: Config
    task: Task
    episodes_per_step = 1

    @property
    def refresh_every(self) -> int:
        return self.config.train.refresh_every

    @property
    def prefetchable(self) -> bool:
        return False  # the losses of a step decide on the next batch

    def init(self, key: jax.Array) -> TrainState:
        index = empty_index(
            self.task.training_part.num_classes,
            self.config.train.clusters_per_class,
            len(self.task.training_part),
            self.task.embedder.dim(),
        )
        divided = (("centroids", len(index.centroids)),) if self.config.mesh.divide_classes else ()
        return self.task.embedder.init(key).replace(method_state=index, divided=divided)

    def training_data(self, variables: Variables) -> TrainingData:
        return self.task.training_data(variables, self.task.training_part.labels)

    def refresh(self, state: TrainState, data: TrainingData) -> TrainState:
        """Clusters the embeddings of the whole training set."""
        embeddings = self.task.embedder.embed(state.inference_variables(), data.inputs)
        key = jax.random.fold_in(state.step_key(), _REFRESH)
        clusters = self.task.find_clusters(key, embeddings, self.config.train.clusters_per_class)
        return state.replace(method_state=jax.jit(refreshed)(state.method_state, data.index, clusters))

    def draw(self, state: TrainState, index: jax.Array) -> Neighbourhood:
        draw_key, _ = jax.random.split(state.step_key())
        train = self.config.train
        return draw_neighbourhood(
            draw_key,
            state.method_state,
            clusters=train.clusters,
            examples=train.examples,
            largest_cluster=self._largest_class,
        )

    def learn(
        self, state: TrainState, batch: Neighbourhood, inputs: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        _, change_key = jax.random.split(state.step_key())

        def loss_of(params: Params) -> tuple[jax.Array, tuple[MagnetOutput, ArrayTree]]:
            embeddings, batch_stats = self.task.embedder.embed_for_training(
                params, state.batch_stats, inputs, change_key, state.step
            )
            embeddings = shares.gathered(embeddings).reshape(*batch.rows.shape, -1)
            output = magnet_loss(embeddings, batch.classes, alpha=self.config.loss.alpha)
            return output.loss, (output, batch_stats)

        (loss, (output, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        state = state.updated(gradients, batch_stats, ema=self.config.train.ema)
        clusters = with_losses(state.method_state, batch.rows, output.example_losses)
        state = state.replace(method_state=clusters)
        apart = jnp.mean(output.example_losses == 0, dtype=jnp.float32)
        return state, {"loss": loss, "apart": apart, "variance": output.variance}

    def validate(self, variables: Variables) -> dict[str, float]:
        return self.task.validate(variables)

    def evaluate(self, variables: Variables) -> Evaluation:
        return self.task.evaluate(variables, published=PUBLISHED)

    @property
    def _largest_class(self) -> int:
        return int(self.task.training_part.class_counts().max())


def build(config: Config, splits: Splits) -> Magnet:
    """A Magnet network on `splits`.

    Raises:
      UserError: if the data are too small for the batches that the config asks for.
    """
    task = build_task(config, splits)
    counts = task.training_part.class_counts()
    clusters = np.minimum(counts, config.train.clusters_per_class)
    others = int(clusters.sum() - clusters.max())
    if others < config.train.clusters - 1:
        raise UserError(
            f"config.train.clusters is {config.train.clusters}, but a class may have as few as {others} "
            f"clusters of other classes around it: use {others + 1} at most, or more clusters per class "
            "(config.train.clusters_per_class)."
        )
    warn_of_small_classes(task.training_part, config.train.clusters_per_class, "train.clusters_per_class")
    return Magnet(config, task)
