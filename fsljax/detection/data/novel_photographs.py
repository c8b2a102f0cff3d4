"""The photographs of few-shot episodes: read from a set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.detection.data import photograph_episodes
from fsljax.detection.data.episode_file import (
    SHOTS_IN_EPISODES,
    DetectionEpisodes,
    of_queries,
    query_ground_truth,
    support_ground_truth,
)
from fsljax.detection.data.photograph_batches import Sizing, load_batch, scaled_ground_truth
from fsljax.detection.data.structures import DetectionSet, GroundTruth, ImageBatch
from fsljax.errors import UserError

_ROUNDED = 0.01  # of a pixel, in the file


@dataclass(frozen=True)
class NovelPhotographs:
    """Photographs with boxes of novel classes; see `fsljax.detection.data.source.NovelImages`.

    Attributes:
      data: of the novel classes alone.
      sizing: how images are scaled and padded, to one shape.
      known: the same images with their boxes of the trained classes; None: nothing tells of any.
      shots: images of the training split with boxes of the novel classes; None: there are none.
    """

    data: DetectionSet
    sizing: Sizing
    known: DetectionSet | None = None
    shots: DetectionSet | None = None

    episodes_at_once = 1
    images_at_once = 10

    @cached_property
    def content(self) -> str:
        return self.data.fingerprint()

    @property
    def fingerprint(self) -> str:
        return self.content

    def make_episodes(
        self,
        count: int,
        seed: int,
        *,
        way: int = 5,
        shots: int = SHOTS_IN_EPISODES,
        queries_per_class: int = 10,
    ) -> DetectionEpisodes:
        try:
            return photograph_episodes.make_episodes(
                self.data, count=count, seed=seed, way=way, shots=shots, queries_per_class=queries_per_class
            )
        except UserError as error:
            raise UserError(f"{error} Or turn episodes off: --config.eval.episodes=0.") from error

    def in_pixels(self, episodes: DetectionEpisodes) -> DetectionEpisodes:
        self._check_boxes(episodes)
        scales = np.array([self.sizing.scale(size) for size in self.data.sizes.tolist()], np.float32)

        def scaled(boxes: np.ndarray, images: np.ndarray) -> np.ndarray:
            of_images = np.tile(scales[self._rows(images)], 2)
            return boxes * (of_images if boxes.ndim == of_images.ndim else of_images[..., None, :])

        boxes = scaled(np.asarray(episodes.ground_truth.boxes), episodes.query)
        return replace(
            episodes,
            support_boxes=scaled(episodes.support_boxes, episodes.support),
            ground_truth=episodes.ground_truth._replace(boxes=boxes, crowd=self._crowds(episodes)),
        )

    def trained_objects(
        self, episodes: DetectionEpisodes, numbers: Sequence[int] | np.ndarray
    ) -> GroundTruth | None:
        if self.known is None:
            return None
        rows = self._rows(episodes.query[numbers])
        flat = scaled_ground_truth(self.known, rows.reshape(-1), self.sizing)
        return of_queries(flat, rows.shape)

    def _crowds(self, episodes: DetectionEpisodes) -> np.ndarray | None:
        """Which objects of the queries are crowds, `[episodes, queries, t]`: episodes do not hold it."""
        if self.data.crowd is None:
            return None
        crowd = np.zeros(np.shape(episodes.ground_truth.mask), bool)
        rows = self._rows(episodes.query)
        for episode, query in np.ndindex(rows.shape):
            row = rows[episode, query]
            of_episode = np.isin(self.data.labels[row], episodes.classes[episode])
            crowd[episode, query, : of_episode.sum()] = self.data.crowd[row][of_episode]
        return crowd

    def images(
        self, episodes: DetectionEpisodes, numbers: Sequence[int] | np.ndarray, distractors: bool
    ) -> tuple[ImageBatch, ImageBatch]:
        if distractors:
            raise UserError(
                "config.eval.distractors is for scenes, and photographs contain other objects anyway: set it "
                "to False."
            )
        support, support_sizes = self.photographs(episodes.support[numbers])
        query, query_sizes = self.photographs(episodes.query[numbers])
        return (
            ImageBatch(support, support_ground_truth(episodes, numbers), support_sizes),
            ImageBatch(query, query_ground_truth(episodes, numbers), query_sizes),
        )

    def photographs(self, ids: np.ndarray) -> tuple[jax.Array, jax.Array]:
        """Of ids `[…]`: images `[…, height, width, 3]` and their sizes `[…, 2]`."""
        batch = load_batch(self.data, self.sizing.buckets()[0], self._rows(ids).reshape(-1), self.sizing)
        images = jnp.asarray(batch.images, jnp.float32) / 255
        return images.reshape(*ids.shape, *images.shape[1:]), jnp.asarray(batch.sizes).reshape(*ids.shape, 2)

    def rows_of(self, episodes: DetectionEpisodes) -> list[int]:
        """Which images the episodes take."""
        rows = [self._rows(ids).reshape(-1) for ids in (episodes.support, episodes.query)]
        return np.unique(np.concatenate(rows)).tolist()

    def _check_boxes(self, episodes: DetectionEpisodes) -> None:
        """Raises a UserError if a box of an episode lies outside its image."""
        truths = np.asarray(episodes.ground_truth.boxes)
        for images, boxes in ((episodes.support, episodes.support_boxes), (episodes.query, truths)):
            sizes = np.tile(self.data.sizes[self._rows(images)], 2)
            beyond = boxes > _ROUNDED + (sizes if boxes.ndim == sizes.ndim else sizes[..., None, :])
            if beyond.any():
                number = int(np.nonzero(beyond)[0][0])
                raise UserError(
                    f"Episode {number} has a box outside its image: it is damaged. Regenerate the episodes."
                )

    def _rows(self, ids: np.ndarray) -> np.ndarray:
        try:
            return np.array([self._row_of[str(name)] for name in ids.flat]).reshape(ids.shape)
        except KeyError as error:
            raise UserError(
                f"The episodes use an image {error} that the data set does not have: regenerate them."
            ) from error

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.data.ids)}
