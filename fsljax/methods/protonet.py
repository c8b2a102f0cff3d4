"""Prototypical networks (Snell, Swersky and Zemel, 2017): few-shot classification by class means."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fsljax import networks
from fsljax.classification import few_shot
from fsljax.classification.closed_set import Part
from fsljax.config import BATCH_STATISTICS, check_at_least, check_choice, check_shared, shared_config
from fsljax.data.augmentation import Augmentation, augment_at_step
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.data.samplers.episodes import ClassTable, class_table, draw_episodes
from fsljax.errors import UserError
from fsljax.evaluation import episodic
from fsljax.evaluation.episodic import Setting
from fsljax.losses import prototypical_loss
from fsljax.losses.prototypical import DISTANCES
from fsljax.training.method import Evaluation, TrainingData
from fsljax.training.state import TrainState, first_state

# Omniglot, accuracy: the paper's table 1, and the PyTorch reimplementation of its protocol.
PUBLISHED = {
    "omniglot": {
        "5way_1shot": {"Snell et al. 2017": 0.988, "PyTorch port": 0.9885},
        "5way_5shot": {"Snell et al. 2017": 0.997, "PyTorch port": 0.9963},
        "20way_1shot": {"Snell et al. 2017": 0.960, "PyTorch port": 0.9492},
        "20way_5shot": {"Snell et al. 2017": 0.989, "PyTorch port": 0.9859},
    }
}


def default_config() -> ConfigDict:
    """Defaults of a prototypical network, as published for Omniglot."""
    config = shared_config()
    config.method = "protonet"
    config.loss = ConfigDict({"distance": "squared_euclidean", "temperature": 1.0})
    config.train.update(
        {
            "way": 60,
            "shot": 1,
            "queries": 5,
            "episodes_per_step": 1,
            "support_turns": 1,  # choices of support and query in a step's images; 1: as published
        }
    )
    config.validation = ConfigDict(dict(few_shot.VALIDATION))
    config.eval = ConfigDict(dict(few_shot.EVALUATION))
    config.eval.seed = 0
    config.eval.batch_statistics = "running"  # "episode": each test episode by its own, transductive
    return config.lock()


def check(config: ConfigDict) -> None:
    """Raises a UserError for values that cannot work, whatever the data."""
    check_shared(config)
    if config.data.split_by != "classes":
        raise UserError(
            f"config.data.split_by is {config.data.split_by!r}, but protonet tests on classes that it never "
            "saw: set --config.data.split_by=classes."
        )
    check_choice(config, "loss.distance", tuple(DISTANCES))
    check_choice(config, "eval.batch_statistics", BATCH_STATISTICS)
    few_shot.check(config)
    check_at_least(config, 2, "train.way")
    check_at_least(
        config, 1, "train.shot", "train.queries", "train.episodes_per_step", "train.support_turns"
    )  # fmt: skip
    if not config.loss.temperature > 0:
        raise UserError(f"config.loss.temperature is {config.loss.temperature}; it must be above 0.")
    drawn = config.train.shot + config.train.queries
    if config.train.support_turns > drawn:
        raise UserError(
            f"config.train.support_turns is {config.train.support_turns}, but a class has shot + queries = "
            f"{drawn} images in an episode: that many turns at most."
        )
    networks.check_head(config)
    networks.build(config)


class Batch(NamedTuple):
    """Positions of the images of a step's episodes, int32 `[episodes, way, shot + queries]`."""

    rows: jax.Array


@dataclass(frozen=True)
class ProtoNet:
    """A prototypical network on a data set; see `fsljax.training.method.Method`."""

    config: ConfigDict
    splits: Splits
    network: nn.Module
    amounts: Augmentation = field(default_factory=Augmentation)

    @cached_property
    def training_part(self) -> ImageDataset:
        return self.splits.training_part(self.config.data.train_on)

    @property
    def refresh_every(self) -> int:
        return 0

    @property
    def draws_ahead(self) -> bool:
        return True

    def refresh(self, state: TrainState, data: TrainingData) -> TrainState:
        return state

    def training_data(self, variables: dict[str, Any]) -> TrainingData:
        part = self.training_part
        return TrainingData(part.images, class_table(part.labels))

    def init(self, key: jax.Array) -> TrainState:
        return first_state(self.config, self.network, self.splits.test.images.shape[1:], key)

    def draw(self, state: TrainState, index: ClassTable) -> Batch:
        episode_key, _ = jax.random.split(state.step_key())
        train = self.config.train
        episodes = draw_episodes(
            episode_key, index, train.episodes_per_step, way=train.way, shot=train.shot, queries=train.queries
        )
        return Batch(jnp.asarray(episodes.images))

    def learn(
        self, state: TrainState, batch: Batch, inputs: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        _, augment_key = jax.random.split(state.step_key())
        images = inputs.astype(jnp.float32) / 255
        images = images.reshape(-1, *images.shape[-3:])
        images = augment_at_step(state.step, augment_key, images, self.amounts)
        images = images.reshape(*batch.rows.shape, *images.shape[-3:])
        loss_of = jax.value_and_grad(self.loss, has_aux=True)
        (loss, (batch_stats, accuracy)), gradients = loss_of(state.params, state.batch_stats, images)
        state = state.updated(gradients, batch_stats, ema=self.config.train.ema)
        return state, {"loss": loss, "accuracy": accuracy}

    def loss(
        self, params: Any, batch_stats: Any, images: jax.Array
    ) -> tuple[jax.Array, tuple[Any, jax.Array]]:
        """Mean loss over episodes.

        Args:
          params, batch_stats: of the network.
          images: float `[episodes, way, shot + queries, height, width, channel]`.

        Returns:
          loss `[]`, and new batch statistics with the mean accuracy `[]`.
        """
        episodes, way, drawn = images.shape[:3]
        embeddings, changed = self.network.apply(
            {"params": params, "batch_stats": batch_stats},
            images.reshape(episodes, way * drawn, *images.shape[3:]),
            running_average=False,
            mutable=["batch_stats"],
        )
        embeddings = embeddings.reshape(episodes, way, drawn, -1)
        # Every image may take its turn as support: more comparisons from the same embeddings.
        turns = jnp.stack(
            [jnp.roll(embeddings, -turn, axis=2) for turn in range(self.config.train.support_turns)]
        )
        shot = self.config.train.shot
        episode_loss = partial(
            prototypical_loss,
            distance=self.config.loss.distance,
            temperature=self.config.loss.temperature,
        )
        output = jax.vmap(jax.vmap(episode_loss))(turns[..., :shot, :], turns[..., shot:, :])
        return jnp.mean(output.loss), (changed["batch_stats"], jnp.mean(output.accuracy))

    def validate(self, variables: dict[str, Any]) -> dict[str, float]:
        if self.config.data.train_on == "train_and_validation":
            return {}
        validation = self.splits.validation
        embeddings = self.embed(variables, validation.images)
        distance = self.config.loss.distance
        return {
            "accuracy": few_shot.validation_accuracy(self.config, validation, embeddings, distance=distance)
        }

    def evaluate(self, variables: dict[str, Any]) -> Evaluation:
        transductive = self.config.eval.batch_statistics == "episode"
        test = self.splits.test
        return few_shot.evaluate(
            self.config,
            Part(test, self.embed(variables, test.images)),
            {"": None},
            distance=self.config.loss.distance,
            published=PUBLISHED.get(self.config.data.name, {}),
            embed_episodes=partial(self._embed_images, variables, running_average=False)
            if transductive
            else None,
        )

    def embed(self, variables: dict[str, Any], images: np.ndarray) -> np.ndarray:
        """Embeddings `[n, dim]` of uint8 images `[n, height, width, channel]`, by running averages."""
        embed = partial(self._embed_images, variables, running_average=True)
        return episodic.embed_in_batches(embed, images)

    @cached_property
    def _embed_images(self) -> Any:
        def embed(variables: dict[str, Any], images: jax.Array, *, running_average: bool) -> Any:
            pixels = images.astype(jnp.float32) / 255
            return self.network.apply(variables, pixels, running_average=running_average)

        return jax.jit(embed, static_argnames="running_average")


def build(config: ConfigDict, splits: Splits) -> ProtoNet:
    """A prototypical network on `splits`.

    Raises:
      UserError: if the config asks for episodes that the data cannot give.
    """
    check(config)
    amounts = Augmentation(**config.augment.to_dict())
    method = ProtoNet(config, splits, networks.build(config), amounts)
    train = config.train
    episodic.check_setting(
        method.training_part, Setting(train.way, train.shot, train.queries), part="training", where="train"
    )
    few_shot.check_parts(config, splits.validation, splits.test)
    return method
