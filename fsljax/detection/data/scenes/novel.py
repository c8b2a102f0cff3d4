"""The scenes of few-shot episodes: drawn from keys."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np

from fsljax.detection.config import SceneOptions
from fsljax.detection.data.episode_file import (
    SHOTS_IN_EPISODES,
    DetectionEpisodes,
    query_ground_truth,
    support_ground_truth,
)
from fsljax.detection.data.scenes import episodes as scene_episodes
from fsljax.detection.data.scenes.drawings import SceneDrawings
from fsljax.detection.data.structures import GroundTruth, ImageBatch


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

    def make_episodes(
        self,
        count: int,
        seed: int,
        *,
        way: int = 5,
        shots: int = SHOTS_IN_EPISODES,
        queries_per_class: int = 10,
    ) -> DetectionEpisodes:
        return scene_episodes.make_episodes(
            self.drawings,
            count=count,
            seed=seed,
            way=way,
            shots=shots,
            queries_per_class=queries_per_class,
            options=self.options,
        )

    def in_pixels(self, episodes: DetectionEpisodes) -> DetectionEpisodes:
        return episodes

    def trained_objects(
        self, episodes: DetectionEpisodes, numbers: Sequence[int] | np.ndarray
    ) -> GroundTruth | None:
        return None

    def images(
        self, episodes: DetectionEpisodes, numbers: Sequence[int] | np.ndarray, distractors: bool
    ) -> tuple[ImageBatch, ImageBatch]:
        drawn = [
            scene_episodes.draw_episode(self.drawings, episodes, int(number), distractors=distractors)
            for number in numbers
        ]
        return (
            ImageBatch(jnp.stack([support for support, _ in drawn]), support_ground_truth(episodes, numbers)),
            ImageBatch(jnp.stack([query for _, query in drawn]), query_ground_truth(episodes, numbers)),
        )
