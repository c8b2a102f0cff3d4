"""The images of few-shot detection episodes: scenes drawn from keys, or photographs that are read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.detection.config import SceneOptions
from fsljax.detection.data import photograph_episodes
from fsljax.detection.data.episode_file import Episodes
from fsljax.detection.data.photograph_batches import Sizing, load_batch
from fsljax.detection.data.scenes import episodes as scene_episodes
from fsljax.detection.data.scenes.drawings import SceneDrawings
from fsljax.detection.data.structures import DetectionSet, GroundTruth, ImageBatch
from fsljax.errors import UserError


@dataclass(frozen=True)
class NovelScenes:
    """Scenes of novel characters; see `fsljax.detection.data.source.NovelImages`."""

    drawings: SceneDrawings
    options: SceneOptions

    episodes_at_once = 5
    images_at_once = None

    @cached_property
    def content(self) -> str:
        return scene_episodes.content_of(self.drawings)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.content} {self.options}".encode()).hexdigest()

    def make_episodes(self, count: int, seed: int) -> Episodes:
        return scene_episodes.make_episodes(self.drawings, count=count, seed=seed, options=self.options)

    def in_pixels(self, episodes: Episodes) -> Episodes:
        return episodes

    def images(
        self, episodes: Episodes, numbers: Sequence[int] | np.ndarray, distractors: bool
    ) -> tuple[ImageBatch, ImageBatch]:
        drawn = [
            scene_episodes.draw_episode(self.drawings, episodes, int(number), distractors=distractors)
            for number in numbers
        ]
        return (
            ImageBatch(jnp.stack([support for support, _ in drawn]), _support_boxes(episodes, numbers)),
            ImageBatch(jnp.stack([query for _, query in drawn]), _query_boxes(episodes, numbers)),
        )


@dataclass(frozen=True)
class NovelPhotographs:
    """Photographs with boxes of novel classes; see `fsljax.detection.data.source.NovelImages`.

    Attributes:
      data: of the novel classes alone.
      sizing: how images are scaled and padded, to one shape.
    """

    data: DetectionSet
    sizing: Sizing

    episodes_at_once = 1
    images_at_once = 10

    @cached_property
    def content(self) -> str:
        return self.data.fingerprint()

    @property
    def fingerprint(self) -> str:
        return self.content

    def make_episodes(self, count: int, seed: int) -> Episodes:
        try:
            return photograph_episodes.make_episodes(self.data, count=count, seed=seed)
        except UserError as error:
            raise UserError(f"{error} Or run no episodes: --config.eval.episodes=0.") from error

    def in_pixels(self, episodes: Episodes) -> Episodes:
        scales = np.array([self.sizing.scale(size) for size in self.data.sizes.tolist()], np.float32)

        def scaled(boxes: np.ndarray, images: np.ndarray) -> np.ndarray:
            of_images = np.tile(scales[self._rows(images)], 2)
            return boxes * (of_images if boxes.ndim == of_images.ndim else of_images[..., None, :])

        boxes = scaled(np.asarray(episodes.ground_truth.boxes), episodes.query)
        return replace(
            episodes,
            support_boxes=scaled(episodes.support_boxes, episodes.support),
            ground_truth=episodes.ground_truth._replace(boxes=boxes),
        )

    def images(
        self, episodes: Episodes, numbers: Sequence[int] | np.ndarray, distractors: bool
    ) -> tuple[ImageBatch, ImageBatch]:
        if distractors:
            raise UserError(
                "config.eval.distractors is for scenes, and photographs hold other objects anyway: let it be "
                "False."
            )
        support, support_sizes = self._read(episodes.support[numbers])
        query, query_sizes = self._read(episodes.query[numbers])
        return (
            ImageBatch(support, _support_boxes(episodes, numbers), support_sizes),
            ImageBatch(query, _query_boxes(episodes, numbers), query_sizes),
        )

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


def _support_boxes(episodes: Episodes, numbers: Sequence[int] | np.ndarray) -> GroundTruth:
    """The box of each support, `[g, way, shots, 1, …]`; labels are those of the classes in their episode."""
    boxes = episodes.support_boxes[numbers][..., None, :]
    labels = np.broadcast_to(np.arange(episodes.way)[:, None, None], boxes.shape[:-1])
    return GroundTruth(boxes, labels, np.ones(boxes.shape[:-1], bool))


def _query_boxes(episodes: Episodes, numbers: Sequence[int] | np.ndarray) -> GroundTruth:
    """Of the queries, on the device, `[g, queries, t, …]`."""
    boxes: GroundTruth = jax.tree.map(lambda part: jnp.asarray(part[numbers]), episodes.ground_truth)
    return boxes
