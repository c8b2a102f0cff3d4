"""Magnet loss (Rippel, Paluri, Dollár and Bourdev, 2016): classification by clusters that keep apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fsljax.classification import task as fine_grained
from fsljax.classification.closed_set import Part, find_clusters
from fsljax.classification.task import Task
from fsljax.config import check_at_least
from fsljax.data.dataset import Splits
from fsljax.data.samplers.neighbourhoods import (
    Neighbourhood,
    draw_neighbourhood,
    empty_index,
    refreshed,
    with_losses,
)
from fsljax.errors import UserError
from fsljax.losses import magnet_loss
from fsljax.training.method import Evaluation, TrainingData
from fsljax.training.state import TrainState

# Accuracy: the paper's table 1.
PUBLISHED = {
    "oxford_flowers102": {"nearest_cluster": {"Rippel et al. 2016": 0.914}},
    "oxford_iiit_pet": {"nearest_cluster": {"Rippel et al. 2016": 0.894}},
    "stanford_dogs": {"nearest_cluster": {"Rippel et al. 2016": 0.751}},
}

_REFRESH = 2  # folded into a step's key; what it is split into are the numbers before


def default_config() -> ConfigDict:
    """Defaults of the Magnet loss."""
    config = fine_grained.default_config("magnet")
    config.loss = ConfigDict({"alpha": 1.0})
    config.train.update({"clusters_per_class": 3, "refresh_every": 100})
    return config.lock()


def check(config: ConfigDict) -> None:
    """Raises a UserError for values that cannot work, whatever the data."""
    fine_grained.check(config)
    check_at_least(config, 1, "train.clusters_per_class", "train.refresh_every")
    check_at_least(config, 0, "loss.alpha")
    if config.train.examples < 2:
        raise UserError(
            f"config.train.examples is {config.train.examples}: a cluster of one example has no variance, so "
            "take 2 or more of each."
        )


@dataclass(frozen=True)
class Magnet:
    """A Magnet network on a data set; see `fsljax.training.method.Method`."""

    task: Task

    @property
    def refresh_every(self) -> int:
        return self.task.config.train.refresh_every

    @property
    def draws_ahead(self) -> bool:
        return False  # the losses of a step decide on the next batch

    def init(self, key: jax.Array) -> TrainState:
        index = empty_index(
            self.task.training_part.num_classes,
            self.task.config.train.clusters_per_class,
            len(self.task.training_part),
            self.task.embedder.dim(),
        )
        return self.task.embedder.init(key).replace(method_state=index)

    def training_data(self, variables: dict[str, Any]) -> TrainingData:
        return self.task.training_data(variables, self.task.training_part.labels)

    def refresh(self, state: TrainState, data: TrainingData) -> TrainState:
        """Clusters the embeddings of the whole training set anew."""
        embeddings = self.task.embedder.embed(state.inference_variables(), data.inputs)
        part = Part(self.task.training_part, embeddings)
        found = find_clusters(
            jax.random.fold_in(state.step_key(), _REFRESH),
            part,
            self.task.config.train.clusters_per_class,
        )
        return state.replace(method_state=jax.jit(refreshed)(state.method_state, data.index, found))

    def draw(self, state: TrainState, index: jax.Array) -> Neighbourhood:
        draw_key, _ = jax.random.split(state.step_key())
        train = self.task.config.train
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
        inputs = inputs.reshape(-1, *inputs.shape[2:])

        def loss_of(params: Any) -> tuple[jax.Array, tuple[Any, Any]]:
            embeddings, batch_stats = self.task.embedder.embed_for_training(
                params, state.batch_stats, inputs, change_key, state.step
            )
            embeddings = embeddings.reshape(*batch.rows.shape, -1)
            output = magnet_loss(embeddings, batch.classes, alpha=self.task.config.loss.alpha)
            return output.loss, (output, batch_stats)

        (loss, (output, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        state = state.updated(gradients, batch_stats, ema=self.task.config.train.ema)
        clusters = with_losses(state.method_state, batch.rows, output.example_losses)
        state = state.replace(method_state=clusters)
        apart = jnp.mean(output.example_losses == 0, dtype=jnp.float32)
        return state, {"loss": loss, "apart": apart, "variance": output.variance}

    def validate(self, variables: dict[str, Any]) -> dict[str, float]:
        return self.task.validate(variables)

    def evaluate(self, variables: dict[str, Any]) -> Evaluation:
        return self.task.evaluate(variables, published=PUBLISHED)

    @property
    def _largest_class(self) -> int:
        return int(self.task.training_part.class_counts().max())


def build(config: ConfigDict, splits: Splits) -> Magnet:
    """A Magnet network on `splits`.

    Raises:
      UserError: if the config asks for batches that the data cannot give.
    """
    check(config)
    task = fine_grained.build_task(config, splits)
    counts = task.training_part.class_counts()
    clusters = np.minimum(counts, config.train.clusters_per_class)
    others = int(clusters.sum() - clusters.max())
    if others < config.train.clusters - 1:
        raise UserError(
            f"config.train.clusters is {config.train.clusters}, but beside a class there are as few as "
            f"{others} clusters of others: ask for {others + 1} at most, or for more clusters a class "
            "(config.train.clusters_per_class)."
        )
    fine_grained.tell_of_small_classes(config, task.training_part, "train.clusters_per_class")
    return Magnet(task)
