"""What the training loop asks of a method, and what a method gives."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from chex import ArrayTree

from fsljax.data.dataset import ImageDataset
from fsljax.data.io.encoded_images import EncodedImages
from fsljax.networks.variables import Variables
from fsljax.reporting.sections import Section
from fsljax.training.state import TrainState

OF_EPISODES = ".episodes"


class Evaluation(NamedTuple):
    """What a method measured on the test part.

    Attributes:
      test: `{setting: {metric: value}}`, as in `results.json`.
      published: `{setting: {source: value}}`, figures of others beside which ours stand.
      sections: the method's own parts of the report.
      embeddings: float `[n, dim]` of test images of a few classes, for the projector.
      shown: those images, with their classes.
      correct: for paired comparisons, by setting: bool `[n]`, whether each test example was classified
        correctly; or float64 `[episodes]`, the accuracy in each episode, and then a digest of the episodes
        under the name of the setting and `OF_EPISODES`. Settings without either cannot be paired.
      learned: the classes and what names new images by them, kept beside the checkpoint; None: nothing.
      remarks: sentences that are printed under the table.
      more: what `results.json` holds of it beside the figures.
    """

    test: dict[str, dict[str, float]]
    published: dict[str, dict[str, float]]
    sections: list[Section]
    embeddings: np.ndarray
    shown: ImageDataset
    correct: dict[str, np.ndarray] = {}  # noqa: RUF012
    learned: Learned | None = None
    remarks: tuple[str, ...] = ()
    more: Mapping[str, Any] = MappingProxyType({})


class Learned(NamedTuple):
    """The classes of a run, and what names new images by them.

    Attributes:
      labels: names of the classes.
      arrays: what is kept of the rule; see `fsljax.classification.heads.kept.arrays_of`.
    """

    labels: list[str]
    arrays: dict[str, np.ndarray]


class TrainingData(NamedTuple):
    """What a method trains on.

    Attributes:
      inputs: of the network, `[n, …]`: images or features; on the host where they don't fit on the device.
      index: arrays, or a tree of them, that `Method.draw` reads, such as the classes of the inputs.
    """

    inputs: jax.Array | np.ndarray | EncodedImages
    index: ArrayTree


class Batch(Protocol):
    """What a step learns from, as a NamedTuple: `rows`, and what else `Method.learn` needs."""

    @property
    def rows(self) -> jax.Array:
        """Int `[…]`, positions in the inputs."""


class Data(Protocol):
    """What a method's `load` gives, such as `fsljax.data.Splits`."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences the user should read."""

    def fingerprints(self) -> dict[str, str]:
        """Of "train", "validation" and "test": equal only for the same data."""


class Method(Protocol):
    """What the training loop asks of a method."""

    @property
    def refresh_every(self) -> int:
        """Steps between calls of `refresh`; 0: it is never called."""

    @property
    def episodes_per_step(self) -> int:
        """Equal parts of a batch that devices take whole, each normalised by itself; 1: it is one."""

    @property
    def prefetchable(self) -> bool:
        """Whether `draw` reads nothing of the state but its key and step: batches are then known before."""

    def training_data(self, variables: Variables) -> TrainingData:
        """What is trained on: put on the device once, or read batch by batch where it doesn't fit."""

    def refresh(self, state: TrainState, data: TrainingData) -> TrainState:
        """The state with what the whole training set gives, before steps 0, `refresh_every`, and so on."""

    def init(self, key: jax.Array) -> TrainState:
        """The state before the first step."""

    def draw(self, state: TrainState, index: ArrayTree) -> Batch:
        """A batch, as a NamedTuple: `rows`, int `[…]`, are positions in the inputs; a pure function.

        It holds whatever else `learn` needs, such as classes.
        """

    def learn(
        self, state: TrainState, batch: Batch, inputs: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One step on a batch and its inputs, those at `batch.rows`, `[*rows.shape, …]`; a pure function.

        Where several devices share the step, each runs it with the whole batch and the inputs of its own
        share, `[n, …]` at `shares.share(rows)`; see `fsljax.parallel.shares`. Metrics are averaged over the
        devices. They are scalars and "loss" is one of them.
        """

    def validate(self, variables: Variables) -> dict[str, float]:
        """Figures on the validation part; the first chooses the best checkpoint. Empty: there is none."""

    def evaluate(self, variables: Variables) -> Evaluation:
        """Figures on the test part."""
