"""In which space a detector compares, as it is asked for and as it was saved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fsljax.detection.enrolled.backbone_space import BackboneSpace, load_backbone
from fsljax.detection.enrolled.head_space import HeadSpace
from fsljax.detection.enrolled.looking import Space
from fsljax.detection.model.trained import TrainedDetector
from fsljax.errors import UserError
from fsljax.storage.array_files import read_arrays
from fsljax.storage.paths import is_there

HEAD, BACKBONE = "head", "backbone"
_DEFAULT = "efficientnet_lite0"
_KEPT = "space"


def space_of(trained: TrainedDetector, compare: str | None, weights: str | None, enrolled: Path) -> Space:
    """The space that is asked for.

    Args:
      trained: the detector.
      compare: "head" or "backbone"; None: as the classes were enrolled, "head" where there are none.
      weights: of the backbone; None: as the classes were enrolled, or EfficientNet-Lite0's.
      enrolled: file of the classes, which may not be there.

    Raises:
      UserError: there is no such space, its weights cannot be had, or the classes were enrolled in another.
    """
    if compare not in (None, HEAD, BACKBONE):
        raise UserError(f"compare is {compare!r}; it must be 'head' or 'backbone'.")
    if weights is not None and compare != BACKBONE:
        raise UserError("weights apply only to compare='backbone': give both.")
    kept = _kept(enrolled)
    there = kept is not None
    kept = kept or {}
    before = str(kept.get("compare", HEAD))
    if there and compare not in (None, before):
        raise UserError(
            f"The classes in {enrolled.parent} were enrolled with compare={before!r}: load them with "
            "that, or load the detector without classes and enrol them again."
        )
    if (compare or before) == HEAD:
        return HeadSpace(trained)
    if trained.config.data.channels != 3:
        raise UserError(
            "This detector was trained on grey drawings, and published backbones on photographs: compare "
            "with its own head."
        )
    backbone = load_backbone(str(weights or kept.get("weights") or _DEFAULT))
    if there and kept.get("digest") != backbone.digest:
        raise UserError(
            f"The classes in {enrolled.parent} were enrolled with the weights {kept.get('weights')}, not "
            f"{backbone.weights}: give those, or enrol the classes again."
        )
    return BackboneSpace(trained, backbone)


def description_of(space: Space) -> dict[str, np.ndarray]:
    """What `space_of` reads beside the classes."""
    if not isinstance(space, BackboneSpace):
        return {}
    backbone = space.backbone
    kept = {"compare": BACKBONE, "weights": backbone.weights, "digest": backbone.digest}
    return {_KEPT: np.array(json.dumps(kept))}


def _kept(enrolled: Path) -> dict[str, object] | None:
    """What was kept of the space of classes; None: there are no classes."""
    if not is_there(enrolled):
        return None
    try:
        arrays = read_arrays(enrolled)
        kept = json.loads(str(arrays[_KEPT])) if _KEPT in arrays else {}
        return dict(kept) if len(arrays["counts"]) else None
    except Exception:  # whoever reads the classes tells of damage
        return {}
