"""Classifies photographs with a frozen pretrained network, optionally with a trained embedding on top.

Only a head (`fsljax.classification.heads`) learns the classes, from the features of their photographs. It is
evaluated in episodes, on held-out photographs and on held-out classes; the head that is best in
cross-validation is kept, fitted to all photographs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from types import MappingProxyType, ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from chex import ArrayTree
from ml_collections import ConfigDict

from fsljax.classification.config import ClosedSetTrain
from fsljax.classification.embedder import Embedder, build_embedder, check_network
from fsljax.classification.photographs.evaluation import PhotographEval, evaluate
from fsljax.classification.photographs.pool import pool_of
from fsljax.config import Data, Experiment, Network, config_dict, field, section
from fsljax.config.fields import MOST_ROUNDS
from fsljax.data.dataset import ImageDataset, Splits, merge, take_classes
from fsljax.errors import UserError
from fsljax.losses.prototypical import DISTANCES
from fsljax.methods import magnet, protonet, repmet, softmax
from fsljax.networks.variables import Variables
from fsljax.training.method import Batch, Evaluation, Method, TrainingData
from fsljax.training.state import TrainState

PARAMS = ("classifier", "representatives", "sigma")
METHODS: Mapping[str, ModuleType] = MappingProxyType(
    {"softmax": softmax, "prototypical": protonet, "repmet": repmet, "magnet": magnet}
)
_DIMENSIONS = (256,)  # of an embedding that is trained, where the config does not say


@dataclass(frozen=True)
class Loss:
    """How classes are compared."""

    distance: str = field("cosine", "distance used by the prototype head", choices=tuple(DISTANCES))


@dataclass(frozen=True)
class EmbeddingTrain(ClosedSetTrain):
    """An embedding on top of the features."""

    steps: int = field(
        0, "training steps of an embedding; 0: the features are the embedding", least=0, cap=MOST_ROUNDS
    )
    by: str = field("softmax", "method that trains the embedding", choices=tuple(METHODS))


@dataclass(frozen=True)
class Config(Experiment):
    """A frozen network and heads on its features."""

    method: str = field("pretrained", "method: a module of fsljax.methods")
    data: Data = section(Data, split_by="examples", channels=3, fractions=(0.8, 0.0, 0.2))
    network: Network = section(Network, trainable="head")
    train: EmbeddingTrain = section(EmbeddingTrain)
    loss: Loss = section(Loss)
    eval: PhotographEval = section(PhotographEval, free=True)


def default_config() -> ConfigDict:
    """Defaults of a frozen network."""
    return config_dict(Config())


def completed(config: Config) -> Config:
    """The config with a default embedding if it asks for training steps and names none."""
    if not config.train.steps:
        return config
    network = config.network
    normalize = network.normalize or config.train.by == "repmet"
    return replace(
        config, network=replace(network, embedding=network.embedding or _DIMENSIONS, normalize=normalize)
    )


def check(config: Config) -> None:
    """Raises a UserError for fields that contradict each other, whatever the data."""
    if config.data.split_by != "examples":
        raise UserError(
            f"config.data.split_by is {config.data.split_by!r}, but pretrained classifies new photographs "
            "of the classes it was given: set --config.data.split_by=examples."
        )
    if config.network.trainable != "head":
        raise UserError(
            f"config.network.trainable is {config.network.trainable!r}, but pretrained keeps the network "
            "frozen: set it to 'head', or use another method, such as softmax."
        )
    if config.network.embedding and not config.train.steps:
        raise UserError(
            f"config.network.embedding is {config.network.embedding}, but without training it would be "
            "random: set how long to train it, --config.train.steps=500, or leave it empty."
        )
    if len(set(config.eval.heads)) < len(config.eval.heads):
        raise UserError(f"config.eval.heads is {config.eval.heads}: list each head once.")
    if any(way == 1 for way in config.eval.ways):
        raise UserError("config.eval.ways has 1; an episode needs at least two classes, and 0 means all.")
    check_network(config)


@dataclass(frozen=True)
class Pretrained:
    """A frozen network, and the method that trains an embedding on top; see `Method`.

    Attributes:
      config: the experiment's config.
      enrolled: the photographs that heads are fitted to and the embedding is trained on.
      held_out: the photographs that are classified.
      embedder: the network.
      trained: method that trains the embedding; None: no embedding is trained.
    """

    config: Config
    enrolled: ImageDataset
    held_out: ImageDataset
    embedder: Embedder
    trained: Method | None

    @property
    def refresh_every(self) -> int:
        return self.trained.refresh_every if self.trained else 0

    @property
    def episodes_per_step(self) -> int:
        return self._trained.episodes_per_step

    @property
    def prefetchable(self) -> bool:
        return self._trained.prefetchable

    def init(self, key: jax.Array) -> TrainState:
        return self.trained.init(key) if self.trained else self._blank(key)

    def training_data(self, variables: Variables) -> TrainingData:
        return self._trained.training_data(variables)

    def refresh(self, state: TrainState, data: TrainingData) -> TrainState:
        return self._trained.refresh(state, data)

    def draw(self, state: TrainState, index: ArrayTree) -> Batch:
        return self._trained.draw(state, index)

    def learn(
        self, state: TrainState, batch: Batch, inputs: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        return self._trained.learn(state, batch, inputs)

    def validate(self, variables: Variables) -> dict[str, float]:
        return {}

    def evaluate(self, variables: Variables) -> Evaluation:
        pool, order = pool_of(self.enrolled, self.held_out)
        inputs = np.concatenate([self._features(variables, part) for part in self._parts])[order]
        trained = self.embedder.embed(variables, inputs) if self.trained else None
        return evaluate(
            self.config.eval,
            pool.embedded(inputs[:, 0]),
            None if trained is None else pool.embedded(trained),
            distance=self.config.loss.distance,
            devices=self.embedder.devices,
        )

    def _blank(self, key: jax.Array) -> TrainState:
        """A state of zeros to load values into: compiling a random one takes longer than all features."""

        def zeros(leaf: jax.ShapeDtypeStruct) -> jax.Array:
            is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            return key if is_key else jnp.zeros(leaf.shape, leaf.dtype)

        state: TrainState = jax.tree.map(zeros, jax.eval_shape(self.embedder.init, key))
        return state

    @property
    def _trained(self) -> Method:
        assert self.trained is not None  # without steps nothing asks for it
        return self.trained

    @cached_property
    def _parts(self) -> list[ImageDataset]:
        return [part for part in (self.enrolled, self.held_out) if len(part)]

    def _features(self, variables: Variables, part: ImageDataset) -> np.ndarray:
        """Float32 `[n, 1, features]`."""
        return self.embedder.inputs(variables, part, training=False)


def build(config: Config, splits: Splits) -> Pretrained:
    """A frozen network on `splits`.

    Raises:
      UserError: if the network cannot be built, a class has no photograph to enrol, or there are too few to
        train an embedding on.
    """
    enrolled = merge(splits.train, splits.validation) if len(splits.validation) else splits.train
    counts = enrolled.class_counts()
    if not counts.all():
        name = enrolled.class_names[int(np.argmin(counts))]
        raise UserError(
            f"The class {name} has no photograph to enrol: give it at least one, or remove the class."
        )
    embedder = build_embedder(config, enrolled.images.shape[1:])
    trained = _method(config, enrolled) if config.train.steps else None
    return Pretrained(config, enrolled, splits.test, embedder, trained)


def _method(config: Config, enrolled: ImageDataset) -> Method:
    """The method that trains the embedding, in batches that there are enough photographs for."""
    module, train = METHODS[config.train.by], config.train
    if module is protonet:
        enrolled = take_classes(enrolled, enrolled.class_counts() > 1)
        if enrolled.num_classes < 2:
            raise UserError(
                "Training on episodes needs two classes with two photographs each: give more, or set "
                "--config.train.by=softmax."
            )
    base = module.Config()
    classes = min(train.clusters, enrolled.num_classes)
    examples = max(1, min(train.examples, len(enrolled) // classes))
    batches = {"clusters": classes, "examples": examples}
    split_by, options = "examples", {}
    if module is protonet:
        queries = min(train.examples - 1, int(enrolled.class_counts().min()) - 1)
        batches = {"way": classes, "shot": 1, "queries": max(queries, 1)}
        # What its own tests would take, which are never made.
        split_by, smallest = "classes", {"queries": 1, "episodes": 1}
        options = {
            "validation": replace(base.validation, way=2, shot=1, **smallest),
            "eval": replace(base.eval, ways=(2,), shots=(1,), **smallest),
        }
    shared = {one.name: getattr(train, one.name) for one in fields(base.train) if hasattr(train, one.name)}
    derived = replace(
        base,
        name=config.name,
        seed=config.seed,
        data=replace(config.data, train_on="train", split_by=split_by),
        network=config.network,
        mesh=config.mesh,
        augment=config.augment,
        train=replace(base.train, **{**shared, **batches}),
        **options,
    )
    if examples < train.examples or classes < train.clusters:
        print(
            f"Training batches hold {classes} classes with {examples} photographs each, because there are "
            f"{len(enrolled)} photographs of {enrolled.num_classes} classes.",
            file=sys.stderr,
        )
    module.check(derived)
    trained: Method = module.build(derived, Splits(enrolled, enrolled, enrolled))
    return trained
