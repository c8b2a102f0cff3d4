"""The network of a detector, as its config describes it."""

from __future__ import annotations

from dataclasses import replace

from fsljax import networks
from fsljax.detection.config import Config, ProposalOptions
from fsljax.detection.model.detector import DetectorNetwork, DetectorOptions
from fsljax.errors import UserError


def build_network(config: Config, classes: int, *, in_test: bool = False) -> DetectorNetwork:
    """The detector that a config describes.

    Args:
      config: of the experiment.
      classes: that are trained.
      in_test: keep as many proposals as are looked at in tests.

    Raises:
      UserError: if a field has a value that cannot be.
    """
    backbone = networks.build_backbone(config)
    strides = backbone.stage_strides()
    levels = len(strides) + config.pyramid.extra_levels
    proposals, network = config.proposals, config.network
    if len(proposals.sizes) % levels:
        raise UserError(
            f"config.proposals.sizes holds {len(proposals.sizes)} anchor sizes for {levels} levels of the "
            "pyramid: every level must get the same number."
        )
    if config.data.image_size % strides[-1]:
        raise UserError(
            f"config.data.image_size is {config.data.image_size}; it must be a multiple of {strides[-1]}, "
            f"the last stride of {network.name}."
        )
    with_linear = config.head.kind == "linear" or config.loss.linear
    options = DetectorOptions(
        config.pyramid,
        _in_test(proposals) if in_test else proposals,
        config.rois,
        config.head,
        linear_classes=classes if with_linear else 0,
        input_mean=tuple(network.input_mean),
        input_std=tuple(network.input_std),
        frozen_statistics=network.frozen_statistics,
        mean_fill=config.data.fill == "mean",
    )
    return DetectorNetwork(backbone, options)


def _in_test(options: ProposalOptions) -> ProposalOptions:
    before_nms = options.before_nms_in_test or options.before_nms
    return replace(options, keep=options.keep_in_test, before_nms=before_nms)
