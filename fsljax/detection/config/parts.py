"""What a detector is made of beside its backbone, as sections of its config."""

from __future__ import annotations

from dataclasses import dataclass

from fsljax.config import field
from fsljax.config.fields import MOST_IN_A_STEP, MOST_PIXELS, MOST_UNITS

ANCHORS = ("centres", "corners")
HEADS = ("repmet", "linear")


@dataclass(frozen=True)
class PyramidOptions:
    """The feature pyramid."""

    channels: int = field(256, "of each level", least=1, cap=MOST_UNITS)
    extra_levels: int = field(1, "above the backbone's stages, for proposals alone", least=0, cap=14)
    norm: bool = field(
        False, "batch norm after each convolution instead of a bias, by averages that stay as they are loaded"
    )


@dataclass(frozen=True)
class ProposalOptions:
    """How regions are proposed, and what is learned from."""

    sizes: tuple[float, ...] = field(
        (32.0, 64.0, 128.0, 256.0, 512.0), "anchors' sides in pixels, as many for every level, finest first",
        above=0, cap=1e6, empty=False,
    )  # fmt: skip
    ratios: tuple[float, ...] = field((0.5, 1.0, 2.0), "of height to width", above=0, cap=1000, empty=False)
    anchors: str = field(
        "centres", "where they lie: about the centres of a level's cells; \"corners\": about the upper left "
        "corners, their borders whole numbers, as torchvision's", choices=ANCHORS,
    )  # fmt: skip
    convolutions: int = field(1, "3×3 ones before objectness and box changes", least=1, cap=14)
    high: float = field(0.7, "an anchor is positive from this IoU on", least=0, most=1)
    low: float = field(0.3, "and negative below this one", least=0, most=1)
    sampled: int = field(256, "anchors of an image that are learned from", least=1, cap=10**6)
    positive_fraction: float = field(0.5, "largest share of positives among them", above=0, most=1)
    before_nms: int = field(1000, "boxes of best score of each level that are looked at", least=1, cap=10**6)
    iou_threshold: float = field(0.7, "two proposals overlap less", least=0, most=1)
    before_nms_in_test: int = field(0, "the same in tests; 0: as many", least=0, cap=10**6)
    score_threshold: float = field(0.0, "least probability of a proposal", least=0, most=1)
    by_level: bool = field(False, "proposals of different levels don't suppress one another")
    least_side: float = field(1.0, "pixels a side of a proposal, at least", least=0, cap=MOST_PIXELS)
    keep: int = field(300, "proposals of an image", least=1, cap=MOST_IN_A_STEP)
    keep_in_test: int = field(300, "the same in tests", least=1, cap=MOST_IN_A_STEP)


@dataclass(frozen=True)
class RoIOptions:
    """Which regions the head learns from, and how their features are pooled."""

    sampled: int = field(128, "regions of an image", least=1, cap=MOST_IN_A_STEP)
    positive_fraction: float = field(0.25, "largest share of positives among them", above=0, most=1)
    high: float = field(0.5, "a region is positive from this IoU on", least=0, most=1)
    low: float = field(0.5, "and background below this one", least=0, most=1)
    jittered: int = field(
        0,
        "regions around each true box that are added to the proposals, beside that box itself",
        least=0,
        cap=1000,
    )
    jitter: float = field(
        0.1, "by what share of its sides such a region's borders move at most", least=0, cap=1
    )
    output_size: int = field(7, "places a side that RoIAlign gives", least=1, cap=100)
    samples: int = field(2, "of RoIAlign a side in each place", least=1, cap=100)
    canonical_size: float = field(
        224.0, "pixels a side of a region that is pooled from the canonical level; one of twice the size is "
        "pooled from the next", least=1,
    )  # fmt: skip
    canonical_level: int = field(2, "0 is the finest", least=0, cap=14)
    level_tolerance: float = field(
        0.0, "levels by which a region may miss the size of the next; torchvision has 1e-6", least=0, most=1
    )
    aligned: bool = field(
        True, "cell i is centred at i + ½; False: at i, and no region is less than a cell high or wide, as "
        "in torchvision's Faster R-CNN",
    )  # fmt: skip


@dataclass(frozen=True)
class HeadOptions:
    """The head over regions."""

    kind: str = field("repmet", "representatives of the classes, or a linear layer", choices=HEADS)
    convolutions: int = field(
        0, "3×3 ones before its dense layers, with batch norm as pyramid.norm has it", least=0, cap=14
    )
    dense: int = field(2, "dense layers", choices=(1, 2))
    hidden: int = field(1024, "units of each of its dense layers", least=1, cap=MOST_UNITS)
    dim: int = field(256, "of the embedding", least=1, cap=MOST_UNITS)
    normalize: bool = field(True, "embeddings to length 1")
    quality: bool = field(
        False, "predict how well a region's box fits what it holds, as its IoU, whatever the class"
    )
    class_boxes: bool = field(False, "a linear head moves boxes for each class by itself, not for all alike")

    def has_class_boxes(self) -> bool:
        """Whether each class has boxes of its own."""
        return self.class_boxes and self.kind == "linear"
