"""What a detector trains on and is tested on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, Protocol

import jax
import numpy as np

from fsljax.config.modules import find
from fsljax.detection.config import Config
from fsljax.detection.data.episode_file import SHOTS_IN_EPISODES, DetectionEpisodes
from fsljax.detection.data.structures import GroundTruth, ImageBatch
from fsljax.training.method import TrainingData


class NovelImages(Protocol):
    """Images of classes that are never trained."""

    @property
    def episodes_at_once(self) -> int:
        """Episodes whose images are held at once."""

    @property
    def images_at_once(self) -> int | None:
        """Images that a network sees at once; None: all of an episode."""

    @property
    def content(self) -> str:
        """What tells these images from others, a SHA-256."""

    @property
    def fingerprint(self) -> str:
        """What tells the episodes that are made of them from others, a SHA-256."""

    def make_episodes(
        self,
        count: int,
        seed: int,
        *,
        way: int = 5,
        shots: int = SHOTS_IN_EPISODES,
        queries_per_class: int = 10,
    ) -> DetectionEpisodes: ...

    def in_pixels(self, episodes: DetectionEpisodes) -> DetectionEpisodes:
        """The episodes with boxes in pixels of the images that a network sees."""

    def images(
        self, episodes: DetectionEpisodes, numbers: Sequence[int] | np.ndarray, distractors: bool
    ) -> tuple[ImageBatch, ImageBatch]:
        """Supports `[g, way, shots, …]` and queries `[g, queries, …]` of `g` episodes, as of `in_pixels`.

        Images are float32 in [0, 1]; of a support the one box that is given is its ground truth.
        """

    def trained_objects(
        self, episodes: DetectionEpisodes, numbers: Sequence[int] | np.ndarray
    ) -> GroundTruth | None:
        """The objects of trained classes in the queries `[g, queries, t, …]`; None: nothing tells of any."""


class DetectionData(Protocol):
    """Where a detector's images are from."""

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the classes that are trained."""

    def fingerprints(self) -> dict[str, str]: ...

    def training_data(self) -> TrainingData: ...

    def draw(
        self, key: jax.Array, run_key: jax.Array, step: jax.Array | int, index: Any, count: int
    ) -> ImageBatch:
        """The batch of a step, by its key, or by the run's and the step's number.

        Its `rows` are positions in the inputs; its images are None where these are the images. Where it makes
        the images itself, they and their ground truth are those of this device's share.
        """

    def augmented(self, key: jax.Array, batch: ImageBatch, inputs: jax.Array) -> ImageBatch:
        """What a step learns from: float images, changed at random by the key, and their ground truth.

        Args:
          key: of the changes.
          batch: as `draw` gives it.
          inputs: at this device's share of its rows.
        """

    def training_images(self, key: jax.Array, data: TrainingData, count: int) -> Iterator[ImageBatch]:
        """Batches of about so many training images."""

    def test_images(
        self, count: int, seed: int, classes: np.ndarray | None = None, *, training: bool = False
    ) -> Iterator[ImageBatch]:
        """Batches of so many images, of some of the trained classes or of all.

        They were never trained on, unless those that were are asked for.
        """

    @property
    def novel_images(self) -> NovelImages | None:
        """Of the classes that are not trained; None: there are none."""


def find_set(name: str) -> ModuleType:
    """The module that `config.data.name` names: its `load(config)` gives `DetectionData`.

    Raises:
      UserError: there is none of this name, or it has no `load`.
    """
    return find("fsljax.detection.data.sets", name, field="data.name", needs=("load",))


def load(config: Config) -> DetectionData:
    """The data that `config.data` names.

    Raises:
      UserError: if they are missing or unfit, saying what to do.
    """
    data: DetectionData = find_set(config.data.name).load(config)
    return data
