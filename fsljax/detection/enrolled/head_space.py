"""Regions as a detector's own head compares them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import jax

from fsljax.detection.data.structures import Array
from fsljax.detection.model.enroll import Enrollment, enrollment_of
from fsljax.detection.model.search import Seen, look
from fsljax.detection.model.trained import TrainedDetector


@dataclass(frozen=True, eq=False)
class HeadSpace:
    """By embeddings, or by the features under them; see `fsljax.detection.enrolled.looking.Space`."""

    trained: TrainedDetector

    @property
    def side(self) -> int:
        return self.trained.config.data.image_size

    @property
    def dim(self) -> int:
        config = self.trained.config
        return config.head.dim if config.eval.enrol.space == "embedding" else self.trained.compared_dim

    @property
    def enrollment(self) -> Enrollment:
        return enrollment_of(self.trained.config)

    def look(self, images: Array, sizes: Array, given: Array, mask: Array) -> Seen:
        return look(self._on_device, images, sizes, given, mask)

    @cached_property
    def _on_device(self) -> TrainedDetector:
        return replace(self.trained, variables=jax.device_put(self.trained.variables))

    def __getstate__(self) -> dict[str, object]:
        return {"trained": self.trained}
