"""Prototypical networks (Snell, Swersky and Zemel, 2017): few-shot classification by class means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from chex import ArrayTree
from ml_collections import ConfigDict

from fsljax.classification import few_shot
from fsljax.classification.config import EpisodicTrain, FewShotEval, FewShotValidation
from fsljax.classification.embedder import Embedder, Part, build_embedder, check_network
from fsljax.classification.episodes import check_setting, class_groups
from fsljax.config import Augmentation, Experiment, config_dict, field, section
from fsljax.data.augmentation import moved_by
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.data.samplers.episodes import ClassTable, Groups, class_table, draw_episodes
from fsljax.errors import UserError
from fsljax.evaluation.episodic import Setting
from fsljax.losses import prototypical_loss
from fsljax.losses.prototypical import DISTANCES
from fsljax.networks.variables import Params, Variables
from fsljax.parallel import shares
from fsljax.training.method import Evaluation, TrainingData
from fsljax.training.state import TrainState

# Omniglot, accuracy: the paper's table 1, and the PyTorch reimplementation of its protocol. Lake's task:
# Lake, Salakhutdinov and Tenenbaum, 2019, https://arxiv.org/abs/1902.03477; RCN: George et al., 2017.
LAKE = {"people": 0.955, "BPL": 0.967, "RCN": 0.927, "Prototypical Networks": 0.863, "convnet": 0.865}
PUBLISHED = {
    "omniglot": {
        "5way_1shot": {"Snell et al. 2017": 0.988, "PyTorch port": 0.9885},
        "5way_5shot": {"Snell et al. 2017": 0.997, "PyTorch port": 0.9963},
        "20way_1shot": {"Snell et al. 2017": 0.960, "PyTorch port": 0.9492},
        "20way_5shot": {"Snell et al. 2017": 0.989, "PyTorch port": 0.9859},
    },
    "omniglot_lake": {"lake_one_shot": LAKE},
    "omniglot_lake_minimal": {"lake_one_shot": {"Prototypical Networks": 0.699}},
}


BATCH_STATISTICS = ("running", "episode")


@dataclass(frozen=True)
class Loss:
    """The loss of an episode."""

    distance: str = field(
        "squared_euclidean", "distance between queries and prototypes", choices=tuple(DISTANCES)
    )
    temperature: float = field(1.0, "temperature that distances are divided by", above=0, factor=True)


@dataclass(frozen=True)
class Eval(FewShotEval):
    """Test episodes and how they are classified."""

    batch_statistics: str = field(
        "running",
        'batch norm at test time; "episode": statistics of each test episode, transductive',
        choices=BATCH_STATISTICS,
    )
    views: int = field(
        0, "augmented views of each test image, whose embeddings are averaged with the image's own",
        least=0, cap=1000,
    )  # fmt: skip
    views_share: float = field(
        0.5, "strength of these views as a fraction of the amounts in config.augment", above=0
    )


@dataclass(frozen=True)
class Config(Experiment):
    """A prototypical network, by default as published for Omniglot."""

    method: str = field("protonet", "method: a module of fsljax.methods")
    loss: Loss = section(Loss)
    train: EpisodicTrain = section(EpisodicTrain)
    class_augment: Augmentation = section(Augmentation)
    validation: FewShotValidation = section(FewShotValidation)
    eval: Eval = section(Eval, free=True)


def default_config() -> ConfigDict:
    """Defaults of a prototypical network, as published for Omniglot."""
    return config_dict(Config())


def check(config: Config) -> None:
    """Raises a UserError for fields that contradict each other, whatever the data."""
    if config.data.split_by != "classes":
        raise UserError(
            f"config.data.split_by is {config.data.split_by!r}, but protonet tests on unseen classes: set "
            "--config.data.split_by=classes."
        )
    few_shot.check(config.eval)
    drawn = config.train.shot + config.train.queries
    if config.train.support_turns > drawn:
        raise UserError(
            f"config.train.support_turns is {config.train.support_turns}, but a class has shot + queries = "
            f"{drawn} images in an episode: set it to at most that many."
        )
    if config.eval.batch_statistics == "episode" and config.network.trainable == "head":
        raise UserError(
            "config.eval.batch_statistics is 'episode', but a frozen backbone's features have no episode "
            "statistics: set it to 'running'."
        )
    if config.eval.views:
        _check_views(config)
    _check_class_augment(config)
    check_network(config)


def _check_views(config: Config) -> None:
    if config.eval.batch_statistics == "episode" or config.network.trainable == "head":
        raise UserError(
            f"config.eval.views is {config.eval.views}, but views are embedded with running averages, and "
            "not with a frozen backbone: set it to 0."
        )
    if not config.augment.moves():
        raise UserError(
            f"config.eval.views is {config.eval.views}, but config.augment does not move images: set how "
            "far, --config.augment.rotation=15, or set it to 0."
        )


def _check_class_augment(config: Config) -> None:
    amounts = config.class_augment
    if amounts.moves() and config.network.trainable == "head":
        raise UserError(
            "config.class_augment moves the images of an episode, but a frozen backbone's features are "
            "computed beforehand: train more of the network, or set it to 0."
        )
    kept = moved_by(amounts, 1.0)
    if amounts != replace(kept, stop_at=amounts.stop_at):
        raise UserError(
            "config.class_augment moves and bends (rotation, scale, stretch, shear, shift, elastic), up to "
            "stop_at: set other changes in config.augment."
        )


class Batch(NamedTuple):
    """Positions of the images of a step's episodes, int32 `[episodes, way, shot + queries]`."""

    rows: jax.Array


class Index(NamedTuple):
    """The images of each class, and the groups that classes of an episode are drawn from; None: all."""

    table: ClassTable
    groups: Groups | None


@dataclass(frozen=True)
class ProtoNet:
    """A prototypical network on a data set; see `fsljax.training.method.Method`.

    With a frozen backbone, its features are embedded; without a head on top, prototypes are means of the
    features.
    """

    config: Config
    splits: Splits
    embedder: Embedder

    @cached_property
    def training_part(self) -> ImageDataset:
        return self.splits.training_part(self.config.data.train_on)

    @property
    def refresh_every(self) -> int:
        return 0

    @property
    def episodes_per_step(self) -> int:
        return self.config.train.episodes_per_step

    @property
    def prefetchable(self) -> bool:
        return True

    def refresh(self, state: TrainState, data: TrainingData) -> TrainState:
        return state

    def training_data(self, variables: Variables) -> TrainingData:
        part, train = self.training_part, self.config.train
        groups = class_groups(part, train.way, train.within_alphabet, part="training", where="train")
        index = Index(class_table(part.labels), groups)
        return TrainingData(self.embedder.inputs(variables, part, training=True), index)

    def init(self, key: jax.Array) -> TrainState:
        return self.embedder.init(key)

    def draw(self, state: TrainState, index: Index) -> Batch:
        episode_key, _ = jax.random.split(state.step_key())
        train = self.config.train
        episodes = draw_episodes(
            episode_key,
            index.table,
            train.episodes_per_step,
            way=train.way,
            shot=train.shot,
            queries=train.queries,
            groups=index.groups,
        )
        return Batch(jnp.asarray(episodes.images))

    def learn(
        self, state: TrainState, batch: Batch, inputs: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        _, change_key = jax.random.split(state.step_key())
        episodes, way, drawn = batch.rows.shape

        def loss_of(params: Params) -> tuple[jax.Array, tuple[jax.Array, ArrayTree]]:
            embeddings, batch_stats = self.embedder.embed_for_training(
                params,
                state.batch_stats,
                inputs,
                change_key,
                state.step,
                episodes=episodes,
                of_class=self.config.class_augment,
                class_size=drawn,
            )
            embeddings = shares.gathered(embeddings, episodes=episodes)
            loss, accuracy = self.loss(embeddings.reshape(-1, way, drawn, embeddings.shape[-1]))
            return loss, (accuracy, batch_stats)

        (loss, (accuracy, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        state = state.updated(gradients, batch_stats, ema=self.config.train.ema)
        return state, {"loss": loss, "accuracy": accuracy}

    def loss(self, embeddings: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean loss `[]` over episodes, and mean accuracy `[]`.

        Args:
          embeddings: `[episodes, way, shot + queries, dim]`.
        """
        # Every image may take its turn as support: more comparisons from the same embeddings.
        turns = jnp.stack(
            [jnp.roll(embeddings, -turn, axis=2) for turn in range(self.config.train.support_turns)]
        )
        shot, options = self.config.train.shot, self.config.loss
        episode_loss = partial(prototypical_loss, distance=options.distance, temperature=options.temperature)
        output = jax.vmap(jax.vmap(episode_loss))(turns[..., :shot, :], turns[..., shot:, :])
        return jnp.mean(output.loss), jnp.mean(output.accuracy)

    def validate(self, variables: Variables) -> dict[str, float]:
        if self.config.data.train_on == "train_and_validation":
            return {}
        accuracy = few_shot.validation_accuracy(
            self.config.validation,
            self.embedder.part(variables, self.splits.validation),
            distance=self.config.loss.distance,
        )
        return {"accuracy": accuracy}

    def evaluate(self, variables: Variables) -> Evaluation:
        transductive = self.config.eval.batch_statistics == "episode"
        test, options = self.splits.test, self.config.eval
        if options.views:
            embeddings = self.embedder.embed_views(variables, test.images, options.views, options.views_share)
            part = Part(test, embeddings, self.embedder.devices)
        else:
            part = self.embedder.part(variables, test)
        minimal = self.config.data.background != "all"
        return few_shot.evaluate(
            options,
            part,
            {"": None},
            distance=self.config.loss.distance,
            published=PUBLISHED.get(self.config.data.name + "_minimal" * minimal, {}),
            fixed=self.splits.episodes,
            embed_episodes=partial(self.embedder.embed_by_batch_statistics, variables)
            if transductive
            else None,
        )


def build(config: Config, splits: Splits) -> ProtoNet:
    """A prototypical network on `splits`.

    Raises:
      UserError: if the data are too small for the episodes that the config asks for.
    """
    method = ProtoNet(config, splits, build_embedder(config, splits.test.images.shape[1:]))
    train = config.train
    check_setting(
        method.training_part, Setting(train.way, train.shot, train.queries), part="training", where="train"
    )
    class_groups(method.training_part, train.way, train.within_alphabet, part="training", where="train")
    few_shot.check_parts(config, splits.validation, splits.test, splits.episodes)
    return method
