"""The images of few-shot detection episodes: scenes drawn from keys, or photographs that are read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.detection.data import photograph_episodes as image_episodes
from fsljax.detection.data.batches import Sizing, load_batch
from fsljax.detection.data.episode_file import Episodes
from fsljax.detection.data.scenes import episodes as scene_episodes
from fsljax.detection.data.scenes.composition import SceneOptions
from fsljax.detection.data.scenes.drawings import SceneDrawings
from fsljax.detection.data.structures import DetectionSet
from fsljax.errors import UserError


class EpisodeImages(NamedTuple):
    """The images of `g` episodes, float32 in [0, 1].

    Attributes:
      support: `[g, way, shots, height, width, channel]`.
      query: `[g, queries, height, width, channel]`.
      support_sizes, query_sizes: `[g, way, shots, 2]` and `[g, queries, 2]`, heights and widths without
        padding; None: there is none.
    """

    support: jax.Array
    query: jax.Array
    support_sizes: jax.Array | None = None
    query_sizes: jax.Array | None = None


class NovelImages(Protocol):
    """Images of classes that are never trained."""

    @property
    def together(self) -> int:
        """Episodes whose images are held at once."""

    @property
    def at_once(self) -> int | None:
        """Images that a network sees at once; None: all of an episode."""

    @property
    def content(self) -> str:
        """What tells these images from others, a SHA-256."""

    @property
    def told(self) -> str:
        """What tells the episodes that are made of them from others, a SHA-256."""

    def make_episodes(self, count: int, seed: int) -> Episodes: ...

    def as_seen(self, episodes: Episodes) -> Episodes:
        """The episodes with boxes in pixels of the images that a network sees."""

    def images(
        self, episodes: Episodes, numbers: Sequence[int] | np.ndarray, distractors: bool
    ) -> EpisodeImages:
        """Of these episodes, as `as_seen` gave them."""


@dataclass(frozen=True)
class NovelScenes:
    """Scenes of novel characters; see `NovelImages`."""

    drawings: SceneDrawings
    options: SceneOptions

    together = 5
    at_once = None

    @cached_property
    def content(self) -> str:
        return scene_episodes.content_of(self.drawings)

    @property
    def told(self) -> str:
        return hashlib.sha256(f"{self.content} {self.options}".encode()).hexdigest()

    def make_episodes(self, count: int, seed: int) -> Episodes:
        return scene_episodes.make_episodes(self.drawings, count=count, seed=seed, options=self.options)

    def as_seen(self, episodes: Episodes) -> Episodes:
        return episodes

    def images(
        self, episodes: Episodes, numbers: Sequence[int] | np.ndarray, distractors: bool
    ) -> EpisodeImages:
        drawn = [
            scene_episodes.draw_episode(self.drawings, episodes, int(number), distractors=distractors)
            for number in numbers
        ]
        return EpisodeImages(jnp.stack([of.support for of in drawn]), jnp.stack([of.query for of in drawn]))


@dataclass(frozen=True)
class NovelPhotographs:
    """Photographs with boxes of novel classes; see `NovelImages`.

    Attributes:
      data: of the novel classes alone.
      sizing: how images are scaled and padded, to one shape.
    """

    data: DetectionSet
    sizing: Sizing

    together = 1
    at_once = 10

    @cached_property
    def content(self) -> str:
        return self.data.fingerprint()

    @property
    def told(self) -> str:
        return self.content

    def make_episodes(self, count: int, seed: int) -> Episodes:
        try:
            return image_episodes.make_episodes(self.data, count=count, seed=seed)
        except UserError as error:
            raise UserError(f"{error} Or run no episodes: --config.eval.episodes=0.") from error

    def as_seen(self, episodes: Episodes) -> Episodes:
        scales = np.array([self.sizing.scale(size) for size in self.data.sizes.tolist()], np.float32)

        def scaled(boxes: np.ndarray, images: np.ndarray) -> np.ndarray:
            own = np.tile(scales[self._rows(images)], 2)
            return boxes * (own if boxes.ndim == own.ndim else own[..., None, :])

        return replace(
            episodes,
            support_boxes=scaled(episodes.support_boxes, episodes.support),
            boxes=scaled(episodes.boxes, episodes.query),
        )

    def images(
        self, episodes: Episodes, numbers: Sequence[int] | np.ndarray, distractors: bool
    ) -> EpisodeImages:
        if distractors:
            raise UserError(
                "config.eval.distractors is for scenes, and photographs hold other objects anyway: let it be "
                "False."
            )
        support, support_sizes = self._read(episodes.support[numbers])
        query, query_sizes = self._read(episodes.query[numbers])
        return EpisodeImages(support, query, support_sizes, query_sizes)

    def _read(self, ids: np.ndarray) -> tuple[jax.Array, jax.Array]:
        """Images `[…, height, width, 3]` and their sizes `[…, 2]`."""
        batch = load_batch(self.data, self.sizing.buckets()[0], self._rows(ids).reshape(-1), self.sizing)
        images = jnp.asarray(batch.images, jnp.float32) / 255
        return images.reshape(*ids.shape, *images.shape[1:]), jnp.asarray(batch.sizes).reshape(*ids.shape, 2)

    def _rows(self, ids: np.ndarray) -> np.ndarray:
        return np.array([self._row_of[str(name)] for name in ids.flat]).reshape(ids.shape)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.data.ids)}
