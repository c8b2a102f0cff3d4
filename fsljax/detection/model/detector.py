"""A two-stage detector (Faster R-CNN with a feature pyramid) whose head embeds regions.

The deformable convolutions of the authors' network are not implemented.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fsljax.detection.config import HeadOptions, ProposalOptions, PyramidOptions, RoIOptions
from fsljax.detection.model.fpn import FeaturePyramid
from fsljax.detection.model.roi_head import BOX_WEIGHTS, RoIHead
from fsljax.detection.model.rpn import ProposalHead, Proposals, propose, sizes_of_levels, surroundings
from fsljax.detection.ops.anchors import corner_anchors, pyramid_anchors
from fsljax.detection.ops.boxes import clip, decode
from fsljax.detection.ops.region_means import region_means
from fsljax.detection.ops.roi_align import roi_align
from fsljax.networks import StagedBackbone


@dataclass(frozen=True)
class DetectorOptions:
    """The parts of a detector other than its backbone.

    Attributes:
      pyramid, proposals, rois, head: the sections of the config.
      linear_classes: number of classes of the linear scores; 0: no linear scores.
      input_mean, input_std: mean and standard deviation of pixels: one number, or one per channel.
      frozen_statistics: the backbone's batch norm normalises by its running averages, which stay fixed.
      mean_fill: pixels of the padding count as `input_mean`.
    """

    pyramid: PyramidOptions
    proposals: ProposalOptions
    rois: RoIOptions
    head: HeadOptions
    linear_classes: int = 0
    input_mean: tuple[float, ...] = (0.0,)
    input_std: tuple[float, ...] = (1.0,)
    frozen_statistics: bool = False
    mean_fill: bool = False


class ProposalOutputs(NamedTuple):
    """Output of the proposal head for every anchor.

    Attributes:
      logits: for each level, `[b, anchors of the level]`.
      deltas: for each level, `[b, anchors of the level, 4]`.
      anchors: for each level, float32 `[anchors of the level, 4]`.
    """

    logits: list[jax.Array]
    deltas: list[jax.Array]
    anchors: list[np.ndarray]


class DetectorNetwork(nn.Module):
    """The network; its parts are methods for `apply(variables, …, method=…)`.

    Representatives are not part of it: pass them to `fsljax.detection.model.roi_head.repmet_scores`.

    Attributes:
      backbone: a network with `stages`.
      options: options of the other parts.
    """

    backbone: StagedBackbone
    options: DetectorOptions

    def setup(self) -> None:
        options, settings = self.options, self.backbone.settings
        pyramid, proposals, head = options.pyramid, options.proposals, options.head
        self.pyramid = FeaturePyramid(pyramid.channels, pyramid.extra_levels, settings, pyramid.norm)
        of_level = sizes_of_levels(proposals.sizes, len(self.strides()))[0]
        a_place = len(of_level) * len(proposals.ratios)
        self.proposals = ProposalHead(a_place, settings, proposals.convolutions)
        self.head = RoIHead(
            head.hidden,
            head.dim,
            options.linear_classes,
            head.normalize,
            head.dense,
            head.convolutions,
            pyramid.channels,
            head.has_class_boxes(),
            settings,
            head.quality,
        )

    def __call__(self, images: jax.Array, *, running_average: bool = True) -> jax.Array:
        """Calls every part with parameters once, as needed by `init`.

        Args:
          images: `[b, height, width, channel]`.
          running_average: as in the backbone.

        Returns:
          `[b, dim]`, the embedding of a region without content.
        """
        options, levels = self.options, self.trunk(images, train=not running_average)
        self.proposals(levels)
        side = options.rois.output_size
        roi = self.head(jnp.zeros((len(images), side, side, options.pyramid.channels)))
        self.head.box_changes(roi)
        if options.linear_classes:
            self.linear_logits(roi)
        if options.head.quality:
            self.head.quality_logits(roi)
        return self.embed(roi)

    def trunk(
        self,
        images: jax.Array,
        train: bool = False,
        height: float | jax.Array = math.inf,
        width: float | jax.Array = math.inf,
    ) -> list[jax.Array]:
        """Levels `[b, height_l, width_l, channels]` of the pyramid, finest first.

        Args:
          images: `[b, height, width, channel]` in [0, 1]; the last stride must divide height and width.
          train: normalise by the batch's statistics, and update the running averages.
          height, width: image sizes without padding, numbers or `[b]`; by default, no padding.

        Raises:
          ValueError: if the last stride does not divide height or width.
        """
        return self.pyramid(self.stages(images, train, height, width))

    def stages(
        self,
        images: jax.Array,
        train: bool = False,
        height: float | jax.Array = math.inf,
        width: float | jax.Array = math.inf,
    ) -> list[jax.Array]:
        """Stages `[b, height_s, width_s, channel_s]` of the backbone, finest first; see `trunk`."""
        strides = self.backbone.stage_strides()
        if any(side % strides[-1] for side in images.shape[1:3]):
            raise ValueError(
                f"The images are {images.shape[1]} × {images.shape[2]}; both must be multiples of "
                f"{strides[-1]}: pad them."
            )
        mean, std = (jnp.asarray(v, images.dtype) for v in (self.options.input_mean, self.options.input_std))
        running_average = not train or self.options.frozen_statistics
        inputs = (images - mean) / std
        if self.options.mean_fill:
            row, column = jnp.arange(images.shape[1])[:, None], jnp.arange(images.shape[2])
            ends = (jnp.reshape(jnp.asarray(end), (-1, 1, 1)) for end in (height, width))
            inside = (row < next(ends)) & (column < next(ends))
            inputs = jnp.where(inside[..., None], inputs, 0)
        stages: list[jax.Array] = self.backbone.stages(inputs, running_average=running_average)
        return stages

    def levels_of(self, stages: Sequence[jax.Array]) -> list[jax.Array]:
        """The pyramid levels of stages, as in `trunk`."""
        return self.pyramid(stages)

    def stage_means(self, stages: Sequence[jax.Array], boxes: jax.Array) -> list[jax.Array]:
        """Means `[b, p, channel_s]` of the last two stages over boxes `[b, p, 4]`."""
        strides = self.backbone.stage_strides()
        return [
            jax.vmap(partial(region_means, stride=stride))(stage, boxes)
            for stage, stride in zip(stages[-2:], strides[-2:], strict=True)
        ]

    def strides(self) -> tuple[int, ...]:
        """Stride of each level in pixels."""
        strides = self.backbone.stage_strides()
        return strides + tuple(strides[-1] * 2 ** (n + 1) for n in range(self.options.pyramid.extra_levels))

    def proposal_outputs(self, levels: Sequence[jax.Array]) -> ProposalOutputs:
        """Objectness and box deltas of every anchor of levels, as returned by `trunk`."""
        strides, options = self.strides(), self.options.proposals
        height, width = (side * strides[0] for side in levels[0].shape[1:3])
        of_levels = sizes_of_levels(options.sizes, len(strides))
        if options.anchors == "corners":
            cells = [(level.shape[1], level.shape[2]) for level in levels]
            anchors = corner_anchors(height, width, cells, of_levels, options.ratios)
        else:  # of each level by themselves: a level's rows lie together
            anchors = [
                pyramid_anchors(height, width, (stride,), (sizes,), options.ratios)
                for stride, sizes in zip(strides, of_levels, strict=True)
            ]
        return ProposalOutputs(*self.proposals(levels), anchors)

    def proposal_outputs_at(
        self, levels: Sequence[jax.Array], numbers: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Logits `[s]` and box deltas `[s, 4]` of some anchors of one image, for cheap gradients.

        Args:
          levels: as returned by `trunk`, without the image axis.
          numbers: indices of the anchors, int `[s]`, into the anchors of all levels.
        """
        a_place = self.proposals.anchors_a_place
        logits, deltas = self.proposals([surroundings(levels, a_place, numbers)])
        row, own = jnp.arange(len(numbers)), 4 * a_place + numbers % a_place  # at the centre of 3 × 3
        return logits[0][row, own], deltas[0][row, own]

    def propose(
        self,
        levels: Sequence[jax.Array],
        height: float | jax.Array = math.inf,
        width: float | jax.Array = math.inf,
    ) -> Proposals:
        """Proposes regions that may contain an object.

        Args:
          levels: as returned by `trunk`.
          height, width: image sizes without padding, numbers or `[b]`; by default, no padding.
        """
        return self.propose_from(self.proposal_outputs(levels), levels, height, width)

    def propose_from(
        self,
        outputs: ProposalOutputs,
        levels: Sequence[jax.Array],
        height: float | jax.Array = math.inf,
        width: float | jax.Array = math.inf,
    ) -> Proposals:
        """`propose` from the result of `proposal_outputs`."""
        stride = self.strides()[0]
        height, width = (
            jnp.minimum(side, stride * whole)
            for side, whole in zip((height, width), levels[0].shape[1:3], strict=True)
        )
        return propose(*outputs, height, width, self.options.proposals)

    def roi_features(self, levels: Sequence[jax.Array], boxes: jax.Array) -> jax.Array:
        """Features `[b, p, hidden]` of boxes `[b, p, 4]` in levels from `trunk`: RoIAlign, dense layers."""
        options, strides = self.options.rois, self.backbone.stage_strides()

        def pooled(levels: list[jax.Array], boxes: jax.Array) -> jax.Array:
            return roi_align(
                levels,
                boxes,
                strides=strides,
                output_size=options.output_size,
                samples=options.samples,
                canonical_size=options.canonical_size,
                canonical_level=options.canonical_level,
                level_tolerance=options.level_tolerance,
                aligned=options.aligned,
            )

        return self.head(jax.vmap(pooled)(list(levels[: len(strides)]), boxes))

    def embed(self, roi: jax.Array) -> jax.Array:
        """Embeddings `[..., dim]` of regions' features `[..., hidden]`."""
        return self.head.embed(roi)

    def box_changes(self, roi: jax.Array) -> jax.Array:
        """Box deltas for `refine`, `[..., 4]`; `[..., classes, 4]` if boxes are regressed per class."""
        return self.head.box_changes(roi)

    def refine(
        self,
        roi: jax.Array,
        boxes: jax.Array,
        height: float | jax.Array = math.inf,
        width: float | jax.Array = math.inf,
    ) -> jax.Array:
        """Refines boxes to fit their objects, `[..., p, 4]`; or `[..., p, classes, 4]`, per class.

        Args:
          roi: `[..., p, hidden]`.
          boxes: `[..., p, 4]`.
          height, width: limits that boxes are clipped to: numbers, or `[...]` with an axis of 1 for regions.
        """
        changes = self.head.box_changes(roi)
        if self.options.head.has_class_boxes():
            boxes = jnp.expand_dims(boxes, -2)
            height, width = (jnp.expand_dims(jnp.asarray(end), -1) for end in (height, width))
        return clip(decode(changes, boxes, BOX_WEIGHTS), height, width)

    def quality(self, roi: jax.Array) -> jax.Array:
        """Predicted IoU of each region's refined box with its object, `[...]`; 1 without such a head."""
        if not self.options.head.quality:
            return jnp.ones(roi.shape[:-1])
        return jax.nn.sigmoid(self.head.quality_logits(roi))

    def quality_logits(self, roi: jax.Array) -> jax.Array:
        """Logits of `quality`, if there is such a head."""
        return self.head.quality_logits(roi)

    def linear_logits(self, roi: jax.Array) -> jax.Array:
        """Logits `[..., 1 + classes]` of the linear classifier, background first."""
        return self.head.linear_logits(roi)
