"""The interface between the training loop and a method."""

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
    """What a method measured on the test split.

    Attributes:
      test: `{setting: {metric: value}}`, as in `results.json`.
      published: `{setting: {source: value}}`, published figures to compare with.
      sections: the method's own sections of the report.
      embeddings: float `[n, dim]` of test images of a few classes, for the projector.
      shown: the images of these embeddings, with their classes.
      correct: for paired comparisons, for each setting: bool `[n]`, whether each test example was classified
        correctly; or float64 `[episodes]`, the accuracy in each episode, with a digest of the episodes under
        the name of the setting and `OF_EPISODES`. Settings without either cannot be paired.
      learned: the classes and the rule that classifies new images, stored next to the checkpoint; None:
        nothing.
      remarks: sentences printed below the table of results.
      more: further content of `results.json` besides the figures.
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
    """The classes of a run, and the rule that classifies new images.

    Attributes:
      labels: names of the classes.
      arrays: the stored rule; see `fsljax.classification.heads.kept.arrays_of`.
    """

    labels: list[str]
    arrays: dict[str, np.ndarray]


class TrainingData(NamedTuple):
    """What a method trains on.

    Attributes:
      inputs: inputs of the network, `[n, …]`: images or features; kept on the host if they do not fit on the
        device.
      index: array, or tree of arrays, that `Method.draw` reads, such as the classes of the inputs.
    """

    inputs: jax.Array | np.ndarray | EncodedImages
    index: ArrayTree


class Batch(Protocol):
    """The batch of a training step, a NamedTuple: `rows`, and whatever else `Method.learn` needs."""

    @property
    def rows(self) -> jax.Array:
        """Positions in the inputs, int `[…]`."""


class Data(Protocol):
    """What a method's `load` returns, such as `fsljax.data.Splits`."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences the user should read."""

    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of "train", "validation" and "test", equal only for identical data."""


class Method(Protocol):
    """What the training loop requires of a method."""

    @property
    def refresh_every(self) -> int:
        """Steps between calls of `refresh`; 0: never called."""

    @property
    def episodes_per_step(self) -> int:
        """Number of equal parts of a batch, each kept on one device and normalised by itself; 1: no parts."""

    @property
    def prefetchable(self) -> bool:
        """Whether `draw` reads only the key and step of the state, so that batches are known in advance."""

    def training_data(self, variables: Variables) -> TrainingData:
        """The training data: put on the device once, or read batch by batch if they do not fit."""

    def refresh(self, state: TrainState, data: TrainingData) -> TrainState:
        """Updates the state from the whole training set, before steps 0, `refresh_every`, and so on."""

    def init(self, key: jax.Array) -> TrainState:
        """The state before the first step."""

    def draw(self, state: TrainState, index: ArrayTree) -> Batch:
        """Draws a batch, a NamedTuple whose `rows`, int `[…]`, are positions in the inputs; a pure function.

        The batch also holds whatever else `learn` needs, such as classes.
        """

    def learn(
        self, state: TrainState, batch: Batch, inputs: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One training step on a batch and its inputs `[*rows.shape, …]`, from `batch.rows`; a pure function.

        If several devices share the step, each runs it with the whole batch and the inputs of its own share,
        `[n, …]` at `shares.share(rows)`; see `fsljax.parallel.shares`. Metrics are scalars, including "loss",
        and are averaged over the devices.
        """

    def validate(self, variables: Variables) -> dict[str, float]:
        """Validation metrics; the first selects the best checkpoint. Empty: there is no validation."""

    def evaluate(self, variables: Variables) -> Evaluation:
        """Evaluates the network on the test split."""
